"""
Errors in the words that every face shows: what, where, next. Prints nothing.
"""

from __future__ import annotations

from collections.abc import Callable

from migrate.errors import InvalidFiles, MigrateError, Problem, Stopped
from migrate.ops.console import one_line


def as_text(error: MigrateError, label: Callable[[str], str] = str) -> str:
    """
    The error in the form of every command: what, where, next.

    Args:
        label: Paints `error[code]`.
    """
    lines = [one_line(str(problem)) for problem in problems_of(error)]
    what = one_line(error.what)
    lines.append(what if isinstance(error, Stopped) else f"{label(f'error[{error.code}]')}: {what}")
    if error.where:
        places = (f"{name}={_place(value)}" for name, value in error.where.items())
        lines.append(f"  where: {' '.join(places)}")
    heads = ("  next:  ", *["         "] * error.next_step.count("\n"))
    steps = error.next_step.splitlines()
    lines += [head + one_line(step) for head, step in zip(heads, steps, strict=False)]
    return "\n".join(lines)


def _place(value: object) -> str:
    text = one_line(str(value))
    return text if text and not any(c.isspace() for c in text) else f'"{text}"'


def problems_of(error: MigrateError) -> tuple[Problem, ...]:
    """
    What is wrong in files, where the error is about files.
    """
    return error.problems if isinstance(error, InvalidFiles) else ()
