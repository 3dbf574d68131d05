"""
One check of doctor, and running many so that each failure stands alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from migrate.errors import InvalidFiles, MigrateError


class Result(StrEnum):
    """
    How a check ended.
    """

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Check:
    """
    One line of doctor.

    Args:
        id: Stable, dotted: `target.eviction`.

        what: What was found, without values and secrets.

        fix: What to do; empty where nothing is to be done.
    """

    id: str
    result: Result
    what: str
    fix: str = ""


def ok(name: str, what: str) -> Check:
    """
    A check that passed.
    """
    return Check(name, Result.OK, what)


def warning(name: str, what: str, fix: str) -> Check:
    """
    Something to know that stops nothing.
    """
    return Check(name, Result.WARNING, what, fix)


def failed(name: str, what: str, fix: str) -> Check:
    """
    Something that has to be mended first.
    """
    return Check(name, Result.FAILED, what, fix)


def skipped(name: str, what: str) -> Check:
    """
    A check that had nothing to look at.
    """
    return Check(name, Result.SKIPPED, what)


def guarded(name: str, look: Callable[[], Iterator[Check]]) -> Iterator[Check]:
    """
    The checks of `look`; an error of ours becomes a failed check with its own next step.
    """
    try:
        yield from look()
    except InvalidFiles as error:
        for problem in error.problems:
            at = f"{problem.file}:{problem.line}:{problem.column}: {problem.message}"
            yield failed(name, at, problem.fix or error.next_step)
    except MigrateError as error:
        where = ", ".join(f"{key}={value}" for key, value in error.where.items())
        yield failed(name, f"{error.what} ({where})" if where else error.what, error.next_step)
