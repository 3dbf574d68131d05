"""
`profile-migrate demo`: runs the real commands on sample data, then lets an independent judge look.

It only arranges and shows. The commands are child processes, as a user would start them, and the
verdict is `compare`'s, which shares no code with them.
"""

from __future__ import annotations

import os
import shlex
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import click

import migrate
from migrate.cli.context import PROGRAM, AppContext, pass_app
from migrate.cli.demo.compare import FIELDS, Comparison, compare
from migrate.cli.demo.resp import Connection
from migrate.cli.demo.sample import IMMOVABLE, TABLE, Sample, write_sample
from migrate.cli.demo.server import PrivateRedis, find_redis_server
from migrate.cli.options import Command
from migrate.cli.signals import terminate
from migrate.errors import ExitCode, MigrateError, UsageProblem
from migrate.ops.tables import human_duration, table

MAPPING = "user_profiles"
DATABASE = "profiles.db"
WORKERS = 2
FEWEST_ROWS = 200
"""With fewer, some awkward values would not come up."""

END_S = 10.0
"""How long a command may take to end when the demo is interrupted."""

SHOWN = ("👩‍👩‍👧‍👦 the Family", "محمد عبد الله", "Zoe\u0308")
"""Names of the profiles that people are shown; of several, one with an empty string and NULLs."""

WIDEST = 38
"""Characters of a value that are shown."""

EXAMPLES_SHOWN = 10
"""Differences that are shown; all of them are counted."""


@dataclass(frozen=True, slots=True)
class Step:
    """
    One command of the tool, why it is run, and how it has to end.
    """

    words: tuple[str, ...]
    why: str
    exits: ExitCode = ExitCode.DONE

    def __str__(self) -> str:
        return shlex.join([PROGRAM, *self.words])


@click.command(cls=Command)
@click.option(
    "--rows",
    type=click.IntRange(min=FEWEST_ROWS),
    default=10_000,
    show_default=True,
    help="Profiles to make up.",
)
@click.option("--seed", type=int, default=1, show_default=True, help="Another seed, other rows.")
@click.option(
    "--with-rejects/--without-rejects",
    default=True,
    show_default=True,
    help="Plant three rows that cannot be moved.",
)
@click.option(
    "--keep",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="FOLDER",
    help="Work in this new folder and leave the files there.",
)
@pass_app
def demo(app: AppContext, rows: int, seed: int, with_rejects: bool, keep: Path | None) -> int:  # noqa: FBT001
    """
    Move made-up profiles from SQLite into a private Redis and compare every one of them.

    Needs no server and no configuration; nothing of yours is read or written. The Redis that it
    starts ends with it, and no file is left unless asked for.

    \b
    Examples:
      profile-migrate demo
      profile-migrate demo --rows 50000 --without-rejects --keep demo-files
    """  # noqa: D301 - click wants the character, not its spelling
    begin = monotonic()
    # Before anything is written: without a server there is no demo.
    find_redis_server()
    with ExitStack() as stack:
        stack.enter_context(_ended_by_a_hangup())
        folder = stack.enter_context(_folder(keep))
        app.write(_title("A sample"))
        sample = write_sample(folder / DATABASE, rows=rows, seed=seed, with_rejects=with_rejects)
        redis = stack.enter_context(
            PrivateRedis(append_only=True, settings={"maxmemory": f"{256 + rows // 250}mb"})
        )
        _write_files(folder, redis)
        app.write(_introduction(sample, redis, folder))
        for step in _steps(sample):
            app.write(_title(step.why) + f"$ {step}")
            _run(step, folder)
        with redis.connect() as connection:
            app.write(_title("Some profiles, read back through Redis"))
            app.write(_side_by_side(sample, connection))
            app.write(
                _title("Every row against its record, by code that the writer does not share")
            )
            found = compare(sample.path, connection, immovable=sample.immovable.values())
        app.write(_verdict(sample, found))
    app.write(_farewell(monotonic() - begin, keep))
    return ExitCode.DIFFERENCES if found.differences else ExitCode.DONE


def _steps(sample: Sample) -> tuple[Step, ...]:
    moved = ExitCode.DIFFERENCES if sample.immovable else ExitCode.DONE
    left = f" (exit {moved:d}: some rows cannot move)" if sample.immovable else ""
    backfill = ("backfill", MAPPING, "--workers", str(WORKERS))
    return (
        Step(("mapping", "lint"), "Is the mapping sound?"),
        Step(("doctor",), "Are both stores ready?"),
        Step(("plan", MAPPING), "What would happen?"),
        Step(backfill, f"Copy the rows{left}", moved),
        Step(("status",), "Where do we stand?"),
        Step(("rejects", "list", MAPPING), f"Which rows could not move, and why?{left}", moved),
    )


# --- the stage ----------------------------------------------------------------------------------


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    """
    A folder for the demo's files: the user's new one, or one that disappears.
    """
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="profile-migrate-demo-") as name:
            yield Path(name)
        return
    try:
        keep.mkdir(parents=True, exist_ok=True)
        if any(keep.iterdir()):
            raise FileExistsError
    except OSError:
        raise UsageProblem(
            "The folder for the demo's files has to be new or empty, and ours to write.",
            where={"folder": keep},
            next_step="Name another folder with --keep, or leave it out.",
        ) from None
    yield keep.resolve()


@contextmanager
def _ended_by_a_hangup() -> Iterator[None]:
    """
    A terminal that is closed ends the demo like Ctrl-C does, so that its server ends too.
    """
    before = signal.signal(signal.SIGHUP, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)


def _write_files(folder: Path, redis: PrivateRedis) -> None:
    mappings = folder / "mappings"
    mappings.mkdir()
    carried = Path(__file__).with_name("user_profiles.yaml").read_text(encoding="utf-8")
    (mappings / "user_profiles.yaml").write_text(carried, encoding="utf-8")
    (folder / "migrate.yaml").write_text(
        "version: 1\n"
        f'source: {{url: "sqlite:///{DATABASE}"}}\n'
        "redis:\n"
        f'  target: {{url: "{redis.url}", password_file: redis-password}}\n'
        "mappings: mappings/\n"
    )
    password = folder / "redis-password"
    password.touch(mode=0o600)
    password.write_text(redis.password)


def _run(step: Step, folder: Path) -> None:
    """
    Run one command as a user would, in the demo's folder, and see that it ends as it should.

    Raises:
        MigrateError: It ended otherwise.
    """
    child = subprocess.Popen(
        [sys.executable, "-m", "migrate", *step.words],
        cwd=folder,
        env=_environment(os.environ),
        stdin=subprocess.DEVNULL,
    )
    try:
        code = child.wait()
    except BaseException:
        child.terminate()
        try:
            child.wait(END_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        raise
    if code != step.exits:
        raise MigrateError(
            "A command of the demo ended in another way than it should.",
            where={"command": step, "exit_code": code, "expected": int(step.exits)},
            next_step="Read what it said above; --keep FOLDER leaves its files to look at.",
        )


def _environment(given: Mapping[str, str]) -> dict[str, str]:
    """
    The user's environment without this tool's variables, which would point at real stores.
    """
    kept = {name: value for name, value in given.items() if "PROFILE_MIGRATE" not in name}
    # The same code as ours, installed or not.
    paths = [str(Path(migrate.__file__).parent.parent), given.get("PYTHONPATH", "")]
    return kept | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}


# --- the words ----------------------------------------------------------------------------------


def _title(text: str) -> str:
    return f"\n--- {text} ---\n"


def _introduction(sample: Sample, redis: PrivateRedis, folder: Path) -> str:
    lines = [
        f"{sample.rows:,} made-up profiles in SQLite: emoji, right-to-left text, NULL beside",
        "empty strings, decimals, integers around 2^53 and 2^63, time zones, JSON, bytes.",
        f"{sample.deleted:,} of them are deleted softly; the mapping leaves those out.",
    ]
    if sample.immovable:
        lines.append(f"{len(sample.immovable)} are planted that no record can hold:")
        lines += [
            f"  id={identity}: {IMMOVABLE[column][1]} ({column})"
            for column, identity in sample.immovable.items()
        ]
    lines += [
        f"A private Redis at {redis.url}, process {redis.pid}.",
        f"Files in {folder}.",
    ]
    return "\n".join(lines)


def _side_by_side(sample: Sample, connection: Connection) -> str:
    return "\n\n".join(_one_side_by_side(row, connection) for row in _rows_to_show(sample))


def _rows_to_show(sample: Sample) -> list[sqlite3.Row]:
    source = sqlite3.connect(f"{sample.path.resolve().as_uri()}?mode=ro", uri=True)
    source.row_factory = sqlite3.Row
    columns = (column for column, _ in FIELDS.values())
    gaps = " + ".join(f"({column} IS NULL)" for column in columns)
    # What is not UTF-8 would stop this reading too; planted rows are shown by `rejects list`.
    planted = ", ".join(map(str, sample.immovable.values()))
    query = (
        f"SELECT * FROM {TABLE} WHERE deleted_at IS NULL AND display_name = ? "
        f"AND id NOT IN ({planted}) "
        f"ORDER BY (locale IS '' OR bio IS '') DESC, {gaps} DESC, id LIMIT 1"
    )
    try:
        found = (source.execute(query, (name,)).fetchone() for name in SHOWN)
        return [row for row in found if row is not None]
    finally:
        source.close()


def _one_side_by_side(row: sqlite3.Row, connection: Connection) -> str:
    key = f"profile:{row['id']}"
    lines = [
        (
            name,
            _shown(row[column], "(NULL)"),
            _shown(connection.call("HGET", key, name), "(no field)"),
        )
        for name, (column, _) in FIELDS.items()
    ]
    return f"{key}\n" + table(("field", "in SQL", "in Redis"), lines, align="lll")


def _shown(value: object, absent: str) -> str:
    match value:
        case None:
            return absent
        case "" | b"":
            return "(empty)"
        case bytes():
            text = _text(value)
        case _:
            text = str(value)
    return text if len(text) <= WIDEST else f"{text[: WIDEST - 1]}…"


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return f"x'{value.hex()}'"


def _verdict(sample: Sample, found: Comparison) -> str:
    counted = (
        f"{found.rows:,} rows that the mapping lets through, {found.records:,} records, "
        f"{found.fields:,} values compared."
    )
    if found.differences:
        examples = [f"  {one}" for one in found.differences[:EXAMPLES_SHOWN]]
        return "\n".join(
            [counted, *examples, f"DIFFERENT: {_count(len(found.differences), 'difference')}."]
        )
    lines = [counted, "EQUAL: no record is missing, too much, or different."]
    if sample.immovable:
        lines[1:1] = [f"{len(sample.immovable)} planted rows have no record, as they should."]
    return "\n".join(lines)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _farewell(seconds: float, keep: Path | None) -> str:
    left = f"its files are in {keep}" if keep else "its files are deleted"
    return f"\nDone in {human_duration(seconds)}. The private Redis has ended, and {left}."
