"""
The import contract: who imports whom, which driver belongs where, what stays out of engines.

Read from the syntax trees, so that an import inside a function or for typing counts as well.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

LEVELS = {
    "": 0,
    "errors": 0,
    "model": 1,
    "documents": 1,
    "mapping": 2,
    "source": 3,
    "target": 3,
    "config": 3,
    "ledger": 3,
    "pipeline": 4,
    "stages": 5,
    "app": 6,
    "ops": 6,
    "workers": 6,
    "cli": 7,
    "testing": 7,
    "__main__": 8,
}
"""A module imports from lower levels only; those of one level never import each other."""

DRIVERS = {
    "anycrc": {"target"},
    "click": {"cli", "ops"},
    "hiredis": {"target"},
    "prometheus_client": {"ops"},
    "psycopg": {"source"},
    "pydantic": {"config", "documents", "mapping"},
    "pydantic_core": {"config", "documents", "mapping"},
    "pymysql": {"source"},
    "pytest": {"testing"},
    "redis": {"target"},
    "rq": {"workers"},
    "ruamel": {"documents"},
    "sqlalchemy": {"ledger", "source"},
    "tenacity": {"ledger", "source", "target"},
    "tqdm": {"cli", "ops"},
}
"""A third-party package is imported by its own side alone."""

FACES = {"cli", "testing", "__main__"}
"""
The only ones that print, exit, and read the environment or the wall clock.

A team's tests are a second face beside the command line: they configure and wire the same engines.
"""

FACES_ONLY = {
    "breakpoint",
    "datetime.date.today",
    "datetime.datetime.now",
    "datetime.datetime.today",
    "datetime.datetime.utcnow",
    "exit",
    "input",
    "os._exit",
    "os.environ",
    "os.environb",
    "os.getenv",
    "os.getenvb",
    "print",
    "quit",
    "sys.exit",
    "sys.stderr",
    "sys.stdin",
    "sys.stdout",
    "time.time",
    "time.time_ns",
}

GRANTED = {
    "ops": {"sys.stderr"},
    "workers": {"time.time"},
}
"""Progress finds the stream of the moment when it writes; a worker wires its own clock."""

NOBODY = {
    "compile",
    "eval",
    "exec",
    "os.system",
    "__import__",
}
"""Builtins and functions that turn text into something that runs."""

GENERATOR, GENERATES = "migrate/target/encoder.py", {"compile", "exec"}
"""The one module that writes a function, of its own text and of a mapping's key template alone."""

NO_MODULES = {"dill", "marshal", "pickle", "shelve", "yaml"}
"""Readers that can be made to run what they read."""

LUA = ("redis.call", "redis.pcall", "KEYS[", "ARGV[")


@dataclass(frozen=True)
class Module:
    """
    One file of the package, parsed.
    """

    path: Path
    tree: ast.Module

    @property
    def dotted(self) -> tuple[str, ...]:
        """
        Its name from the package on: `("migrate", "cli", "main")`.
        """
        parts = self.path.with_suffix("").parts
        return parts[:-1] if parts[-1] == "__init__" else parts

    @property
    def part(self) -> str:
        """
        The package or module directly below `migrate`; empty for `migrate/__init__.py`.
        """
        return self.dotted[1] if len(self.dotted) > 1 else ""


def module(name: str, text: str) -> Module:
    """
    A module from its path below the project and its text.
    """
    return Module(Path(name), ast.parse(text))


@cache
def modules() -> tuple[Module, ...]:
    """
    Every module of the package.
    """
    paths = sorted((ROOT / "migrate").rglob("*.py"))
    return tuple(module(str(p.relative_to(ROOT)), p.read_text("utf-8")) for p in paths)


def imports(found: Module) -> Iterator[tuple[int, tuple[str, ...]]]:
    """
    Line and full dotted name of everything that a module imports, by name or by text.
    """
    package = found.dotted if found.path.name == "__init__.py" else found.dotted[:-1]
    for node in ast.walk(found.tree):
        match node:
            case ast.Import(names=names):
                for alias in names:
                    yield node.lineno, tuple(alias.name.split("."))
            case ast.ImportFrom(module=name, names=names, level=level):
                base = package[: len(package) - level + 1] if level else ()
                base += tuple(name.split(".")) if name else ()
                for alias in names:
                    yield node.lineno, (*base, alias.name)
            case ast.Call(func=function, args=[ast.Constant(value=str(name)), *_]) if ast.unparse(
                function
            ).endswith("import_module"):
                yield node.lineno, tuple(name.split("."))


def names_used(found: Module) -> Iterator[tuple[int, str]]:
    """
    Line and name of everything that is read, with the import that a name stands for spelled out.
    """
    known = {}
    for node in ast.walk(found.tree):
        if isinstance(node, ast.Import):
            known |= {a.asname or a.name.split(".")[0]: a.asname and a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            known |= {a.asname or a.name: f"{node.module}.{a.name}" for a in node.names}
    for node in ast.walk(found.tree):
        if isinstance(node, ast.Name | ast.Attribute):
            first, *rest = ast.unparse(node).split(".")
            yield node.lineno, ".".join([known.get(first) or first, *rest])


def faults(
    rule: Callable[[Module], Iterable[tuple[int, str]]], among: Iterable[Module] | None = None
) -> list[str]:
    """
    What a rule finds, as `file:line: sentence`.
    """
    return [
        f"{found.path}:{line}: {sentence}"
        for found in (modules() if among is None else among)
        for line, sentence in rule(found)
    ]


def unlisted(found: Module) -> Iterator[tuple[int, str]]:
    """
    A part of the package that has no level.
    """
    if found.part not in LEVELS:
        yield 1, f"`{found.part}` has no level; give it one in LEVELS"


def upward(found: Module) -> Iterator[tuple[int, str]]:
    """
    Imports of a higher level, or of a sibling.
    """
    for line, name in imports(found):
        if name[0] != "migrate":
            continue
        # `from migrate import __version__` names no part.
        other = name[1] if len(name) > 1 and name[1] in LEVELS else ""
        if other and other != found.part and LEVELS[other] >= LEVELS.get(found.part, 0):
            yield line, f"`{found.part}` may not import `{'.'.join(name)}`"


def foreign(found: Module) -> Iterator[tuple[int, str]]:
    """
    Third-party packages outside their own side.
    """
    for line, name in imports(found):
        first = name[0]
        if first == "migrate" or first in sys.stdlib_module_names:
            continue
        if found.part not in DRIVERS.get(first, set()):
            yield line, f"`{found.part}` may not import `{first}`"


def worldly(found: Module) -> Iterator[tuple[int, str]]:
    """
    Printing, exiting, environment and wall clock below the faces.
    """
    if found.part not in FACES:
        for line, name in names_used(found):
            if name in FACES_ONLY - GRANTED.get(found.part, set()):
                yield line, f"`{name}` belongs to the faces"


def runs_text(found: Module) -> Iterator[tuple[int, str]]:
    """
    Text that would be run, unpickled or formatted with access to attributes.
    """
    for line, name in imports(found):
        if name[0] in NO_MODULES:
            yield line, f"`{name[0]}` can run what it reads"
    for line, name in names_used(found):
        if name in NOBODY and not (name in GENERATES and str(found.path) == GENERATOR):
            yield line, f"`{name}` turns text into something that runs"
    for node in ast.walk(found.tree):
        match node:
            case ast.Call(func=ast.Attribute(attr="format" | "format_map", value=value)) if (
                # A log handler's own method, given a log entry, is no template.
                ast.unparse(value) not in {"self", "super()"}
            ):
                yield node.lineno, "`.format` lets a template reach for attributes"


def assembled_lua(found: Module) -> Iterator[tuple[int, str]]:
    """
    Lua put together from pieces; values go to a script as KEYS and ARGV.
    """
    for node in ast.walk(found.tree):
        match node:
            case ast.JoinedStr(values=parts) if any(map(_is_lua, parts)) and any(
                isinstance(part, ast.FormattedValue) for part in parts
            ):
                yield node.lineno, "a Lua script is a constant, not an f-string"
            case ast.BinOp(op=ast.Mod() | ast.Add(), left=left, right=right) if _is_lua(
                left
            ) or _is_lua(right):
                yield node.lineno, "a Lua script is a constant, not put together"


def _is_lua(node: ast.AST) -> bool:
    if not isinstance(node, ast.Constant) or not isinstance(node.value, str):
        return False
    return any(word in node.value for word in LUA)


def test_there_is_something_to_check() -> None:
    """
    The package is found, so that the tests below are not green for want of files.
    """
    assert {"errors", "model"} <= {found.part for found in modules()}


def test_every_part_has_a_level() -> None:
    """
    A new package below `migrate` fails until someone says where it belongs.
    """
    assert faults(unlisted) == []


def test_imports_point_downwards() -> None:
    """
    No module imports a higher level or a sibling, for typing neither, so there are no cycles.
    """
    assert faults(upward) == []


def test_drivers_stay_on_their_side() -> None:
    """
    Each third-party package is imported only where its side of the house is.
    """
    assert faults(foreign) == []


def test_only_the_faces_touch_the_world() -> None:
    """
    Nothing below the command line prints, exits, or reads the environment or the wall clock.
    """
    assert faults(worldly) == []


def test_no_text_is_run() -> None:
    """
    There is no eval, exec, pickle, plain YAML, or `.format`.
    """
    assert faults(runs_text) == []


def test_lua_scripts_are_constants() -> None:
    """
    No value is pasted into a Lua script.
    """
    assert faults(assembled_lua) == []


@pytest.mark.parametrize(
    ("rule", "path", "text"),
    [
        (unlisted, "migrate/extras/x.py", ""),
        (upward, "migrate/source/x.py", "from migrate.target.store import RedisTarget"),
        (upward, "migrate/model/x.py", "def f():\n    import migrate.pipeline"),
        (upward, "migrate/model/x.py", "from migrate import documents"),
        (upward, "migrate/ledger/x.py", "from ..pipeline import backfill"),
        (upward, "migrate/errors.py", "import importlib\nimportlib.import_module('migrate.cli')"),
        (
            foreign,
            "migrate/pipeline/x.py",
            "if TYPE_CHECKING:\n    from redis import Redis",
        ),
        (foreign, "migrate/target/x.py", "import sqlalchemy as sa"),
        (foreign, "migrate/source/x.py", "import requests"),
        (worldly, "migrate/pipeline/x.py", "print(1)"),
        (worldly, "migrate/config/x.py", "from os import environ as e\ne['HOME']"),
        (worldly, "migrate/ledger/x.py", "import time as t\nnow = t.time"),
        (worldly, "migrate/ops/x.py", "import datetime as d\nd.datetime.now(d.UTC)"),
        (worldly, "migrate/target/x.py", "import sys\nsys.exit(1)"),
        (runs_text, "migrate/mapping/x.py", "eval('1')"),
        (runs_text, "migrate/mapping/x.py", "template.format(row)"),
        (runs_text, "migrate/cli/x.py", "import pickle"),
        (runs_text, "migrate/documents/x.py", "from yaml import load"),
        (assembled_lua, "migrate/target/x.py", "f\"redis.call('GET', {key})\""),
        (assembled_lua, "migrate/target/x.py", "\"return redis.call('GET', '%s')\" % key"),
        (assembled_lua, "migrate/target/x.py", "HEAD + 'local x = ARGV[1]'"),
    ],
)
def test_a_breach_is_seen(
    rule: Callable[[Module], Iterable[tuple[int, str]]], path: str, text: str
) -> None:
    """
    Each rule finds the breach that it is there for.
    """
    assert len(faults(rule, [module(path, text)])) >= 1


@pytest.mark.parametrize(
    ("rule", "path", "text"),
    [
        (upward, "migrate/pipeline/x.py", "from migrate.model.values import Row"),
        (upward, "migrate/source/x.py", "from migrate.source.control import metadata"),
        (upward, "migrate/errors.py", "from migrate import __version__"),
        (foreign, "migrate/target/x.py", "import redis"),
        (worldly, "migrate/cli/x.py", "print(1)"),
        (worldly, "migrate/pipeline/x.py", "import time\ntime.monotonic()"),
        (worldly, "migrate/mapping/x.py", "import re\nre.compile('x')"),
        (runs_text, "migrate/mapping/x.py", "import re\nre.compile('x')"),
        (runs_text, "migrate/mapping/x.py", "format(1, 'x')"),
        (assembled_lua, "migrate/target/x.py", "\"redis.call('GET', KEYS[1])\""),
    ],
)
def test_what_is_allowed_is_not_reported(
    rule: Callable[[Module], Iterable[tuple[int, str]]], path: str, text: str
) -> None:
    """
    The rules let through what the contract allows.
    """
    assert faults(rule, [module(path, text)]) == []
