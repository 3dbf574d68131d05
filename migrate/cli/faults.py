"""
Errors as JSON and as a trace file. Decides nothing and prints nothing.
"""

from __future__ import annotations

import json
import os
import platform
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import click

from migrate import __version__
from migrate.errors import MigrateError, Unexpected, UsageProblem
from migrate.ops.wording import problems_of

SCHEMA = "profile-migrate.error/1"
TRACES = ".profile-migrate"
"""Folder of trace files, beside the ledger's default place."""


def as_json(error: MigrateError, redact: Callable[[str], str]) -> str:
    """
    The error as one JSON object (docs/json.md).
    """
    found = {
        "schema": SCHEMA,
        "code": error.code,
        "exit_code": int(error.exit_code),
        "what": redact(error.what),
        "where": {name: redact(str(value)) for name, value in error.where.items()},
        "next": redact(error.next_step),
        "problems": [
            {
                "file": problem.file,
                "line": problem.line,
                "column": problem.column,
                "rule": problem.rule,
                "message": redact(problem.message),
                "fix": redact(problem.fix),
            }
            for problem in problems_of(error)
        ],
    }
    return json.dumps(found)


def usage(error: click.ClickException) -> UsageProblem:
    """
    A wrong command line in the form of every other error.
    """
    ctx = getattr(error, "ctx", None)
    path = ctx.command_path if ctx else "profile-migrate"
    return UsageProblem(error.format_message(), where={"command": path}, next_step=f"{path} --help")


def unexpected(bug: BaseException, stamp: str, redact: Callable[[str], str]) -> Unexpected:
    """
    A bug of ours, with its trace in a file that only this user can read.

    Args:
        stamp: Time of the error, for the name of the file.
    """
    text = redact(trace(bug))
    try:
        place = str(_keep(text, stamp))
    except OSError:
        place = "none: the folder cannot be written"
    return Unexpected(
        f"This is a bug in profile-migrate: {type(bug).__name__}.",
        where={"trace": place},
        next_step="Report it with the trace file, which holds no values and no secrets.",
    )


def trace(bug: BaseException) -> str:
    """
    Where the error came from: versions, files, lines, classes; no values and no foreign messages.
    """
    head = (
        f"profile-migrate {__version__}, Python {platform.python_version()}, "
        f"{platform.system()} {platform.machine()}"
    )
    return "\n".join([head, *_chain(bug, set())]) + "\n"


def _chain(bug: BaseException, seen: set[int]) -> Iterator[str]:
    seen.add(id(bug))
    earlier = bug.__cause__ or (None if bug.__suppress_context__ else bug.__context__)
    if earlier is not None and id(earlier) not in seen:
        yield from _chain(earlier, seen)
        yield "which led to"
    for frame in traceback.extract_tb(bug.__traceback__):
        yield f'  File "{frame.filename}", line {frame.lineno}, in {frame.name}'
        yield f"    {frame.line}"
    kind = type(bug)
    name = f"{kind.__module__}.{kind.__qualname__}"
    # Our own messages hold no values by contract; those of drivers and of Python do.
    yield f"{name}: {bug.what}" if isinstance(bug, MigrateError) else name
    if isinstance(bug, BaseExceptionGroup):
        for part in bug.exceptions:
            yield from _chain(part, seen)


def _keep(text: str, stamp: str) -> Path:
    folder = Path(TRACES)
    folder.mkdir(mode=0o700, exist_ok=True)
    path = folder / f"trace-{stamp}-{os.getpid()}.txt"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    handle = os.open(path, flags, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8", errors="replace") as file:
        file.write(text)
    return path
