"""
What each error of the SQL drivers means, and the one policy by which reading is tried again.

Never shows a driver's own message: values, host names and users hide in there.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar

import sqlalchemy.exc as sa_exc
import tenacity

from migrate.errors import (
    InvalidInput,
    MigrateError,
    SchemaDrift,
    SourceAccessDenied,
    SourceLimit,
    SourceUnavailable,
    Unexpected,
)
from migrate.model.events import Notify, Waiting, silent

T = TypeVar("T")

FIRST_WAIT_S = 0.1
LONGEST_WAIT_S = 5.0


class TroubleKind(StrEnum):
    """
    What an error asks for.
    """

    AWAY = "away"
    """Wait and try again; after `retry_for` the source counts as unavailable."""
    LIMIT = "limit"
    """A limit that an operator set; repeating at once would only meet it again."""
    DRIFT = "drift"
    """A table or a column is not what it was."""
    DENIED = "denied"
    """Login, certificate or permission."""
    UNFIT = "unfit"
    """What the user gave does not fit the source."""
    UNREADABLE = "unreadable"
    """One value of the page cannot be decoded."""
    DAMAGED = "damaged"
    """The source's own files are broken."""
    BUG = "bug"
    """Ours, or unknown."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """
    An error of a driver, understood.

    Args:
        reason: Short and closed, fit for an event and for a metric.

        sqlstate: As the server gave it, or the number of the SQLite error; empty without one.
    """

    kind: TroubleKind
    reason: str
    sqlstate: str = ""


_AWAY, _LIMIT, _DRIFT = TroubleKind.AWAY, TroubleKind.LIMIT, TroubleKind.DRIFT
_DENIED, _UNFIT, _BUG = TroubleKind.DENIED, TroubleKind.UNFIT, TroubleKind.BUG
_UNREADABLE, _DAMAGED = TroubleKind.UNREADABLE, TroubleKind.DAMAGED

SQLSTATES: Mapping[str, tuple[TroubleKind, str]] = {
    "08": (_AWAY, "connection"),
    "21": (_BUG, "statement"),
    "22": (_UNFIT, "value"),
    "22021": (_UNREADABLE, "encoding"),
    "22P05": (_UNREADABLE, "encoding"),
    "25006": (_UNFIT, "writes"),
    "25P03": (_LIMIT, "idle-timeout"),
    "25P04": (_LIMIT, "transaction-timeout"),
    "28": (_DENIED, "login"),
    "3D000": (_DENIED, "no-database"),
    "3F000": (_DRIFT, "no-schema"),
    "40": (_AWAY, "serialization"),
    "40P01": (_AWAY, "deadlock"),
    "42501": (_DENIED, "permission"),
    "42703": (_DRIFT, "no-column"),
    "42P01": (_DRIFT, "no-table"),
    "42883": (_UNFIT, "operator"),
    "42804": (_UNFIT, "type"),
    "42846": (_UNFIT, "type"),
    "42704": (_DRIFT, "no-type"),
    "53": (_LIMIT, "resources"),
    "53300": (_AWAY, "too-many-connections"),
    "54": (_LIMIT, "program-limit"),
    "55P03": (_AWAY, "lock"),
    "55006": (_AWAY, "in-use"),
    "57014": (_LIMIT, "statement-timeout"),
    "57P01": (_AWAY, "shutdown"),
    "57P02": (_AWAY, "crash"),
    "57P03": (_AWAY, "starting"),
    "57P04": (_DENIED, "no-database"),
    "57P05": (_AWAY, "idle-session"),
    "58": (_AWAY, "system"),
    "XX001": (_DAMAGED, "damaged"),
    "XX002": (_DAMAGED, "damaged"),
}
"""By the whole SQLSTATE, then by its class."""

SQLITE_CODES: Mapping[int, tuple[TroubleKind, str]] = {
    sqlite3.SQLITE_PERM: (_DENIED, "permission"),
    sqlite3.SQLITE_BUSY: (_AWAY, "busy"),
    sqlite3.SQLITE_LOCKED: (_AWAY, "busy"),
    sqlite3.SQLITE_NOMEM: (_LIMIT, "memory"),
    sqlite3.SQLITE_READONLY: (_DENIED, "permission"),
    sqlite3.SQLITE_INTERRUPT: (_LIMIT, "interrupted"),
    sqlite3.SQLITE_IOERR: (_AWAY, "io"),
    sqlite3.SQLITE_CORRUPT: (_DAMAGED, "damaged"),
    sqlite3.SQLITE_FULL: (_LIMIT, "disk-full"),
    sqlite3.SQLITE_CANTOPEN: (_DENIED, "cannot-open"),
    sqlite3.SQLITE_PROTOCOL: (_AWAY, "busy"),
    sqlite3.SQLITE_SCHEMA: (_AWAY, "schema-moving"),
    sqlite3.SQLITE_TOOBIG: (_LIMIT, "too-big"),
    sqlite3.SQLITE_AUTH: (_DENIED, "permission"),
    sqlite3.SQLITE_NOTADB: (_UNFIT, "not-a-database"),
}
"""By the primary code, the low byte of what SQLite reports."""

# Messages are only looked at, never shown. A login fails before there is a SQLSTATE to look at.
_LOGIN_PHRASES: tuple[tuple[str, str], ...] = (
    ("password authentication failed", "login"),
    ("no password supplied", "login"),
    ("authentication failed", "login"),
    ("authentication method", "login"),
    ("pg_hba.conf", "login"),
    ("not permitted to log in", "login"),
    ("permission denied for database", "permission"),
    ("root certificate", "tls"),
    ("certificate", "tls"),
    ("does not support ssl", "tls"),
    ("sslmode", "tls"),
    ('role "', "login"),
    ('database "', "no-database"),
)

_SQLITE_PHRASES: tuple[tuple[str, TroubleKind, str], ...] = (
    ("Could not decode to UTF-8", _UNREADABLE, "encoding"),
    ("no such table", _DRIFT, "no-table"),
    ("no such column", _DRIFT, "no-column"),
)

SQLALCHEMY_ERRORS: Mapping[type[BaseException], tuple[TroubleKind, str]] = {
    sa_exc.ArgumentError: (_BUG, "statement"),
    sa_exc.CircularDependencyError: (_BUG, "statement"),
    sa_exc.CompileError: (_BUG, "statement"),
    sa_exc.DisconnectionError: (_AWAY, "connection"),
    sa_exc.IdentifierError: (_UNFIT, "identifier"),
    sa_exc.InvalidRequestError: (_BUG, "statement"),
    sa_exc.NoSuchModuleError: (_UNFIT, "driver"),
    sa_exc.NoDBAPILoaded: (_UNFIT, "driver"),
    sa_exc.ObjectNotExecutableError: (_BUG, "statement"),
    sa_exc.StatementError: (_BUG, "statement"),
    sa_exc.TimeoutError: (_AWAY, "pool"),
    sa_exc.UnboundExecutionError: (_BUG, "statement"),
    sa_exc.UnsupportedCompilationError: (_BUG, "statement"),
    sa_exc.EmulatedDBAPIException: (_BUG, "driver"),
    sa_exc.DBAPIError: (_BUG, "driver"),
}
"""Families of SQLAlchemy's own errors; those that carry a driver's error go by that one."""


def classify(exc: BaseException) -> Trouble | None:
    """
    What this error means, or None where it does not come from a database driver.
    """
    if isinstance(exc, sa_exc.StatementError) and exc.orig is not None:
        inner = classify(exc.orig)
        return inner or Trouble(_BUG, "statement")
    if isinstance(exc, sqlite3.Error):
        return _of_sqlite(exc)
    if _is_psycopg(exc):
        return _of_psycopg(exc)
    if isinstance(exc, UnicodeDecodeError):
        return Trouble(_UNREADABLE, "encoding")
    if isinstance(exc, ModuleNotFoundError):
        return Trouble(_UNFIT, "driver")
    family = family_of(type(exc))
    return Trouble(*SQLALCHEMY_ERRORS[family]) if family else None


def family_of(kind: type[BaseException]) -> type[BaseException] | None:
    """
    The nearest class in the table that an error class belongs to.
    """
    return next((base for base in kind.__mro__ if base in SQLALCHEMY_ERRORS), None)


def _of_sqlite(exc: sqlite3.Error) -> Trouble:
    code = getattr(exc, "sqlite_errorcode", None)
    message = str(exc)
    for phrase, kind, reason in _SQLITE_PHRASES:
        if message.startswith(phrase):
            return Trouble(kind, reason, str(code or ""))
    kind, reason = SQLITE_CODES.get((code or 0) & 0xFF, (_BUG, "driver"))
    return Trouble(kind, reason, str(code or ""))


def _is_psycopg(exc: BaseException) -> bool:
    # By name: a source without PostgreSQL does not have to have psycopg installed.
    return any(base.__module__.split(".")[0] == "psycopg" for base in type(exc).__mro__)


def _of_psycopg(exc: BaseException) -> Trouble:
    state = getattr(exc, "sqlstate", None)
    if state is None:
        return _without_state(exc)
    if state == "0A000":
        # The only feature that is away for a moment: a plan made before the table changed.
        plan = "cached plan" in str(exc)
        return Trouble(_AWAY if plan else _BUG, "plan" if plan else "statement", state)
    kind, reason = SQLSTATES.get(state) or SQLSTATES.get(state[:2]) or (_BUG, "statement")
    return Trouble(kind, reason, state)


def _without_state(exc: BaseException) -> Trouble:
    names = {base.__name__ for base in type(exc).__mro__}
    if "DataError" in names:
        return Trouble(_UNREADABLE, "value")
    if "OperationalError" not in names:
        return Trouble(_BUG, "driver")
    message = str(exc).lower()
    for phrase, reason in _LOGIN_PHRASES:
        if phrase in message:
            return Trouble(_DENIED, reason)
    return Trouble(_AWAY, "connection")


@dataclass(frozen=True, slots=True)
class _Words:
    error: type[MigrateError]
    what: str
    next_step: str


class UnreadableValue(SourceLimit):
    """
    A value on this page cannot be decoded; readers look for the row and go on without it.
    """


_BY_KIND: Mapping[TroubleKind, _Words] = {
    _AWAY: _Words(
        SourceUnavailable,
        "The source did not answer.",
        "Check that the server runs and can be reached, then run the same command.",
    ),
    _LIMIT: _Words(
        SourceLimit,
        "The source ended the statement by a limit of its own.",
        "Raise the limit for this user or read smaller chunks, then run the same command.",
    ),
    _DRIFT: _Words(
        SchemaDrift,
        "A table or column of the source is not there any more.",
        "Compare the mapping with the table: profile-migrate doctor",
    ),
    _DENIED: _Words(
        SourceAccessDenied,
        "The source refused access.",
        "Correct user, password and permissions of `source` in migrate.yaml.",
    ),
    _UNFIT: _Words(
        InvalidInput,
        "The source cannot work with what it was given.",
        "Check `source` in migrate.yaml and the mapping: profile-migrate doctor",
    ),
    _UNREADABLE: _Words(
        UnreadableValue,
        "A value of the source cannot be decoded, and its row cannot be told apart.",
        "Correct the text encoding of the key columns in the source.",
    ),
    _DAMAGED: _Words(
        SourceUnavailable,
        "The source reports that its own files are damaged.",
        "Repair or restore the database first; nothing was lost here.",
    ),
    _BUG: _Words(
        Unexpected,
        "The source answered with an error that this program does not expect.",
        "Report it with the names below.",
    ),
}

_BY_REASON: Mapping[str, tuple[str, str]] = {
    "permission": (
        "The source refuses to let this user read.",
        "Grant SELECT on it and on the migrate_ tables, under row-level security also BYPASSRLS.",
    ),
    "login": (
        "The source refused the login.",
        "Correct user and password of `source` in migrate.yaml.",
    ),
    "tls": (
        "The encrypted connection to the source could not be made.",
        "Check sslmode, sslrootcert and the server's certificate.",
    ),
    "no-database": (
        "The source has no such database.",
        "Correct the database name of `source` in migrate.yaml.",
    ),
    "cannot-open": (
        "The SQLite file cannot be opened.",
        "Check that this user may read the file, and its -wal and -shm beside it.",
    ),
    "not-a-database": (
        "The file is not an SQLite database, or it is encrypted.",
        "Correct the path of `source` in migrate.yaml.",
    ),
    "driver": (
        "The driver for this source is not installed.",
        "Install it: pip install 'profile-migrate[postgresql]'",
    ),
    "value": (
        "A literal in `where` does not fit its column, or a view computes with bad values.",
        "Correct `where` in the mapping.",
    ),
    "operator": (
        "The filter compares in a way that the column's type does not offer.",
        "Correct `where` in the mapping.",
    ),
    "type": (
        "The filter compares types that do not go together.",
        "Correct `where` in the mapping.",
    ),
    "writes": (
        "The view writes when it is read; reading is always done read-only.",
        "Map the underlying table instead.",
    ),
}


def error_for(
    trouble: Trouble, exc: BaseException, where: Mapping[str, object] | None = None
) -> MigrateError:
    """
    The error to show for a trouble: our words, the class of the driver's error and its SQLSTATE.
    """
    words = _BY_KIND[trouble.kind]
    what, next_step = words.what, words.next_step
    if trouble.kind in (_DENIED, _UNFIT):
        what, next_step = _BY_REASON.get(trouble.reason, (what, next_step))
    at = {**(where or {}), "reason": trouble.reason, "error": type(exc).__name__}
    if trouble.sqlstate:
        at["sqlstate"] = trouble.sqlstate
    return words.error(what, where=at, next_step=next_step)


class _Away(Exception):
    """
    Asks the policy for another try; never leaves this module.
    """

    def __init__(self, trouble: Trouble, error: MigrateError) -> None:
        super().__init__(trouble.reason)
        self.trouble = trouble
        self.error = error


@dataclass(frozen=True, slots=True)
class Policy:
    """
    Tries again while the source is away, for a limited time, and says so before each wait.

    Args:
        retry_for_s: From the first failure of one call; 0 tries once.

        sleep: Injectable, so that tests own the time.
    """

    retry_for_s: float = 60.0
    notify: Notify = silent
    sleep: Callable[[float], None] = time.sleep

    def call(self, work: Callable[[], T], where: Mapping[str, object] | None = None) -> T:
        """
        The result of `work`, which must be safe to repeat.

        Raises:
            MigrateError: Ours for whatever the driver said; driver errors never pass through.
        """
        retrying = tenacity.Retrying(
            stop=tenacity.stop_after_delay(self.retry_for_s),
            wait=tenacity.wait_random_exponential(multiplier=FIRST_WAIT_S, max=LONGEST_WAIT_S),
            retry=tenacity.retry_if_exception_type(_Away),
            before_sleep=self._announce,
            sleep=self.sleep,
            reraise=True,
        )
        try:
            result: T = retrying(_understood, work, where)
        except _Away as away:
            raise away.error from None
        return result

    def _announce(self, state: tenacity.RetryCallState) -> None:
        exc: Any = state.outcome.exception() if state.outcome else None
        self.notify(Waiting("source", exc.trouble.reason, state.upcoming_sleep))


def _understood(work: Callable[[], T], where: Mapping[str, object] | None) -> T:
    try:
        return work()
    except MigrateError:
        raise
    except Exception as exc:
        trouble = classify(exc)
        if trouble is None:
            raise
        error = error_for(trouble, exc, where)
        if trouble.kind is _AWAY:
            raise _Away(trouble, error) from None
        raise error from None
