"""
The command that writes the first configuration and mappings from a live schema.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from shlex import quote as shell_quote
from tempfile import NamedTemporaryFile, TemporaryDirectory
from urllib.parse import quote

import click

from migrate.cli.context import AppContext, pass_app
from migrate.cli.options import Command, dry_run_option, json_option
from migrate.config.layers import DEFAULT_FILE, merge, of_flags
from migrate.config.section import Merged
from migrate.config.stores import redis_instance, sql_store
from migrate.errors import InvalidFiles, InvalidInput, OutputFailed, Problem, SchemaMismatch
from migrate.mapping.entities import NOT_CHOSEN, NOT_REACHED, Outline, outline
from migrate.mapping.files import SUFFIXES, load
from migrate.mapping.identifiers import table_parts
from migrate.mapping.naming import shown, yaml_text
from migrate.mapping.scaffold import Draft, draft
from migrate.model.catalogue import Catalogue, Spread, TableName, same_table
from migrate.model.events import Waiting
from migrate.model.settings import SourceConfig
from migrate.model.values import Kind, Table
from migrate.source.catalogue import read_catalogue, read_spread
from migrate.source.store import SqlSource
from migrate.stages.trial import misfits

MAPPINGS = "mappings"
"""Folder of the mappings beside the configuration."""

ANY_REDIS = "redis://127.0.0.1:6379/0"
"""What the configuration names where no Redis was given."""

ROUNDS = 100
"""Trials at most; each finds, of every row, one more column that it does not fit."""


@click.command(cls=Command)
@click.option(
    "--source", required=True, metavar="URL", help="The SQL database; never with a password."
)
@click.option("--redis", "target", metavar="URL", help="Where records go; never with a password.")
@click.option(
    "--source-password-file", metavar="FILE", help="Holds the password of the SQL database."
)
@click.option("--redis-password-file", metavar="FILE", help="Holds the password of Redis.")
@click.option(
    "--table", "tables", multiple=True, metavar="TABLE", help="A root; may be given many times."
)
@click.option(
    "--into",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(),
    metavar="FOLDER",
    help="Where to write; this folder otherwise.",
)
@dry_run_option
@json_option
@pass_app
def init(  # noqa: PLR0917 - one argument an option
    app: AppContext,
    source: str,
    target: str | None,
    source_password_file: str | None,
    redis_password_file: str | None,
    tables: tuple[str, ...],
    into: Path,
    dry_run: bool,  # noqa: FBT001 - click calls by name
) -> None:
    r"""
    Write migrate.yaml and mappings from the schema of a database, ready for a backfill.

    Reads the source and overwrites nothing. Tables that look like profiles become mappings, the
    tables that refer to them their children; --table chooses others.

    \b
    Examples:
      profile-migrate init --source sqlite:///profiles.db --redis redis://127.0.0.1:6379/0
      profile-migrate init --source postgresql://app@db/shop --source-password-file pw --dry-run
      profile-migrate init --source sqlite:///shop.db --table customers --into migration
    """
    wanted = [_table(text) for text in tables]
    stores = _Stores(source, target, source_password_file, redis_password_file)
    config = stores.read()
    if not dry_run:
        _refuse_existing(into)
    made = _scaffold(app, config, wanted)
    files = dict(stores.files(into, made))
    if not dry_run:
        _write(into, files)
    app.emit(_as_json(into, made, files if dry_run else None), _as_text(into, made, files, dry_run))
    _tell(app, made)
    if not dry_run:
        folder = "" if into == Path() else f"cd {shell_quote(str(into))} && "
        app.next_step(f"{folder}profile-migrate doctor")


def _tell(app: AppContext, made: Made) -> None:
    """
    What is left out: as a warning, but for tables that were only not chosen.
    """
    quiet = {name: why for name, why in made.left_out.items() if why in (NOT_CHOSEN, NOT_REACHED)}
    for sentence in _left_out(quiet):
        app.say(f"{sentence} `--table` makes a root of one.")
    rest = {name: why for name, why in made.left_out.items() if name not in quiet}
    for sentence in [*_left_out(rest), *made.notes]:
        app.warn(sentence)


@dataclass(frozen=True, slots=True)
class Made:
    """
    What was found and drafted.
    """

    drafts: tuple[Draft, ...]
    left_out: Mapping[TableName, str]

    @property
    def notes(self) -> list[str]:
        """
        What a person should know, each once.
        """
        return list(dict.fromkeys(note for one in self.drafts for note in one.notes))


@dataclass(frozen=True, slots=True)
class _Stores:
    """
    The stores as they were given on the command line.
    """

    source: str
    target: str | None
    source_password_file: str | None
    redis_password_file: str | None

    def read(self) -> SourceConfig:
        """
        The source; both stores are checked.

        Raises:
            InvalidFiles: Something about a URL or a file of a password is wrong.
        """
        given = {
            "source.url": self.source,
            "source.password_file": self.source_password_file,
            "redis.target.url": self.target or ANY_REDIS,
            "redis.target.password_file": self.redis_password_file,
        }
        problems: list[Problem] = []
        flags = of_flags({name: text for name, text in given.items() if text}, problems)
        merged = Merged(merge([flags]), os.environ, None, problems, {})
        config = sql_store(merged.section(("source",)))
        redis_instance(merged.section(("redis", "target")))
        if problems or config is None:
            raise InvalidFiles(list(dict.fromkeys(problems)))
        return config

    def files(self, into: Path, made: Made) -> Iterator[tuple[Path, str]]:
        """
        Every file with its text.
        """
        yield Path(DEFAULT_FILE), "\n".join([*self._lines(into, made.left_out), ""])
        for one in made.drafts:
            yield Path(MAPPINGS) / f"{one.name}.yaml", one.text

    def _lines(self, into: Path, left_out: Mapping[TableName, str]) -> Iterator[str]:
        yield "# Made by `profile-migrate init`."
        yield "version: 1"
        yield "source:"
        yield f"  url: {yaml_text(self._source_url(into))}"
        if self.source_password_file:
            yield f"  password_file: {yaml_text(_beside(into, self.source_password_file))}"
        yield "redis:"
        yield "  target:"
        unknown = "" if self.target else "  # not said to init: correct it"
        yield f"    url: {yaml_text(self.target or ANY_REDIS)}{unknown}"
        if self.redis_password_file:
            yield f"    password_file: {yaml_text(_beside(into, self.redis_password_file))}"
        if left_out:
            yield ""
            yield "# Tables without a mapping:"
        for name, why in left_out.items():
            yield f"#   {shown(str(name))}: {why}"

    def _source_url(self, into: Path) -> str:
        scheme, _, rest = self.source.partition("://")
        if not scheme.lower().startswith("sqlite"):
            return self.source
        path, mark, options = rest.partition("?")
        config = self.read()
        return f"{scheme}:///{quote(_beside(into, config.database or path))}{mark}{options}"


def _beside(into: Path, path: str) -> str:
    """
    A path for a file in this folder: relative where it is below it, else from the root.
    """
    # Not resolve(): it follows links, and the user named the link.
    whole = Path(os.path.abspath(path))  # noqa: PTH100
    folder = Path(os.path.abspath(into))  # noqa: PTH100
    return str(whole.relative_to(folder) if whole.is_relative_to(folder) else whole)


def _table(text: str) -> TableName:
    try:
        return TableName(*table_parts(text))
    except ValueError as error:
        raise InvalidInput(
            f"This is no name of a table: {error}",
            where={"option": "--table"},
            next_step='Write table, schema.table or \'"My Schema"."My Table"\'.',
        ) from None


def _scaffold(app: AppContext, config: SourceConfig, wanted: Sequence[TableName]) -> Made:
    def tell(waiting: Waiting) -> None:
        app.say(f"Waiting for the {waiting.store}: {waiting.reason}.")

    with closing(SqlSource.open(config, tell)) as source:
        catalogue = read_catalogue(source.connections, wanted)
        roots = [_root(name, catalogue) for name in wanted]
        found = outline(catalogue, roots)
        _require(found, roots)
        return _tried(source, catalogue, found)


def _root(name: TableName, catalogue: Catalogue) -> TableName:
    known = [TableName(table.schema, table.name) for table in catalogue.tables]
    found = same_table(name, known, catalogue.default_schema)
    if found is not None:
        return found
    why = catalogue.unusable.get(name, "there is no such table")
    raise InvalidInput(
        f"The table cannot be a root: {why}.",
        where={"table": shown(str(name))},
        next_step="Name another one by --table, or leave it out to see what init would choose.",
    )


def _require(found: Outline, roots: Sequence[TableName]) -> None:
    for root in roots:
        if root in found.left_out:
            raise InvalidInput(
                f"The table cannot be a root: {found.left_out[root]}.",
                where={"table": shown(str(root))},
                next_step="Give it a primary key of integers, text, uuid or dates.",
            )
    if not found.entities:
        reasons = "; ".join(_left_out(found.left_out)) or "it has no tables"
        raise InvalidInput(
            "No table of the source can become a mapping.",
            where={"reason": reasons},
            next_step="Check the database in the URL, and which tables this user may read.",
        )


def _tried(source: SqlSource, catalogue: Catalogue, found: Outline) -> Made:
    """
    Drafts that fit the rows: a column that some row does not fit is written as text, or left out.
    """
    spreads: dict[tuple[TableName, tuple[str, ...]], Spread | None] = {}

    def look(table: Table, columns: Sequence[str]) -> Spread | None:
        asked = _name(table), tuple(columns)
        if asked not in spreads:
            spreads[asked] = read_spread(source.connections, table, columns)
        return spreads[asked]

    corrections: dict[tuple[TableName, str], str] = {}
    left_out = dict(found.left_out)
    entities = found.entities
    for _ in range(ROUNDS):
        drafts = [draft(entity, look, corrections, catalogue.default_schema) for entity in entities]
        wrong = set(_wrong(source, drafts, left_out))
        entities = tuple(e for e in entities if _name(e.table) not in left_out)
        drafts = [one for one in drafts if one.table not in left_out]
        keys = {(_name(e.table), column) for e in entities for column in e.key}
        dropped = {place for place, form in corrections.items() if form == "drop"}
        wrong -= keys | dropped
        if not wrong:
            break
        for place in wrong:
            as_text = place not in corrections and not _is_bytes(catalogue, place)
            corrections[place] = "text" if as_text else "drop"
    return Made(tuple(drafts), left_out)


def _name(table: Table) -> TableName:
    return TableName(table.schema, table.name)


def _is_bytes(catalogue: Catalogue, place: tuple[TableName, str]) -> bool:
    table = next((one for one in catalogue.tables if _name(one) == place[0]), None)
    column = table.column(place[1]) if table else None
    return column is not None and column.kind is Kind.BYTES


def _wrong(
    source: SqlSource, drafts: Sequence[Draft], left_out: dict[TableName, str]
) -> Iterator[tuple[TableName, str]]:
    """
    Columns that rows do not fit; a draft that does not fit its own table is left out.
    """
    if not drafts:
        return
    with TemporaryDirectory(prefix="profile-migrate-") as folder:
        for one in drafts:
            Path(folder, f"{one.name}.yaml").write_text(one.text, encoding="utf-8")
        mappings = load(Path(folder))
    for one in drafts:
        try:
            yield from misfits(source, mappings[one.name])
        except SchemaMismatch as mismatch:
            left_out[one.table] = mismatch.problems[0].message.rstrip(".")


def _left_out(tables: Mapping[TableName, str]) -> Iterator[str]:
    """
    One sentence a reason, three examples each.
    """
    reasons: dict[str, list[str]] = {}
    for name, why in tables.items():
        reasons.setdefault(why, []).append(shown(str(name)))
    for why, names in reasons.items():
        more = f" and {len(names) - 3:,} more" if len(names) > 3 else ""
        yield f"Left out, because {why}: {', '.join(names[:3])}{more}."


# Files


def _refuse_existing(into: Path) -> None:
    """
    Nothing that is there is overwritten or added to.

    Raises:
        InvalidInput: With every file that is in the way.
    """
    there = [path for path in (into / DEFAULT_FILE,) if os.path.lexists(path)]
    # A folder that cannot be listed cannot be written to, which says more.
    with suppress(OSError):
        there += sorted(path for path in (into / MAPPINGS).iterdir() if path.suffix in SUFFIXES)
    if there:
        raise InvalidInput(
            "There is a configuration already, and nothing of it is overwritten.",
            where={"files": ", ".join(map(str, there))},
            next_step="Name another folder by --into, or see what would be written by --dry-run.",
        )


def _write(into: Path, files: Mapping[Path, str]) -> None:
    """
    All files or none of them, each whole from its first moment on.
    """
    done: list[Path] = []
    try:
        for path, text in files.items():
            place = into / path
            place.parent.mkdir(parents=True, exist_ok=True)
            _link(place, text)
            done.append(place)
    except OSError as exc:
        for place in done:
            place.unlink(missing_ok=True)
        raise OutputFailed(
            "The files could not be written; none of them is there.",
            where={
                "path": exc.filename2 or exc.filename or str(into),
                "reason": errno.errorcode.get(exc.errno or 0, "unknown"),
            },
            next_step="Make room or name another folder by --into, and run the command again.",
        ) from None


def _link(place: Path, text: str) -> None:
    # A link, unlike a rename, never replaces what came there meanwhile.
    with NamedTemporaryFile("w", encoding="utf-8", dir=place.parent, prefix=".init-") as draft_file:
        draft_file.write(text)
        draft_file.flush()
        os.fsync(draft_file.fileno())
        os.chmod(draft_file.name, 0o644)  # noqa: PTH101
        os.link(draft_file.name, place)


# The answer


def _as_json(into: Path, made: Made, texts: Mapping[Path, str] | None) -> dict[str, object]:
    return {
        "folder": str(into),
        "dry_run": texts is not None,
        "files": [str(path) for path in _paths(into, made)],
        "mappings": [
            {
                "name": one.name,
                "table": str(one.table),
                "children": list(one.children),
                "lookups": list(one.lookups),
            }
            for one in made.drafts
        ],
        "left_out": [{"table": str(name), "reason": why} for name, why in made.left_out.items()],
        "notes": made.notes,
        "texts": texts and {str(into / path): text for path, text in texts.items()},
    }


def _paths(into: Path, made: Made) -> Iterator[Path]:
    yield into / DEFAULT_FILE
    for one in made.drafts:
        yield into / MAPPINGS / f"{one.name}.yaml"


def _as_text(into: Path, made: Made, files: Mapping[Path, str], dry_run: bool) -> str:  # noqa: FBT001
    if dry_run:
        return "\n".join(f"--- {into / path}\n{text}" for path, text in files.items())
    return "\n".join(
        [
            f"{into / DEFAULT_FILE}: the configuration.",
            *(
                f"{into / MAPPINGS / one.name}.yaml: '{one.name}' of {shown(str(one.table))}"
                f"{_with('children', one.children)}{_with('lookups', one.lookups)}."
                for one in made.drafts
            ),
        ]
    )


def _with(what: str, names: Sequence[str]) -> str:
    return f", {what} {', '.join(names)}" if names else ""
