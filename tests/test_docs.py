"""
The documents tell the truth: codes, commands, options, metrics, links, words.

What a sentence means is for a reader to check; here every name in it is.
"""

from __future__ import annotations

import ast
import importlib
import json
import pkgutil
import re
import shlex
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from ruamel.yaml import YAML

import migrate
from migrate.cli.backfill import _as_json
from migrate.cli.lazy import LazyCommand
from migrate.config.schema import json_schema
from migrate.errors import ExitCode, MigrateError
from migrate.mapping.compile import compile_mapping
from migrate.mapping.files import load
from migrate.mapping.schema import json_schema as mapping_schema
from migrate.model.values import Chunk, Column, Kind, Table
from migrate.ops.collector import SERVED
from migrate.ops.metrics import FAMILIES
from migrate.workers.backfill import Report

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
README = ROOT / "README.md"
PROGRAM = "profile-migrate"
PAGES = sorted(
    [*ROOT.glob("*.md"), *DOCS.rglob("*.md"), *(ROOT / "runbooks").rglob("*.md")],
)
GUIDES = [page for page in PAGES if page == README or page.parent == DOCS]
TO_COME = "to come"
"""A table row or heading with these words speaks of something that does not exist yet."""

WORDS = (
    "source", "target", "ledger", "authority", "mapping", "row", "entity", "cell", "codec",
    "record", "key", "record key", "version", "generation", "digest", "fingerprint", "tombstone",
    "run", "backfill", "partition", "chunk", "batch", "cursor", "checkpoint", "apply", "fence",
    "epoch", "lock", "throttle", "plan", "dry run", "reject", "collision", "conflict", "stale",
    "change", "sync", "lag", "verify", "verdict", "mismatch", "repair", "stage", "gate",
    "dual write", "shadow read", "ramp", "cut-over", "rollback", "complete",
)  # fmt: skip
"""What the glossary must explain: the architecture's words and those that this version adds."""

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))


# --- what there is -------------------------------------------------------------------------------


def program() -> click.Group:
    """
    The command line as it is.
    """
    return importlib.import_module("migrate.cli.main").cli


def loaded(group: click.Group, name: str) -> click.Command:
    """
    A command of a group, imported where the group only has a line of a table for it.
    """
    command = group.get_command(click.Context(group), name)
    assert command is not None
    return command.load() if isinstance(command, LazyCommand) else command


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """
    The path of every command that does something, such as ("mapping", "lint").
    """
    for name in group.list_commands(click.Context(group)):
        command = loaded(group, name)
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name)


def leaf(path: tuple[str, ...]) -> click.Command:
    """
    The command at a path.
    """
    command: click.Command = program()
    for name in path:
        assert isinstance(command, click.Group)
        command = loaded(command, name)
    return command


def parse(arguments: list[str]) -> None:
    """
    Parse a command line up to the callback, which is not called.

    Raises:
        click.UsageError: No such command, option or number of arguments.
    """
    context: click.Context | None = None
    command: click.Command = program()
    name: str | None = PROGRAM
    try:
        while True:
            context = command.make_context(name, arguments, parent=context)
            if not isinstance(context.command, click.Group):
                return
            rest = [*context._protected_args, *context.args]
            name, found, arguments = context.command.resolve_command(context, rest)
            assert found is not None
            command = found
    except click.exceptions.Exit:
        return  # --help and --version end early


def codes() -> dict[str, type[MigrateError]]:
    """
    Every error of the program by its code, wherever it is defined.
    """
    for module in pkgutil.walk_packages(migrate.__path__, "migrate."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    found: dict[str, type[MigrateError]] = {}
    waiting = [MigrateError]
    while waiting:
        kind = waiting.pop()
        if "code" in vars(kind):  # otherwise it is shown as its base
            first = found.setdefault(kind.code, kind)
            assert first is kind, f"{first.__name__} and {kind.__name__} have one code"
        waiting += [k for k in kind.__subclasses__() if k.__module__.startswith("migrate.")]
    return found


def blocks(page: Path, language: str) -> Iterator[tuple[int, str]]:
    """
    The fenced blocks of a page in one language, each with the number of its first line.
    """
    text = page.read_text(encoding="utf-8")
    for block in re.finditer(
        rf"^```{language}\b[^\n]*\n(.*?)^```$", text, re.MULTILINE | re.DOTALL
    ):
        yield text[: block.start(1)].count("\n") + 1, block.group(1)


def shown_commands(page: Path) -> Iterator[tuple[str, list[str]]]:
    """
    Where, and with which arguments, a page shows our program in a console block.
    """
    for first, block in blocks(page, "console"):
        joined = block.replace("\\\n", " ")
        for offset, line in enumerate(joined.splitlines()):
            if line.startswith("$ "):
                yield from _calls(f"{page.name}:{first + offset}", line[2:])


def _calls(at: str, line: str) -> Iterator[tuple[str, list[str]]]:
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    call: list[str] = []
    for token in [*lexer, ";"]:
        if set(token) <= set("();<>|&"):
            while call and re.fullmatch(r"\w+=.*", call[0]):
                call.pop(0)
            if call and call[0] == PROGRAM:
                yield at, call[1:]
            call = []
        else:
            call.append(token)


def inline_commands(page: Path) -> Iterator[tuple[str, list[str]]]:
    """
    The same for code within sentences, rows about things to come left out.
    """
    below = ""
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        if line.startswith("#"):
            below = line
        if TO_COME in line or TO_COME in below:
            continue
        for code in re.findall(rf"`{PROGRAM} ([^`]+)`", line):
            yield f"{page.name}:{number}", shlex.split(code)


def tracked_files() -> list[Path]:
    """
    The files of the project, or everything below it where there is no git.
    """
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if listed.returncode == 0:
        names = [name for name in listed.stdout.decode().split("\0") if name]
    else:
        hidden = re.compile(r"(^|/)(\.(?!ci|github)|__pycache__)")
        paths = (str(path.relative_to(ROOT)) for path in ROOT.rglob("*"))
        names = [name for name in paths if not hidden.search(name)]
    return [ROOT / name for name in names if (ROOT / name).is_file()]


# --- errors --------------------------------------------------------------------------------------


def test_every_error_code_has_its_section() -> None:
    """
    docs/errors.md has a section for each code of the program and for nothing else.
    """
    text = (DOCS / "errors.md").read_text(encoding="utf-8").partition("\n# Codes\n")[2]

    sections = re.findall(r"^## (.+)$", text, re.MULTILINE)

    assert len(sections) == len(set(sections))
    assert set(sections) == set(codes())


def test_every_section_names_its_exit_code() -> None:
    """
    The section of a code begins with the exit code that the program really gives.
    """
    text = (DOCS / "errors.md").read_text(encoding="utf-8")
    stated = dict(re.findall(r"^## (\S+)\n\nExit (\d+)", text, re.MULTILINE))

    real = {code: str(int(kind.exit_code)) for code, kind in codes().items()}

    assert stated == real


@pytest.mark.parametrize("page", ["README.md", "docs/errors.md"])
def test_every_exit_code_is_listed(page: str) -> None:
    """
    The README and docs/errors.md list every exit code and no other.
    """
    text = (ROOT / page).read_text(encoding="utf-8").partition("xit code")[2]

    listed = re.findall(r"^\| (\d+) \|", text, re.MULTILINE)

    assert listed == [str(int(code)) for code in ExitCode]


# --- commands ------------------------------------------------------------------------------------


def test_every_command_is_documented() -> None:
    """
    Each command is named in the README or in a guide.
    """
    text = "\n".join(page.read_text(encoding="utf-8") for page in GUIDES)

    missing = [path for path in commands(program()) if f"{PROGRAM} {' '.join(path)}" not in text]

    assert missing == []


def test_every_option_is_documented() -> None:
    """
    Each long option of each command stands in docs/commands.md below its command.
    """
    text = (DOCS / "commands.md").read_text(encoding="utf-8")
    assert text == command_reference(), "run: python -m tests.test_docs"


def command_reference() -> str:
    """
    docs/commands.md as it must be: each command with its arguments and options.
    """
    head = (
        "# Commands\n\n"
        "Every command with its options; `--help` of a command says more.\n"
        "The page is generated (`python -m tests.test_docs`) and checked by a test.\n"
    )
    return "\n".join([head, *(_reference(path) for path in [(), *commands(program())])])


def _reference(path: tuple[str, ...]) -> str:
    command = leaf(path)
    arguments = [param for param in command.params if isinstance(param, click.Argument)]
    options = [param for param in command.params if isinstance(param, click.Option)]
    call = " ".join([PROGRAM, *path, *(f"{a.human_readable_name.upper()}" for a in arguments)])
    first = (command.help or "").replace("\b", "").strip().partition("\n\n")[0]
    lines = [f"## {' '.join((PROGRAM, *path))}", "", f"`{call}`", "", " ".join(first.split()), ""]
    shown = [option for option in options if not option.hidden]
    if shown:
        lines += ["| Option | Meaning |", "| --- | --- |"]
        lines += [
            f"| {_names(option)} | {' '.join((option.help or '').split())} |" for option in shown
        ]
        lines.append("")
    return "\n".join(lines)


def _names(option: click.Option) -> str:
    names = [*option.opts, *option.secondary_opts]
    takes = "" if option.is_flag or option.count else " " + (option.metavar or "VALUE").upper()
    return ", ".join(f"`{name}{takes}`" for name in names)


BEGIN, END = "<!-- reference: begin -->", "<!-- reference: end -->"


def test_every_setting_is_documented() -> None:
    """
    docs/configuration.md lists every key of migrate.yaml with its default, and no other.
    """
    text = (DOCS / "configuration.md").read_text(encoding="utf-8")

    found = text.partition(BEGIN)[2].partition(END)[0].strip()

    assert found == configuration_reference(), "run: python -m tests.test_docs"


def configuration_reference() -> str:
    """
    The tables of docs/configuration.md as they must be.
    """
    schema = json_schema()
    sections = {
        "source, ledger": "StoreSection",
        "redis.NAME": "RedisSection",
        "redis.NAME.tls": "TlsSection",
        "throttle": "ThrottleSection",
        "gates": "GatesSection",
    }
    parts = [_keys("The file", schema)]
    parts += [_keys(f"`{title}`", schema["$defs"][name]) for title, name in sections.items()]
    return "\n\n".join(parts)


def _keys(title: str, section: dict[str, Any]) -> str:
    lines = [f"### {title}", "", "| Key | Default | Meaning |", "| --- | --- | --- |"]
    for key, about in section["properties"].items():
        default = about.get("default")
        shown = "" if default is None else f"`{str(default).lower()}`"
        lines.append(f"| `{key}` | {shown} | {about['description']} |")
    return "\n".join(lines)


def test_every_key_of_a_mapping_is_documented() -> None:
    """
    docs/mapping.md lists every key of the mapping language with its default, and no other.
    """
    text = (DOCS / "mapping.md").read_text(encoding="utf-8")

    found = text.partition(BEGIN)[2].partition(END)[0].strip()

    assert found == mapping_reference(), "run: python -m tests.test_docs"


def mapping_reference() -> str:
    """
    The table of docs/mapping.md as it must be: path, meaning, default and example of each key.
    """
    schema = mapping_schema()
    lines = ["| Key | Meaning | Default | Example |", "| --- | --- | --- | --- |"]
    for path, *rest in _described(schema, schema, ""):
        lines.append(f"| `{path}` | {' | '.join(rest)} |")
    return "\n".join(lines)


_NAME_OF = {"fields": "NAME", "children": "NAME", "lookups": "NAME", "columns": "MEMBER"}
"""What stands in a path for the names that a mapping gives."""


def _described(
    schema: dict[str, Any], node: dict[str, Any], path: str
) -> Iterator[tuple[str, str, str, str]]:
    for key, about in node.get("properties", {}).items():
        here = f"{path}{key}"
        yield here, about["description"], _default(node, key, about), _example(key, about)
        inside = list(_sections(schema, about))
        for named, section in inside:
            if "properties" not in section:
                continue
            below = f"{here}.{_NAME_OF[key]}" if named else here
            # Collections inside of a collection are the same again.
            if not (named and key == "children" and "children." in path):
                yield from _described(schema, section, f"{below}.")


def _sections(
    schema: dict[str, Any], node: dict[str, Any]
) -> Iterator[tuple[bool, dict[str, Any]]]:
    """
    The sections that may stand at a node, and whether under a name that the mapping gives.
    """
    if "$ref" in node:
        node = schema["$defs"][node["$ref"].rpartition("/")[2]]
    if "properties" in node:
        yield False, node
    for option in (*node.get("anyOf", ()), *node.get("oneOf", ())):
        yield from _sections(schema, option)
    named = node.get("additionalProperties")
    for _, section in _sections(schema, named) if isinstance(named, dict) else ():
        yield True, section


def _default(node: dict[str, Any], key: str, about: dict[str, Any]) -> str:
    if key in node.get("required", ()):
        return "required"
    default = about.get("default")
    return "" if default is None or isinstance(default, dict) else f"`{_in_yaml(default)}`"


def _example(key: str, about: dict[str, Any]) -> str:
    examples = about.get("examples")
    return f"`{key}: {_in_yaml(examples[0])}`" if examples else ""


def _in_yaml(value: object) -> str:
    """
    A value as a mapping spells it in one line.
    """
    if isinstance(value, dict):
        return f"{{{', '.join(f'{name}: {_in_yaml(one)}' for name, one in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_in_yaml, value))}]"
    if isinstance(value, str) and not re.fullmatch(r"[\w.]+", value):
        return json.dumps(value)
    return value if isinstance(value, str) else json.dumps(value)


@each_page
def test_shown_commands_parse(page: Path) -> None:
    """
    Each call of the program in a console block is one that it takes.
    """
    for at, arguments in shown_commands(page):
        try:
            parse(arguments)
        except click.ClickException as refused:
            pytest.fail(f"{at}: {PROGRAM} {' '.join(arguments)}: {refused.format_message()}")


@pytest.mark.parametrize(
    "page", [page for page in GUIDES if page.name != "commands.md"], ids=lambda p: p.name
)
def test_commands_in_sentences_parse(page: Path) -> None:
    """
    Each call of the program within a sentence is one that it takes, unless it is to come.
    """
    for at, arguments in inline_commands(page):
        try:
            parse(arguments)
        except click.MissingParameter:
            continue  # a sentence may name a command without its arguments
        except click.ClickException as refused:
            pytest.fail(f"{at}: {PROGRAM} {' '.join(arguments)}: {refused.format_message()}")


def test_commands_in_messages_exist() -> None:
    """
    A command that an error or a hint tells a person to run is one of the program's.
    """
    known = {path[:n] for path in commands(program()) for n in range(1, len(path) + 1)}
    wrong = []
    for path in sorted((ROOT / "migrate").rglob("*.py")):
        for text in _texts(ast.parse(path.read_text(encoding="utf-8"))):
            for named in re.findall(rf"(?:^|[:;`] ?|run ){PROGRAM} ([a-z]+(?: [a-z]+)?)", text):
                words = tuple(named.split())
                if words not in known and words[:1] not in known:
                    wrong.append(f"{path.relative_to(ROOT)}: {named}")

    assert wrong == []


def _texts(tree: ast.AST) -> Iterator[str]:
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        is_text = isinstance(node, ast.Constant) and isinstance(node.value, str)
        if is_text and id(node) not in docstrings:
            yield node.value


def test_first_command_of_the_readme_comes_early() -> None:
    """
    A reader sees a whole example within the first hundred words of the README.
    """
    before = README.read_text(encoding="utf-8").partition("```console")[0]

    assert len(before.split()) <= 100


def test_readme_is_short() -> None:
    """
    The README has 700 words at most.
    """
    assert len(README.read_text(encoding="utf-8").split()) <= 700


# --- the JSON contract, the metrics, the schemas -------------------------------------------------


def test_every_metric_is_documented() -> None:
    """
    docs/monitoring.md lists every metric of each way, with its labels and type, and no other.
    """
    text = (DOCS / "monitoring.md").read_text(encoding="utf-8")

    served, file = text.split("## The text file")
    for part, families in ((served, SERVED), (file, FAMILIES)):
        listed = {
            name: (kind, tuple(labels.split(",")) if labels else ())
            for name, labels, kind in re.findall(
                r"^\| `(profile_migrate_\w+)(?:\{(.*?)\})?` \| (\w+) \|", part, re.MULTILINE
            )
        }
        assert listed == {name: (one.kind, one.labels) for name, one in families.items()}


def test_metrics_in_alerts_exist() -> None:
    """
    Each metric that an alert rule uses is one that the program writes.
    """
    used = set()
    for _, block in blocks(DOCS / "monitoring.md", "yaml"):
        used |= set(re.findall(r"profile_migrate_\w+", block))

    series = {re.sub(r"_(bucket|sum|count)$", "", name) for name in used}
    assert series
    assert series <= set(FAMILIES)


def test_alerts_are_listed() -> None:
    """
    docs/monitoring.md lists every alert rule of the project, with its severity and its runbook.
    """
    text = (DOCS / "monitoring.md").read_text(encoding="utf-8")
    listed = re.findall(
        r"^\| `(ProfileMigrate\w+)` \| .+ \| (\w+) \| \[RB-\d\d\]\(\.\./(.+?)\) \|$",
        text,
        re.MULTILINE,
    )

    assert listed == [
        (rule["alert"], rule["labels"]["severity"], rule["annotations"]["runbook_url"])
        for path in sorted((ROOT / "runbooks" / "alerts").glob("*.yml"))
        for group in YAML(typ="safe").load(path.read_text(encoding="utf-8"))["groups"]
        for rule in group["rules"]
    ]


def test_every_command_with_json_has_its_section() -> None:
    """
    docs/json.md has a section for each command that takes --json, and for no other.
    """
    text = (DOCS / "json.md").read_text(encoding="utf-8")
    sections = re.findall(rf"^## {PROGRAM} (.+)$", text, re.MULTILINE)

    real = [path for path in commands(program()) if _takes_json(leaf(path))]

    assert sorted(sections) == sorted(" ".join(path) for path in real)


def _takes_json(command: click.Command) -> bool:
    return any("--json" in param.opts for param in command.params)


@pytest.mark.parametrize(
    "call", ["mapping lint", "mapping show user_profiles", "status", "backfill"]
)
def test_fields_of_json_are_documented(
    call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Each field that a command gives has its line in docs/json.md.
    """
    (tmp_path / "migrate.yaml").write_text(
        f"version: 1\nsource: {{url: 'sqlite:///x.db'}}\nmappings: {ROOT / 'mappings'}\n"
        "redis: {target: {url: 'redis://localhost:1/0'}}\n",
        encoding="utf-8",
    )
    monkeypatch.chdir(tmp_path)
    words = call.split()
    section = _json_section(" ".join(word for word in words if word != "user_profiles"))

    given = (
        _as_json(Report("user_profiles"))
        if call == "backfill"
        else json.loads(CliRunner().invoke(program(), [*words, "--json"]).stdout)
    )

    nested = [name for entry in given.get("mappings", []) for name in entry]
    documented = set(re.findall(r"`(?:mappings\[\]\.)?(\w+)`", section)) | {"schema"}
    assert sorted({*given, *nested} - documented) == []


def _json_section(command: str) -> str:
    text = (DOCS / "json.md").read_text(encoding="utf-8")
    return text.partition(f"## {PROGRAM} {command}\n")[2].partition("\n## ")[0]


def test_worked_example_is_what_the_program_writes(tmp_path: Path) -> None:
    """
    The record in docs/how-it-works.md is what the mapping beside it makes of the row beside it.
    """
    page = DOCS / "how-it-works.md"
    text = page.read_text(encoding="utf-8")
    file = tmp_path / "user_profiles.yaml"
    file.write_text(next(block for _, block in blocks(page, "yaml")), encoding="utf-8")
    shown = next(block for _, block in blocks(page, "text") if block.startswith("_v "))
    names, row = (
        [cell.strip().strip("`") for cell in line.strip("| ").split(" | ")]
        for line in re.findall(r"^\| (?:id|7) \| .*$", text, re.MULTILINE)
    )
    kinds = {"id": Kind.INTEGER, "score": Kind.DECIMAL, "created_at": Kind.TIMESTAMPTZ}
    columns = tuple(
        Column(name, kinds.get(name, Kind.TEXT), kinds.get(name, Kind.TEXT), nullable=name != "id")
        for name in names
    )
    table = Table(None, "user_profiles", columns, ("id",), (("id",),))
    compiled = compile_mapping(load(file)["user_profiles"], table)
    cells = dict(zip(names, (None if cell == "NULL" else cell for cell in row), strict=True))

    order = [read.column.name for read in compiled.query.columns]
    batch = compiled.encode(Chunk(keys=[(7,)], rows=[[cells[name] for name in order]]))

    record = batch.records[0]
    parts = [part.decode() for part in record.fields]
    pairs = [("_v", record.version.decode()), ("_h", record.digest.decode())]
    pairs += zip(parts[::2], parts[1::2], strict=True)
    assert record.key == b"profile:7"
    assert shown == "".join(f"{name:<14}{value}\n" for name, value in pairs)


SCHEMAS: dict[str, Callable[[], dict[str, Any]]] = {
    "mapping": mapping_schema,
    "migrate": json_schema,
}
"""What editors check files against, by the name of the file in docs/schema."""


@pytest.mark.parametrize("kind", SCHEMAS)
def test_published_schema_is_the_programs(kind: str) -> None:
    """
    The schemas in docs/schema are what the program checks, for mappings and for migrate.yaml.
    """
    published = (DOCS / "schema" / f"{kind}.schema.json").read_text(encoding="utf-8")

    assert published == published_schema(kind), "run: python -m tests.test_docs"
    assert json.loads(published)["$schema"]


def test_a_command_prints_the_schema_of_mappings() -> None:
    """
    `mapping schema` gives the published file, byte by byte.
    """
    result = CliRunner().invoke(program(), ["mapping", "schema"])

    assert result.exit_code == 0, result.output
    assert result.stdout == published_schema("mapping")


def published_schema(kind: str) -> str:
    """
    A file of docs/schema as it must be.
    """
    return json.dumps(SCHEMAS[kind](), indent=2) + "\n"


def test_every_header_finds_its_schema() -> None:
    """
    A `$schema=` for editors, in a mapping file or a page, names a file that is there.
    """
    found = 0
    for path in tracked_files():
        if path.suffix not in (".yaml", ".yml", ".md"):
            continue
        for name in re.findall(
            r"^# yaml-language-server: \$schema=(\S+)", path.read_text(), re.MULTILINE
        ):
            found += 1
            # The demo and the guides show what stands in a folder beside docs.
            folder = path.parent if path.is_relative_to(ROOT / "mappings") else ROOT / "mappings"
            assert (folder / name).resolve().parent == DOCS / "schema", path
            assert (folder / name).exists(), path

    assert found


# --- words and links -----------------------------------------------------------------------------


def test_glossary_explains_every_word() -> None:
    """
    Each word of the vocabulary has its entry, once.
    """
    text = (DOCS / "glossary.md").read_text(encoding="utf-8")

    entries = re.findall(r"^- \*\*(.+?)\*\*: \S", text, re.MULTILINE)

    assert len(entries) == len(set(entries))
    assert sorted(set(WORDS) - set(entries)) == []


@each_page
def test_relative_links_resolve(page: Path) -> None:
    """
    A link to another file of the project finds it, and its heading where one is named.
    """
    text = re.sub(
        r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL
    )
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        if not target.exists() or (anchor and anchor not in _anchors(target)):
            broken.append(link)

    assert broken == []


def _anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_links_from_messages_resolve() -> None:
    """
    A page and heading of docs/ that the program names exists.
    """
    broken = []
    for path in sorted((ROOT / "migrate").rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        for name, anchor in re.findall(r"(docs/[\w./-]+\.(?:md|json))(?:#([\w-]+))?", text):
            target = ROOT / name
            if not target.exists() or (anchor and anchor not in _anchors(target)):
                broken.append(f"{path.relative_to(ROOT)}: {name}#{anchor}")

    assert broken == []


def test_no_word_of_the_workshop() -> None:
    """
    No file of the project names a folder of the place where it was made.
    """
    # Written in two parts, so that this file passes its own check.
    words = ["../" + "shared", "/work" + "/", "." + "library"]
    found = []
    for path in tracked_files():
        if path == ROOT / ".ci" / "run":
            continue
        text = path.read_bytes().decode("utf-8", "replace")
        found += [f"{path.relative_to(ROOT)}: {word}" for word in words if word in text]

    assert found == []


def write_references() -> None:
    """
    Write the generated pages, tables and schemas anew.
    """
    (DOCS / "commands.md").write_text(command_reference(), encoding="utf-8")
    tables = {"configuration.md": configuration_reference(), "mapping.md": mapping_reference()}
    for name, made in tables.items():
        page = DOCS / name
        text = page.read_text(encoding="utf-8")
        before, after = text.partition(BEGIN)[0], text.partition(END)[2]
        page.write_text(f"{before}{BEGIN}\n{made}\n{END}{after}", encoding="utf-8")
    for kind in SCHEMAS:
        (DOCS / "schema" / f"{kind}.schema.json").write_text(published_schema(kind))


if __name__ == "__main__":
    write_references()
