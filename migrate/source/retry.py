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

        sqlstate: As the server gave it, or the number of its error; empty without one.
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

MYSQL_ERRORS: Mapping[int, tuple[TroubleKind, str]] = {
    # of the server
    1021: (_LIMIT, "disk-full"),
    1037: (_LIMIT, "memory"),
    1038: (_LIMIT, "memory"),
    1040: (_AWAY, "too-many-connections"),
    1041: (_LIMIT, "memory"),
    1042: (_AWAY, "connection"),
    1043: (_AWAY, "connection"),
    1044: (_DENIED, "permission"),
    1045: (_DENIED, "login"),
    1049: (_DENIED, "no-database"),
    1053: (_AWAY, "shutdown"),
    1054: (_DRIFT, "no-column"),
    1072: (_DRIFT, "no-column"),
    1104: (_LIMIT, "max-join-size"),
    1114: (_LIMIT, "table-full"),
    1129: (_DENIED, "login"),
    1130: (_DENIED, "login"),
    1135: (_AWAY, "resources"),
    1142: (_DENIED, "permission"),
    1143: (_DENIED, "permission"),
    1146: (_DRIFT, "no-table"),
    1152: (_AWAY, "connection"),
    1153: (_LIMIT, "packet-too-large"),
    1158: (_AWAY, "connection"),
    1159: (_AWAY, "connection"),
    1160: (_AWAY, "connection"),
    1161: (_AWAY, "connection"),
    1180: (_AWAY, "transaction"),
    1194: (_DAMAGED, "damaged"),
    1195: (_DAMAGED, "damaged"),
    1203: (_AWAY, "too-many-connections"),
    1205: (_AWAY, "lock"),
    1206: (_LIMIT, "locks"),
    1213: (_AWAY, "deadlock"),
    1226: (_LIMIT, "user-limit"),
    1227: (_DENIED, "permission"),
    1251: (_DENIED, "login"),
    1267: (_UNFIT, "operator"),
    1271: (_UNFIT, "operator"),
    1292: (_UNFIT, "value"),
    1301: (_LIMIT, "packet-too-large"),
    1317: (_LIMIT, "interrupted"),
    1356: (_DENIED, "permission"),
    1366: (_UNFIT, "value"),
    1370: (_DENIED, "permission"),
    1411: (_UNFIT, "value"),
    1412: (_AWAY, "schema-moving"),
    1449: (_DENIED, "permission"),
    1525: (_UNFIT, "value"),
    1690: (_UNFIT, "value"),
    1698: (_DENIED, "login"),
    1712: (_DAMAGED, "damaged"),
    1792: (_UNFIT, "writes"),
    1820: (_DENIED, "login"),
    1862: (_DENIED, "login"),
    1877: (_DAMAGED, "damaged"),
    1927: (_AWAY, "killed"),
    1932: (_DAMAGED, "damaged"),
    1969: (_LIMIT, "statement-timeout"),
    3024: (_LIMIT, "statement-timeout"),
    3118: (_DENIED, "login"),
    3159: (_DENIED, "tls"),
    4031: (_AWAY, "idle-session"),
    4151: (_DENIED, "login"),
    # of the driver
    2002: (_AWAY, "connection"),
    2003: (_AWAY, "connection"),
    2005: (_AWAY, "connection"),
    2006: (_AWAY, "connection"),
    2012: (_AWAY, "connection"),
    2013: (_AWAY, "connection"),
    2014: (_AWAY, "connection"),
    2020: (_LIMIT, "packet-too-large"),
    2026: (_DENIED, "tls"),
    2027: (_AWAY, "connection"),
    2054: (_DENIED, "login"),
    2055: (_AWAY, "connection"),
    2059: (_DENIED, "login"),
    2061: (_DENIED, "login"),
}
"""By the number that MariaDB, MySQL or PyMySQL gives."""

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

_CERTIFICATE_PHRASES = ("CERTIFICATE_VERIFY_FAILED", "WRONG_VERSION_NUMBER", "alert handshake")

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
    # SQLAlchemy 2.0 does not have all of them yet.
    getattr(sa_exc, "NoDBAPILoaded", sa_exc.NoSuchModuleError): (_UNFIT, "driver"),
    sa_exc.ObjectNotExecutableError: (_BUG, "statement"),
    sa_exc.StatementError: (_BUG, "statement"),
    sa_exc.TimeoutError: (_AWAY, "pool"),
    sa_exc.UnboundExecutionError: (_BUG, "statement"),
    sa_exc.UnsupportedCompilationError: (_BUG, "statement"),
    getattr(sa_exc, "EmulatedDBAPIException", sa_exc.DBAPIError): (_BUG, "driver"),
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
    if _is_pymysql(exc):
        return _of_pymysql(exc)
    if isinstance(exc, UnicodeDecodeError):
        return Trouble(_UNREADABLE, "encoding")
    if isinstance(exc, ModuleNotFoundError):
        return Trouble(_UNFIT, "driver-mysql" if exc.name == "pymysql" else "driver")
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
    return _is_of("psycopg", exc)


def _is_pymysql(exc: BaseException) -> bool:
    return _is_of("pymysql", exc)


def _is_of(package: str, exc: BaseException) -> bool:
    # By name: a source does not have to have the driver of another one installed.
    return any(base.__module__.split(".")[0] == package for base in type(exc).__mro__)


def _of_pymysql(exc: BaseException) -> Trouble:
    number = exc.args[0] if exc.args and isinstance(exc.args[0], int) else 0
    if any(phrase in str(exc) for phrase in _CERTIFICATE_PHRASES):
        # The driver says of a bad certificate that it cannot connect, as of a server that is down.
        return Trouble(_DENIED, "tls", str(number))
    # Zero is what the driver says of a connection that it has closed itself.
    away = number == 0 and type(exc).__name__ == "InterfaceError"
    kind, reason = MYSQL_ERRORS.get(number, (_AWAY, "connection") if away else (_BUG, "statement"))
    return Trouble(kind, reason, str(number or ""))


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
        "Check sslmode and sslrootcert, or ssl_ca, in the URL, and the server's certificate.",
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
    "driver-mysql": (
        "The driver for this source is not installed.",
        "Install it: pip install 'profile-migrate[mysql]'",
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
