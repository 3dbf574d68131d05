"""
What each trouble means, and how long it is waited for.
"""

from __future__ import annotations

import socket
import ssl

import pytest
import redis.exceptions
import redis.sentinel

from migrate.errors import TargetAccessDenied, TargetNotWritable, TargetUnavailable, Unexpected
from migrate.model.settings import Node, RedisConfig
from migrate.target.retry import (
    ADVICE,
    CLASSES,
    LONGEST_WAIT_S,
    WAIT_JITTER_S,
    WORDS,
    Kind,
    Patience,
    Trouble,
    classify,
    explain,
    prefix_of,
)
from tests.target.conftest import Heard, Skipping

ERRORS = [
    kind
    for module in (redis.exceptions, redis.sentinel)
    for kind in vars(module).values()
    if isinstance(kind, type) and issubclass(kind, Exception)
]

TEXTS = {
    "OOM command not allowed when used memory > 'maxmemory'.": (Kind.NOT_NOW, "oom"),
    "Error running script (call to f_ab): @user_script:9: @user_script: 9: -OOM command not "
    "allowed when used memory > 'maxmemory'.": (Kind.NOT_NOW, "oom"),
    "Error running script (call to f_ab): @user_script:9: @user_script: 9: -READONLY You can't "
    "write against a read only replica.": (Kind.NOT_NOW, "readonly"),
    "MISCONF Redis is configured to save RDB snapshots": (Kind.NOT_NOW, "misconf"),
    "NOREPLICAS Not enough good replicas to write.": (Kind.NOT_NOW, "noreplicas"),
    "BUSY Redis is busy running a script.": (Kind.NOT_NOW, "busy"),
    "NOAUTH Authentication required.": (Kind.DENIED, "auth"),
    "Error running script (call to f_ab): @user_script:9: @user_script: 9: The user executing the "
    "script can't run this command or subcommand": (Kind.DENIED, "noperm"),
    "DB index is out of range": (Kind.DENIED, "database"),
    "Command # 1 (HSET k OOM MISCONF) of pipeline caused error: NOREPLICAS Not enough": (
        Kind.NOT_NOW,
        "noreplicas",
    ),
    "WRONGTYPE Operation against a key": (Kind.BUG, "reply"),
    "unknown command 'OOM'": (Kind.DENIED, "no-command"),
    "Error running script (call to f_ab): @user_script:9: @user_script: 9: Unknown Redis command "
    "called from Lua script": (Kind.DENIED, "no-command"),
    "DENIED Redis is running in protected mode because": (Kind.DENIED, "protected"),
    "value is not -OOM at all": (Kind.BUG, "reply"),
}


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)
def test_every_class_of_the_driver_is_named(kind: type[Exception]) -> None:
    """
    A new version of the driver with a new exception fails here, not in a run.
    """
    assert kind in CLASSES


@pytest.mark.parametrize("text", TEXTS)
def test_texts_are_known_where_classes_are_not(text: str) -> None:
    """
    Servers say the same thing in several ways, and not every class tells them apart.
    """
    assert classify(redis.exceptions.ResponseError(text)) == Trouble(*TEXTS[text])


def test_a_failed_certificate_is_not_a_lost_connection() -> None:
    """
    The driver wraps what TLS says in a ConnectionError; the cause speaks.
    """
    for cause, reason in (
        (ssl.SSLCertVerificationError("no"), (Kind.DENIED, "tls-verify")),
        (ssl.SSLError("WRONG_VERSION_NUMBER"), (Kind.DENIED, "tls")),
        (ssl.SSLEOFError("EOF"), (Kind.AWAY, "connection")),
        (socket.gaierror("no name"), (Kind.AWAY, "name")),
        (ConnectionRefusedError("no"), (Kind.AWAY, "connection")),
    ):
        error = redis.exceptions.ConnectionError("Error connecting")
        error.__cause__ = cause

        assert classify(error) == Trouble(*reason)


def test_every_reason_has_words_and_advice() -> None:
    """
    Whatever is waited for, or denied, can be said to a person.
    """
    told = [
        trouble.reason
        for trouble in (*CLASSES.values(), *WORDS.values())
        if trouble.waits or trouble.kind is Kind.DENIED
    ]

    assert set(told) <= set(ADVICE)


CONFIG = RedisConfig("target", nodes=(Node("127.0.0.1", 1),), retry_for_s=20)


@pytest.mark.parametrize(
    ("error", "ours", "exit_code"),
    [
        (redis.exceptions.ConnectionError("gone"), TargetUnavailable, 6),
        (redis.exceptions.TimeoutError("slow"), TargetUnavailable, 6),
        (redis.exceptions.BusyLoadingError("loading"), TargetUnavailable, 6),
        (redis.exceptions.OutOfMemoryError("full"), TargetNotWritable, 5),
        (redis.exceptions.ReadOnlyError("replica"), TargetNotWritable, 5),
    ],
)
def test_waits_as_long_as_it_may(
    clock: Skipping, heard: Heard, error: Exception, ours: type[Exception], exit_code: int
) -> None:
    """
    What time may heal is tried again, at growing intervals, told each time, until `retry_for`.
    """
    tried = []

    def attempt() -> None:
        tried.append(1)
        raise error

    with pytest.raises(ours) as caught:
        Patience(CONFIG, heard, clock).call(attempt)

    assert getattr(caught.value, "exit_code", None) == exit_code
    assert clock.elapsed == pytest.approx(20)
    assert len(tried) == len(clock.slept) + 1 == len(heard.waits) + 1
    assert [waiting.seconds for waiting in heard.waits] == clock.slept
    assert {waiting.store for waiting in heard.waits} == {"target"}
    assert max(clock.slept) <= LONGEST_WAIT_S + WAIT_JITTER_S
    assert clock.slept[0] < 0.3 < clock.slept[3]


@pytest.mark.parametrize(
    ("error", "ours", "exit_code"),
    [
        (redis.exceptions.AuthenticationError("wrong"), TargetAccessDenied, 2),
        (redis.exceptions.NoPermissionError("no"), TargetAccessDenied, 2),
        (redis.exceptions.DataError("None"), Unexpected, 1),
        (redis.exceptions.MaxConnectionsError("pool"), Unexpected, 1),
        (redis.exceptions.ResponseError("WRONGTYPE no"), Unexpected, 1),
    ],
)
def test_what_waiting_does_not_help_is_said_at_once(
    clock: Skipping, heard: Heard, error: Exception, ours: type[Exception], exit_code: int
) -> None:
    """
    A wrong password is tried once: repeating it locks accounts.
    """
    tried = []

    def attempt() -> None:
        tried.append(1)
        raise error

    with pytest.raises(ours) as caught:
        Patience(CONFIG, heard, clock).call(attempt)

    assert getattr(caught.value, "exit_code", None) == exit_code
    assert (len(tried), clock.slept, heard.waits) == (1, [], [])


def test_our_own_bugs_pass_through(clock: Skipping, heard: Heard) -> None:
    """
    An error that is not the driver's is not dressed up as trouble with Redis.
    """
    with pytest.raises(ZeroDivisionError):
        Patience(CONFIG, heard, clock).call(lambda: 1 // 0)


def test_no_text_of_a_server_is_shown() -> None:
    """
    A server's error may repeat arguments; ours holds its first word and the class, no more.
    """
    error = redis.exceptions.ResponseError(
        "value is not an integer or out of range: 'CANARY-VALUE'", status_code="ERR"
    )

    ours = explain(error, CONFIG)

    assert "CANARY" not in f"{ours} {ours.where} {ours.next_step}"
    assert ours.where["prefix"] == prefix_of(error) == "ERR"
