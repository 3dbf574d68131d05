"""
Looks at a store for many askers: seldom, in a thread of its own, and nobody waits for it for long.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Generic, TypeVar

from migrate.errors import MigrateError

T = TypeVar("T")

FRESH_S = 5.0
"""How long what was seen is answered again before the store is looked at anew."""

DEADLINE_S = 2.0
"""How long one asker waits for a look that is under way."""

TIMEOUT = "timeout"
UNEXPECTED = "unexpected"


class Absent(Exception):
    """
    There is nothing to look at, for a reason of one word.
    """


@dataclass(frozen=True, slots=True)
class Seen(Generic[T]):
    """
    What one asker is told.

    Args:
        value: What the last look that went well has found; None before the first.

        at: When it began, in seconds since 1970.

        problem: Why the newest look found nothing, in one word; empty where all is well.
    """

    value: T | None = None
    at: float = 0.0
    problem: str = ""

    @property
    def current(self) -> T | None:
        """
        The value, unless it is one of the past.
        """
        return None if self.problem else self.value


class Look(Generic[T]):
    """
    One store, looked at by one thread at a time.

    Args:
        read: Looks at the store; may take as long as it likes.

        wall: Seconds since 1970.
    """

    def __init__(
        self,
        read: Callable[[], T],
        *,
        wall: Callable[[], float],
        fresh_s: float = FRESH_S,
        deadline_s: float = DEADLINE_S,
    ) -> None:
        self._read = read
        self._wall = wall
        self._fresh_s = fresh_s
        self._deadline_s = deadline_s
        self._changed = threading.Condition()
        self._busy = False
        self._late = False
        self._ended: float | None = None
        self._seen: Seen[T] = Seen()
        self.errors = 0
        self.seconds = 0.0

    def begin(self) -> float:
        """
        Look anew where the last look is too old.

        Returns:
            Until when, on the monotonic clock, an asker of now waits.
        """
        with self._changed:
            now = monotonic()
            old = self._ended is None or now - self._ended >= self._fresh_s
            if old and not self._busy:
                self._busy, self._late = True, False
                # A look that hangs must keep neither an asker nor the end of the program waiting.
                threading.Thread(target=self._look, name="look", daemon=True).start()
            return now + self._deadline_s

    def take(self, until: float | None = None) -> Seen[T]:
        """
        What is known now, after waiting for a look that is under way.

        Args:
            until: What `begin` returned; two stores are then waited for at the same time.
        """
        until = self.begin() if until is None else until
        with self._changed:
            if self._changed.wait_for(lambda: not self._busy, max(0.0, until - monotonic())):
                return self._seen
            if not self._late:
                self._late = True
                self.errors += 1
            return Seen(self._seen.value, self._seen.at, TIMEOUT)

    def _look(self) -> None:
        started, at = monotonic(), self._wall()
        value, problem = None, ""
        try:
            value = self._read()
        except Absent as why:
            problem = str(why)
        except MigrateError as error:
            problem = error.code
        except Exception:  # noqa: BLE001 - a look that fails must not end the program
            problem = UNEXPECTED
        with self._changed:
            self._seen = (
                Seen(self._seen.value, self._seen.at, problem) if problem else Seen(value, at)
            )
            self.errors += bool(problem) and not self._late
            self.seconds = monotonic() - started
            self._ended = monotonic()
            self._busy = False
            self._changed.notify_all()
