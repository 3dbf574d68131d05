"""
What a failing ledger means, and the one policy for trying again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import exc
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    stop_after_delay,
    wait_random_exponential,
)

from migrate.errors import (
    LedgerAccessDenied,
    LedgerDamaged,
    LedgerFull,
    LedgerUnavailable,
    MigrateError,
    Unexpected,
)
from migrate.model.events import Notify, Waiting

T = TypeVar("T")

_SQLITE = (
    ("full", LedgerFull),
    ("locked", LedgerUnavailable),
    ("busy", LedgerUnavailable),
    ("readonly", LedgerAccessDenied),
    ("permission", LedgerAccessDenied),
    ("unable to open", LedgerAccessDenied),
    ("not a database", LedgerDamaged),
    ("malformed", LedgerDamaged),
    ("disk i/o", LedgerUnavailable),
)
"""SQLite tells its errors apart by a fixed text only; the texts hold no values."""

_SQLSTATE: tuple[tuple[str, type[MigrateError]], ...] = (
    ("28", LedgerAccessDenied),
    ("42501", LedgerAccessDenied),
    ("3D", LedgerAccessDenied),
    ("53100", LedgerFull),
    ("25006", LedgerAccessDenied),
    ("08", LedgerUnavailable),
    ("40", LedgerUnavailable),
    ("53", LedgerUnavailable),
    ("55P03", LedgerUnavailable),
    # Two that make the tables, or take a lock, at the same moment: the second look sees the first.
    ("23505", LedgerUnavailable),
    ("42P07", LedgerUnavailable),
    ("57P", LedgerUnavailable),
)

_NEXT = {
    LedgerFull: "Free space for the ledger, then run the same command again.",
    LedgerUnavailable: "Check that the ledger's server runs, then run the same command again.",
    LedgerAccessDenied: "Give this user the right to read and write the ledger.",
    LedgerDamaged: "Restore the ledger from a backup, or move it away and run with --start-over.",
}

_WHAT = {
    LedgerFull: "The ledger is full.",
    LedgerUnavailable: "The ledger does not answer.",
    LedgerAccessDenied: "The ledger may not be opened or written.",
    LedgerDamaged: "The ledger cannot be read.",
}


def classify(error: exc.SQLAlchemyError) -> type[MigrateError]:
    """
    The error class that a driver's exception stands for; Unexpected for one that is a bug.
    """
    if not isinstance(error, exc.DBAPIError):
        return Unexpected
    state = str(getattr(error.orig, "sqlstate", None) or "")
    for prefix, kind in _SQLSTATE:
        if state.startswith(prefix):
            return kind
    text = str(error.orig).lower()
    for part, kind in _SQLITE:
        if part in text:
            return kind
    if error.connection_invalidated or (isinstance(error, exc.OperationalError) and not state):
        return LedgerUnavailable
    return Unexpected


def translate(error: exc.SQLAlchemyError, address: str) -> MigrateError:
    """
    Our error for a driver's exception; never with the driver's own text, which may hold values.
    """
    kind = classify(error)
    if kind is Unexpected:
        return Unexpected(
            "The ledger refused a statement of this program.",
            where={"ledger": address, "exception": type(error).__name__},
            next_step="This is a bug: please report it.",
        )
    return kind(_WHAT[kind], where={"ledger": address}, next_step=_NEXT[kind])


def attempt(
    work: Callable[[], T],
    *,
    address: str,
    retry_for_s: float,
    notify: Notify,
    sleep: Callable[[float], None],
) -> T:
    """
    Run `work` until it succeeds, for as long as the ledger is away and we may wait.

    Raises:
        MigrateError: What the ledger's exception stands for.
    """

    def guarded() -> T:
        try:
            return work()
        except exc.SQLAlchemyError as error:
            raise translate(error, address) from None

    def tell(state: RetryCallState) -> None:
        seconds = state.next_action.sleep if state.next_action else 0.0
        notify(Waiting("ledger", "unavailable", seconds))

    policy = Retrying(
        retry=retry_if_exception_type(LedgerUnavailable),
        stop=stop_after_delay(retry_for_s),
        wait=wait_random_exponential(multiplier=0.05, max=2.0),
        before_sleep=tell,
        sleep=sleep,
        reraise=True,
    )
    return policy(guarded)
