"""
One check of doctor, and running many so that each failure stands alone.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from migrate.errors import InvalidFiles, MigrateError

T = TypeVar("T")


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


def failures(name: str, error: MigrateError) -> Iterator[Check]:
    """
    An error of ours as failed checks: one for each problem in a file, else one with its next step.
    """
    if isinstance(error, InvalidFiles):
        for problem in error.problems:
            place = f"{problem.file}:{problem.line}:{problem.column}"
            at = place if problem.line else problem.file
            yield failed(name, f"{at}: {problem.message}", problem.fix or error.next_step)
        return
    where = ", ".join(f"{key}={value}" for key, value in error.where.items())
    yield failed(name, f"{error.what} ({where})" if where else error.what, error.next_step)


def guarded(name: str, look: Callable[[], Iterator[Check]]) -> Iterator[Check]:
    """
    The checks of `look`; an error of ours becomes a failed check with its own next step.
    """
    try:
        yield from look()
    except MigrateError as error:
        yield from failures(name, error)


def opened(name: str, make: Callable[[], T]) -> Generator[Check, None, T | None]:
    """
    What `make` gives; None and failed checks where it raises an error of ours.
    """
    try:
        return make()
    except MigrateError as error:
        yield from failures(name, error)
        return None
