"""
What each error of a driver means, and how often and how long a read is tried again.
"""

from __future__ import annotations

import inspect
import sqlite3
import warnings

import psycopg
import psycopg.errors
import pymysql
import pytest
import sqlalchemy.exc

from migrate.errors import (
    ExitCode,
    InvalidInput,
    MigrateError,
    SchemaDrift,
    SourceAccessDenied,
    SourceLimit,
    SourceUnavailable,
    Unexpected,
)
from migrate.model.events import Waiting
from migrate.source.retry import (
    Policy,
    Trouble,
    TroubleKind,
    classify,
    error_for,
    family_of,
)

SQLALCHEMY = [
    kind
    for kind in vars(sqlalchemy.exc).values()
    if inspect.isclass(kind) and issubclass(kind, Exception) and not issubclass(kind, Warning)
]


def test_every_error_of_sqlalchemy_has_a_meaning() -> None:
    """
    A class that a new version of SQLAlchemy adds fails here until someone says what it means.
    """
    root = sqlalchemy.exc.SQLAlchemyError

    assert [kind for kind in SQLALCHEMY if kind is not root and family_of(kind) is None] == []
    assert len(SQLALCHEMY) > 30


def test_every_error_of_postgresql_has_a_meaning() -> None:
    """
    Whatever the server's code, the answer is one of our kinds, and never the driver's text.
    """
    codes = {
        kind.sqlstate
        for kind in vars(psycopg.errors).values()
        if inspect.isclass(kind) and issubclass(kind, psycopg.Error) and kind.sqlstate
    }

    troubles = [classify(psycopg.errors.lookup(code)("planted")) for code in codes]

    assert len(codes) > 200
    assert all(trouble is not None and trouble.reason for trouble in troubles)
    shown = [str(error_for(trouble, ValueError("planted"))) for trouble in troubles if trouble]
    assert not any("planted" in text for text in shown)


MEANINGS = {
    "08006": (TroubleKind.AWAY, SourceUnavailable),
    "57P01": (TroubleKind.AWAY, SourceUnavailable),
    "57P03": (TroubleKind.AWAY, SourceUnavailable),
    "53300": (TroubleKind.AWAY, SourceUnavailable),
    "40001": (TroubleKind.AWAY, SourceUnavailable),
    "40P01": (TroubleKind.AWAY, SourceUnavailable),
    "55P03": (TroubleKind.AWAY, SourceUnavailable),
    "57014": (TroubleKind.LIMIT, SourceLimit),
    "25P03": (TroubleKind.LIMIT, SourceLimit),
    "53100": (TroubleKind.LIMIT, SourceLimit),
    "53200": (TroubleKind.LIMIT, SourceLimit),
    "42703": (TroubleKind.DRIFT, SchemaDrift),
    "42P01": (TroubleKind.DRIFT, SchemaDrift),
    "42501": (TroubleKind.DENIED, SourceAccessDenied),
    "28P01": (TroubleKind.DENIED, SourceAccessDenied),
    "42601": (TroubleKind.BUG, Unexpected),
}


@pytest.mark.parametrize("state", MEANINGS)
def test_codes_lead_to_their_exit(state: str) -> None:
    """
    Away waits and exits 6, a limit exits 5, a missing right 2, a bug 1.
    """
    kind, error = MEANINGS[state]

    trouble = classify(psycopg.errors.lookup(state)("planted"))

    assert trouble is not None
    assert trouble.kind is kind
    assert type(error_for(trouble, ValueError())) is error


def test_a_stale_plan_is_tried_again_and_a_missing_feature_is_not() -> None:
    """
    One SQLSTATE for two things: only the plan that died with a DDL is away for a moment.
    """
    stale = psycopg.errors.FeatureNotSupported("cached plan must not change result type")
    other = psycopg.errors.FeatureNotSupported("no")

    assert classify(stale) == Trouble(TroubleKind.AWAY, "plan", "0A000")
    assert classify(other) == Trouble(TroubleKind.BUG, "statement", "0A000")


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ('FATAL:  password authentication failed for user "x"', "login"),
        ("fe_sendauth: no password supplied", "login"),
        ('FATAL:  no pg_hba.conf entry for host "1.2.3.4"', "login"),
        ('FATAL:  database "x" does not exist', "no-database"),
        ("server does not support SSL, but SSL was required", "tls"),
        ("SSL error: certificate verify failed", "tls"),
    ],
)
def test_a_refused_login_is_known_by_its_words(message: str, reason: str) -> None:
    """
    The client library gives no code for them.
    """
    trouble = classify(psycopg.OperationalError(message))

    assert trouble == Trouble(TroubleKind.DENIED, reason)


NUMBERS = {
    1040: (TroubleKind.AWAY, SourceUnavailable),
    1053: (TroubleKind.AWAY, SourceUnavailable),
    1205: (TroubleKind.AWAY, SourceUnavailable),
    1213: (TroubleKind.AWAY, SourceUnavailable),
    1412: (TroubleKind.AWAY, SourceUnavailable),
    1927: (TroubleKind.AWAY, SourceUnavailable),
    2003: (TroubleKind.AWAY, SourceUnavailable),
    2006: (TroubleKind.AWAY, SourceUnavailable),
    2013: (TroubleKind.AWAY, SourceUnavailable),
    2055: (TroubleKind.AWAY, SourceUnavailable),
    4031: (TroubleKind.AWAY, SourceUnavailable),
    1021: (TroubleKind.LIMIT, SourceLimit),
    1969: (TroubleKind.LIMIT, SourceLimit),
    3024: (TroubleKind.LIMIT, SourceLimit),
    1054: (TroubleKind.DRIFT, SchemaDrift),
    1146: (TroubleKind.DRIFT, SchemaDrift),
    1044: (TroubleKind.DENIED, SourceAccessDenied),
    1045: (TroubleKind.DENIED, SourceAccessDenied),
    1142: (TroubleKind.DENIED, SourceAccessDenied),
    1143: (TroubleKind.DENIED, SourceAccessDenied),
    1449: (TroubleKind.DENIED, SourceAccessDenied),
    1698: (TroubleKind.DENIED, SourceAccessDenied),
    2026: (TroubleKind.DENIED, SourceAccessDenied),
    1792: (TroubleKind.UNFIT, InvalidInput),
    1064: (TroubleKind.BUG, Unexpected),
}


@pytest.mark.parametrize("number", NUMBERS)
def test_numbers_of_mysql_lead_to_their_exit(number: int) -> None:
    """
    Whatever class the driver gives it, the number decides; its words are never shown.
    """
    kind, error = NUMBERS[number]

    trouble = classify(pymysql.err.OperationalError(number, "planted"))

    assert trouble is not None
    assert (trouble.kind, trouble.sqlstate) == (kind, str(number))
    shown = error_for(trouble, ValueError())
    assert type(shown) is error
    assert "planted" not in str(shown)


def test_what_pymysql_says_itself_has_a_meaning() -> None:
    """
    A connection that it closed is away; a certificate that it refused is not worth waiting for.
    """
    closed = pymysql.err.InterfaceError(0, "")
    refused = pymysql.err.OperationalError(2003, "... [SSL: CERTIFICATE_VERIFY_FAILED] ...")
    strange = pymysql.err.ProgrammingError("format requires a mapping")

    assert classify(closed) == Trouble(TroubleKind.AWAY, "connection")
    assert classify(refused) == Trouble(TroubleKind.DENIED, "tls", "2003")
    assert classify(strange) == Trouble(TroubleKind.BUG, "statement")


@pytest.mark.parametrize("driver", ["psycopg", "pymysql"])
def test_a_missing_driver_says_how_to_get_it(driver: str) -> None:
    """
    Each source names its own extra.
    """
    missing = ModuleNotFoundError("planted", name=driver)

    trouble = classify(missing)

    assert trouble is not None
    extra = {"psycopg": "[postgresql]", "pymysql": "[mysql]"}[driver]
    assert extra in error_for(trouble, missing).next_step


@pytest.mark.parametrize(
    "message",
    [
        "connection refused",
        "FATAL:  the database system is starting up",
        "FATAL:  sorry, too many clients already",
        "SSL SYSCALL error: EOF detected",
        "server closed the connection unexpectedly",
    ],
)
def test_a_connection_that_fails_otherwise_is_tried_again(message: str) -> None:
    """
    Restarts, overload and broken lines pass.
    """
    assert classify(psycopg.OperationalError(message)) == Trouble(TroubleKind.AWAY, "connection")


def test_errors_that_are_not_a_drivers_are_left_alone() -> None:
    """
    A bug of ours stays what it is, with its trace.
    """
    assert classify(KeyError("x")) is None

    with pytest.raises(KeyError):
        Policy(10).call(_raising(KeyError("x")))


def _raising(*errors: Exception):  # type: ignore[no-untyped-def]
    left = list(errors)

    def work() -> str:
        if left:
            raise left.pop(0)
        return "done"

    return work


def test_work_is_repeated_until_it_succeeds() -> None:
    """
    Each wait is announced before it is slept, with reason and length.
    """
    heard: list[Waiting] = []
    slept: list[float] = []
    policy = Policy(60, heard.append, slept.append)
    away = [psycopg.OperationalError("gone"), psycopg.errors.AdminShutdown("planted")]

    assert policy.call(_raising(*away)) == "done"
    assert [(waiting.store, waiting.reason) for waiting in heard] == [
        ("source", "connection"),
        ("source", "shutdown"),
    ]
    assert [waiting.seconds for waiting in heard] == slept


def test_the_last_error_is_ours_and_says_where() -> None:
    """
    Nothing of the driver's text, which may hold values, is left in the error.
    """
    away = [psycopg.OperationalError("planted value, planted host")] * 3

    with pytest.raises(SourceUnavailable) as caught:
        Policy(0).call(_raising(*away), {"source": "postgresql://db/profiles"})

    assert caught.value.exit_code == ExitCode.UNREACHABLE
    assert caught.value.where == {
        "source": "postgresql://db/profiles",
        "reason": "connection",
        "error": "OperationalError",
    }
    assert "planted" not in f"{caught.value.what}{caught.value.where}{caught.value.next_step}"
    assert caught.value.__cause__ is None


def test_our_own_errors_pass_unchanged() -> None:
    """
    An error that was understood deeper down is not understood again.
    """
    error = SchemaDrift("changed")

    with pytest.raises(SchemaDrift) as caught:
        Policy(10).call(_raising(error))

    assert caught.value is error


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (sqlite3.SQLITE_BUSY_SNAPSHOT, TroubleKind.AWAY),
        (sqlite3.SQLITE_LOCKED_SHAREDCACHE, TroubleKind.AWAY),
        (sqlite3.SQLITE_CORRUPT_INDEX, TroubleKind.DAMAGED),
        (sqlite3.SQLITE_IOERR_READ, TroubleKind.AWAY),
        (sqlite3.SQLITE_FULL, TroubleKind.LIMIT),
        (sqlite3.SQLITE_ERROR, TroubleKind.BUG),
    ],
)
def test_sqlites_extended_codes_mean_what_their_family_means(code: int, kind: TroubleKind) -> None:
    """
    The low byte decides.
    """
    error = sqlite3.OperationalError("planted")
    error.sqlite_errorcode = code

    trouble = classify(error)

    assert trouble is not None
    assert trouble.kind is kind


def test_every_meaning_has_an_error_of_our_own() -> None:
    """
    No kind of trouble is without words.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        errors = [error_for(Trouble(kind, "x"), ValueError()) for kind in TroubleKind]

    assert all(isinstance(error, MigrateError) and error.next_step for error in errors)
