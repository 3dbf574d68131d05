"""
Where waiting for Redis lives: one table that names each trouble, one policy that waits.

redis-py's own retries are off (ADR 0007), because they repeat permanent errors and are never seen.
Texts of servers are matched here and shown nowhere: they may hold arguments of commands.
"""

from __future__ import annotations

import re
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TypeVar

import redis.exceptions as theirs
from redis.sentinel import MasterNotFoundError, SlaveNotFoundError
from tenacity import RetryCallState, Retrying, retry_if_exception, wait_exponential, wait_random

from migrate.errors import (
    MigrateError,
    TargetAccessDenied,
    TargetNotWritable,
    TargetUnavailable,
    Unexpected,
)
from migrate.model.events import Notify, Waiting
from migrate.model.ports import Clock
from migrate.model.settings import RedisConfig

T = TypeVar("T")

FIRST_WAIT_S = 0.1
"""Before the second attempt; doubled before each further one."""

LONGEST_WAIT_S = 3.0
"""No single wait is longer, so that a server that is back is noticed."""

WAIT_JITTER_S = 0.1
"""Random part of each wait, so that workers do not return in step."""

STORE = "target"
"""How this side names itself in `Waiting`."""


class Kind(Enum):
    """
    What to do about a trouble.
    """

    AWAY = "away"
    """Nobody answers: wait, then exit 6."""
    NOT_NOW = "not now"
    """Somebody answers and takes no writes: wait, then exit 5."""
    DENIED = "denied"
    """Waiting does not help, a person must change something: exit 2 at once."""
    FORGOTTEN = "forgotten"
    """The script cache is empty: load the script and run it again."""
    BUG = "bug"
    """We asked for something that makes no sense: exit 1 at once."""


WAITS = frozenset({Kind.AWAY, Kind.NOT_NOW})
"""The kinds that time may heal."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """
    What an exception means.

    Args:
        reason: Short and closed; the `reason` of `Waiting`.
    """

    kind: Kind
    reason: str

    @property
    def waits(self) -> bool:
        """
        Whether it is worth another attempt later.
        """
        return self.kind in WAITS


def _table(kind: Kind, **reasons: str) -> dict[str, Trouble]:
    return {word: Trouble(kind, reason) for word, reason in reasons.items()}


WORDS: Mapping[str, Trouble] = {
    **_table(Kind.AWAY, LOADING="loading"),
    **_table(
        Kind.NOT_NOW,
        OOM="oom",
        READONLY="readonly",
        MISCONF="misconf",
        NOREPLICAS="noreplicas",
        BUSY="busy",
        MASTERDOWN="masterdown",
        CLUSTERDOWN="clusterdown",
        TRYAGAIN="resharding",
        ASK="resharding",
        UNBLOCKED="busy",
    ),
    **_table(Kind.DENIED, NOAUTH="auth", WRONGPASS="auth", NOPERM="noperm", MOVED="cluster"),
    **_table(Kind.DENIED, DENIED="protected"),
    **_table(Kind.FORGOTTEN, NOSCRIPT="noscript"),
}
"""The first word of an error reply, whatever class the driver gives it."""

FAILOVER = "sentinels do not agree on the master yet"
"""Our own words, in an error that is raised while a failover goes on."""

PHRASES: tuple[tuple[str, Trouble], ...] = (
    ("max number of clients reached", Trouble(Kind.AWAY, "max-clients")),
    ("previous master is now a slave", Trouble(Kind.NOT_NOW, "readonly")),
    (FAILOVER, Trouble(Kind.NOT_NOW, "failover")),
    ("TTL exhausted", Trouble(Kind.NOT_NOW, "resharding")),
    ("AuthenticationError", Trouble(Kind.DENIED, "sentinel-auth")),
    ("user executing the script can't", Trouble(Kind.DENIED, "noperm")),
    ("ACL failure in script", Trouble(Kind.DENIED, "noperm")),
    ("unknown command", Trouble(Kind.DENIED, "no-command")),
    ("Unknown Redis command", Trouble(Kind.DENIED, "no-command")),
    ("DB index is out of range", Trouble(Kind.DENIED, "database")),
    ("invalid bulk length", Trouble(Kind.DENIED, "too-large")),
    ("SELECT is not allowed in cluster mode", Trouble(Kind.DENIED, "database")),
    ("Please provide at least one reachable node", Trouble(Kind.AWAY, "connection")),
)
"""What has no word of its own; some of these texts are the driver's, not the server's."""

CLASSES: Mapping[type[BaseException], Trouble] = {
    theirs.RedisError: Trouble(Kind.BUG, "error"),
    theirs.ResponseError: Trouble(Kind.BUG, "reply"),
    theirs.ConnectionError: Trouble(Kind.AWAY, "connection"),
    theirs.TimeoutError: Trouble(Kind.AWAY, "timeout"),
    theirs.BusyLoadingError: Trouble(Kind.AWAY, "loading"),
    theirs.InvalidResponse: Trouble(Kind.AWAY, "connection"),
    theirs.MaxConnectionsError: Trouble(Kind.BUG, "pool"),
    MasterNotFoundError: Trouble(Kind.AWAY, "no-master"),
    SlaveNotFoundError: Trouble(Kind.AWAY, "no-master"),
    theirs.AuthenticationError: Trouble(Kind.DENIED, "auth"),
    theirs.AuthenticationWrongNumberOfArgsError: Trouble(Kind.DENIED, "auth"),
    theirs.AuthorizationError: Trouble(Kind.DENIED, "auth"),
    theirs.ExternalAuthProviderError: Trouble(Kind.DENIED, "auth"),
    theirs.NoPermissionError: Trouble(Kind.DENIED, "noperm"),
    theirs.OutOfMemoryError: Trouble(Kind.NOT_NOW, "oom"),
    theirs.ReadOnlyError: Trouble(Kind.NOT_NOW, "readonly"),
    theirs.ClusterError: Trouble(Kind.NOT_NOW, "clusterdown"),
    theirs.ClusterDownError: Trouble(Kind.NOT_NOW, "clusterdown"),
    theirs.MasterDownError: Trouble(Kind.NOT_NOW, "masterdown"),
    theirs.TryAgainError: Trouble(Kind.NOT_NOW, "resharding"),
    theirs.AskError: Trouble(Kind.NOT_NOW, "resharding"),
    theirs.MovedError: Trouble(Kind.DENIED, "cluster"),
    theirs.SlotNotCoveredError: Trouble(Kind.NOT_NOW, "clusterdown"),
    theirs.NoScriptError: Trouble(Kind.FORGOTTEN, "noscript"),
    theirs.RedisClusterException: Trouble(Kind.BUG, "cluster-use"),
    theirs.ClusterCrossSlotError: Trouble(Kind.BUG, "cluster-use"),
    theirs.CrossSlotTransactionError: Trouble(Kind.BUG, "cluster-use"),
    theirs.InvalidPipelineStack: Trouble(Kind.BUG, "cluster-use"),
    theirs.IncorrectPolicyType: Trouble(Kind.BUG, "cluster-use"),
    theirs.ExecAbortError: Trouble(Kind.BUG, "transaction"),
    theirs.WatchError: Trouble(Kind.BUG, "transaction"),
    theirs.DataError: Trouble(Kind.BUG, "data"),
    theirs.PubSubError: Trouble(Kind.BUG, "unused"),
    theirs.ModuleError: Trouble(Kind.BUG, "unused"),
    # Redis-py 7 does not have it yet.
    getattr(theirs, "NoSuchFieldsetError", theirs.ModuleError): Trouble(Kind.BUG, "unused"),
    theirs.LockError: Trouble(Kind.BUG, "unused"),
    theirs.LockNotOwnedError: Trouble(Kind.BUG, "unused"),
    theirs.ChildDeadlockedError: Trouble(Kind.BUG, "unused"),
    ssl.SSLCertVerificationError: Trouble(Kind.DENIED, "tls-verify"),
    ssl.SSLEOFError: Trouble(Kind.AWAY, "connection"),
    ssl.SSLZeroReturnError: Trouble(Kind.AWAY, "connection"),
    ssl.SSLError: Trouble(Kind.DENIED, "tls"),
    socket.gaierror: Trouble(Kind.AWAY, "name"),
    TimeoutError: Trouble(Kind.AWAY, "timeout"),
    OSError: Trouble(Kind.AWAY, "connection"),
}
"""Every class that the driver raises; what is under it in the chain of causes speaks first."""

DRIVER_ERRORS: tuple[type[Exception], ...] = (
    theirs.RedisError,
    theirs.RedisClusterException,
    theirs.IncorrectPolicyType,
    theirs.ChildDeadlockedError,
    OSError,
)
"""What an attempt may raise that is not one of our errors; anything else is a bug of ours."""

_FIRST_WORD = re.compile(r"^-?([A-Z]{3,})\b")
# Redis 6.2 wraps what a command inside a script answered: "... @user_script: 12: -OOM command ..."
_INNER_WORD = re.compile(r"@user_script: ?\d+: -([A-Z]{3,})\b")
_TLS = (ssl.SSLError, socket.gaierror)


def classify(error: BaseException) -> Trouble:
    """
    What an exception of the driver means, by its causes, its words and its class, in this order.

    A failed login is a `ConnectionError` to the driver, and a full memory inside a script is a
    plain `ResponseError` on Redis 6.2: neither class nor text alone would do.
    """
    for cause in _causes(error):
        if isinstance(cause, _TLS):
            return _by_class(cause)
    for part in (error, *_causes(error)):
        found = _by_text(part)
        if found is not None:
            return found
    return _by_class(error)


def prefix_of(error: BaseException) -> str:
    """
    The first word of an error reply, which never holds data; the class name where it has none.
    """
    status = getattr(error, "status_code", None)
    text = _server_text(error)
    match = _INNER_WORD.search(text) or _FIRST_WORD.match(text)
    return match.group(1) if match else status or type(error).__name__


def _server_text(error: BaseException) -> str:
    # In a transaction the driver puts the command, values included, before the server's words.
    return str(error).rpartition("of pipeline caused error: ")[2]


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen = {id(error)}
    cause = error.__cause__ or error.__context__
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__ or cause.__context__


def _by_text(error: BaseException) -> Trouble | None:
    if not isinstance(error, DRIVER_ERRORS):
        return None
    word = WORDS.get(prefix_of(error))
    if word is not None:
        return word
    text = _server_text(error)
    return next((trouble for phrase, trouble in PHRASES if phrase in text), None)


def _by_class(error: BaseException) -> Trouble:
    for base in type(error).__mro__:
        if base in CLASSES:
            return CLASSES[base]
    return Trouble(Kind.BUG, "error")


@dataclass(frozen=True, slots=True)
class Advice:
    """
    What a reason means to a person, and what to do.
    """

    what: str
    next_step: str


AGAIN = "Then run the same command again: it continues where it stopped."

ADVICE: Mapping[str, Advice] = {
    "connection": Advice(
        "Redis cannot be reached, or it closes the connection.",
        f"Start it, or correct host, port and TLS (a TLS port closes plain connections). {AGAIN}",
    ),
    "timeout": Advice(
        "Redis does not answer in time.",
        "See what blocks it (SLOWLOG GET) and whether its port speaks TLS as configured, "
        f"or raise `timeout`. {AGAIN}",
    ),
    "name": Advice(
        "The host name of Redis cannot be resolved.", f"Correct the name or the resolver. {AGAIN}"
    ),
    "loading": Advice(
        "Redis is still loading its data.", f"Wait until it is done, or raise `retry_for`. {AGAIN}"
    ),
    "max-clients": Advice(
        "Redis accepts no further client.", f"Close clients or raise maxclients. {AGAIN}"
    ),
    "no-master": Advice(
        "The sentinels name no master that is up.",
        f"Check `service` and SENTINEL MASTERS. {AGAIN}",
    ),
    "oom": Advice(
        "Redis is out of memory (maxmemory) and takes no writes.",
        f"Raise maxmemory or free memory. {AGAIN}",
    ),
    "readonly": Advice(
        "Redis is a replica and takes no writes.",
        f"Point the configuration at the master, or promote this server. {AGAIN}",
    ),
    "misconf": Advice(
        "Redis cannot save to disk and takes no writes.",
        f"See its log; most often its disk is full. {AGAIN}",
    ),
    "noreplicas": Advice(
        "Redis has fewer replicas than min-replicas-to-write asks for.",
        f"Bring the replicas back. {AGAIN}",
    ),
    "busy": Advice(
        "Redis is busy with a script of someone.", f"Wait for it, or SCRIPT KILL it. {AGAIN}"
    ),
    "masterdown": Advice(
        "Redis is a replica that lost its master.", f"Bring the master back. {AGAIN}"
    ),
    "failover": Advice(
        "A failover is going on: the sentinels do not agree on the master yet.",
        f"Wait until it is over: SENTINEL MASTERS. {AGAIN}",
    ),
    "clusterdown": Advice("The cluster is down.", f"Repair it: CLUSTER INFO. {AGAIN}"),
    "resharding": Advice("The cluster is moving slots.", f"Wait until resharding is done. {AGAIN}"),
    "auth": Advice(
        "Redis refused user or password.",
        "Correct `username` and `password_file` of this instance.",
    ),
    "sentinel-auth": Advice(
        "The sentinels refused user or password.",
        "Correct `sentinel_username` and `sentinel_password_file` of this instance.",
    ),
    "noperm": Advice(
        "This Redis user may not run a command, or not on these keys.",
        "Give it the ACL line that `profile-migrate doctor` prints.",
    ),
    "protected": Advice(
        "Redis is in protected mode and serves its own machine only.",
        "Give that server a password, and this instance its `password_file`.",
    ),
    "no-command": Advice(
        "This server does not have a command that we need: renamed, switched off, or no Redis.",
        "`profile-migrate doctor` names it; give it back in redis.conf (rename-command).",
    ),
    "database": Advice(
        "Redis has no database of this number.", "Correct the number at the end of the url."
    ),
    "too-large": Advice(
        "A record is larger than this Redis takes (proto-max-bulk-len).",
        f"CONFIG SET proto-max-bulk-len 512mb. {AGAIN}",
    ),
    "cluster": Advice(
        "This server is part of a Redis Cluster.",
        "Remove `topology` from this instance, or set it to cluster.",
    ),
    "tls-verify": Advice(
        "The certificate of Redis cannot be verified.",
        "Set `tls.ca_file` to the CA that signed it, and use a host name that it carries.",
    ),
    "tls": Advice(
        "Redis and we do not agree on TLS.",
        "Check that the port speaks TLS and, where it asks for one, the client certificate.",
    ),
}
"""One entry for each reason that waits or is denied."""

_ERRORS: Mapping[Kind, type[MigrateError]] = {
    Kind.AWAY: TargetUnavailable,
    Kind.NOT_NOW: TargetNotWritable,
    Kind.DENIED: TargetAccessDenied,
}


def explain(error: BaseException, config: RedisConfig, waited_s: float = 0.0) -> MigrateError:
    """
    Our error for one of the driver's: our words only, never the server's text.
    """
    trouble = classify(error)
    where: dict[str, object] = {
        "redis": config.name,
        "address": config.address,
        "reason": trouble.reason,
    }
    if trouble.waits:
        where["waited_s"] = round(waited_s, 1)
    kind = _ERRORS.get(trouble.kind)
    if kind is None:
        where |= {"error": type(error).__name__, "prefix": prefix_of(error)}
        return Unexpected(
            "Redis refused a command that it should have taken.",
            where=where,
            next_step="Please report this with the server's name and version.",
        )
    advice = ADVICE[trouble.reason]
    return kind(advice.what, where=where, next_step=advice.next_step)


class SystemClock:
    """
    The real clock: never goes back, and sleeps.
    """

    def now(self) -> float:
        """
        Seconds since some moment.
        """
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """
        Wait for all of it.
        """
        time.sleep(seconds)


class Patience:
    """
    The one retry policy for Redis: waits for what time may heal, as long as `retry_for` allows.

    Everything that is attempted must be repeatable: an attempt whose answer was lost has happened.
    """

    def __init__(self, config: RedisConfig, notify: Notify, clock: Clock) -> None:
        self._config = config
        self._notify = notify
        self._clock = clock

    def call(self, attempt: Callable[[], T]) -> T:
        """
        What the attempt returns, at the first or a later try.

        Raises:
            TargetUnavailable: Nobody answered for as long as we may wait.
            TargetNotWritable: Redis said "not now" for as long as we may wait.
            TargetAccessDenied: Redis refused us; not tried again.
            Unexpected: Anything else that the driver raises; not tried again.
        """
        started = self._clock.now()
        end = started + self._config.retry_for_s
        grow = wait_exponential(multiplier=FIRST_WAIT_S, max=LONGEST_WAIT_S) + wait_random(
            0, WAIT_JITTER_S
        )
        policy = Retrying(
            retry=retry_if_exception(_heals),
            wait=lambda state: min(grow(state), max(0.0, end - self._clock.now())),
            stop=lambda state: self._clock.now() >= end,
            sleep=self._clock.sleep,
            before_sleep=self._tell,
            reraise=True,
        )
        try:
            return policy(attempt)
        except DRIVER_ERRORS as error:
            raise explain(error, self._config, self._clock.now() - started) from None

    def _tell(self, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        if error is not None:
            self._notify(Waiting(STORE, classify(error).reason, state.upcoming_sleep))


class Impatient(Patience):
    """
    Tries once and lets the driver's errors through: for use inside an attempt of another.
    """

    def __init__(self) -> None:
        """
        There is nothing to wait by.
        """

    def call(self, attempt: Callable[[], T]) -> T:
        """
        What the attempt returns at the first try.
        """
        return attempt()


def _heals(error: BaseException) -> bool:
    return isinstance(error, DRIVER_ERRORS) and classify(error).waits
