"""
What a server says of itself: identity, health, and whether it is safe to write to.

Of a Cluster every master is asked, and the worst of them speaks for all. A command that this user
or this server does not have leaves None, never a guess.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from hashlib import blake2b
from typing import Any

from migrate.model.ports import Clock
from migrate.model.values import ServerIdentity
from migrate.target.detect import ROLES, Detected, flavour_of
from migrate.target.link import Link

SAFE_POLICY = "noeviction"
"""The only policy under which Redis never drops a record on its own."""

SLOW_SLOWLOG_US = 10_000
"""A slow log with a lower threshold shows commands, and with them values, of ordinary writes."""


@dataclass(frozen=True, slots=True)
class TargetHealth:
    """
    One look at a server; None for what is hidden from this user.

    Of a Cluster it shows the worst of all masters, and sums where numbers add up. Memory is shown
    as if every master were as full as the fullest: a Cluster is full when one of them is.

    Args:
        role: master or replica.

        maxmemory: Bytes; 0 is without limit.

        policy: Of eviction.

        aof: Whether every write is logged to disk.

        rdb: Whether snapshots are taken.

        min_replicas: Replicas that must be there for a write to be taken.

        latency_ms: Of one PING.

        time: The server's clock, seconds since 1970.

        slowlog_us: Commands slower than this are kept with their arguments; -1 keeps none.

        keys: In this database.

        servers: Of a Cluster, each master by its address.
    """

    role: str | None
    maxmemory: int | None
    used_memory: int | None
    policy: str | None
    aof: bool | None
    rdb: bool | None
    evicted_keys: int | None
    expired_keys: int | None
    replicas: int | None
    min_replicas: int | None
    latency_ms: float
    time: float | None
    slowlog_us: int | None
    keys: int | None
    servers: Mapping[str, TargetHealth] = field(default_factory=dict)

    def to_dict(self) -> dict[str, object]:
        """
        The same for `--json`.
        """
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Signals:
    """
    What the throttle looks at; of a Cluster the fullest master and the slowest.

    Args:
        used_memory: 0 where it is hidden from this user.

        maxmemory: 0 is without limit, or hidden from this user.
    """

    used_memory: int
    maxmemory: int
    latency_ms: float


@dataclass(frozen=True, slots=True)
class Concern:
    """
    A reason to think twice before writing to a server.

    Args:
        check: Stable kebab-case name.

        refuses: A backfill stops here unless it is accepted; otherwise it is worth a warning.
    """

    check: str
    message: str
    fix: str
    refuses: bool = True


def read_identity(link: Link, detected: Detected) -> ServerIdentity:
    """
    Who is the master now, whoever it was before.

    Without INFO a restart cannot be seen: `run_id` is then empty.

    Of a Cluster the ids are digests of those of all masters that own slots, so that a restart or a
    failover of any of them shows.
    """
    link.renew()
    found = link.each(lambda one: _identity(one, detected))
    identities = list(found.values())
    if len(identities) == 1:
        return identities[0]
    return replace(
        identities[0],
        flavour=",".join(sorted({one.flavour for one in identities})),
        version=",".join(sorted({one.version for one in identities})),
        run_id=_digest([one.run_id for one in identities]),
        replication_id=_digest([one.replication_id for one in identities]),
        offset=sum(one.offset for one in identities),
    )


def _identity(link: Link, detected: Detected) -> ServerIdentity:
    server, replication = (
        _strings(reply) for reply in link.ask_all([("INFO", "server"), ("INFO", "replication")])
    )
    flavour, version = flavour_of(server) if server else (detected.flavour, detected.version)
    return ServerIdentity(
        address=link.config.address,
        topology=str(detected.topology),
        flavour=flavour,
        version=version,
        run_id=server.get("run_id", ""),
        replication_id=replication.get("master_replid", ""),
        offset=int(replication.get("master_repl_offset", 0)),
    )


def _digest(ids: Sequence[str]) -> str:
    """
    As long as one id; empty where one is hidden.
    """
    if not all(ids):
        return ""
    return blake2b(" ".join(sorted(ids)).encode(), digest_size=20).hexdigest()


def read_health(link: Link, clock: Clock) -> TargetHealth:
    """
    Look at the server. Reads only.
    """
    found = link.each(lambda one: _health(one, clock))
    return next(iter(found.values())) if len(found) == 1 else _worst(found)


def _health(link: Link, clock: Clock) -> TargetHealth:
    said = _strings(link.ask("INFO"))
    # One by one: where CONFIG is refused for one parameter it may be allowed for another.
    config = {name: _setting(link, name) for name in _SETTINGS}
    moment = link.ask("TIME")
    return TargetHealth(
        role=ROLES.get(said.get("role", "")),
        maxmemory=_number(said.get("maxmemory") or config["maxmemory"]),
        used_memory=_number(said.get("used_memory")),
        policy=said.get("maxmemory_policy") or config["maxmemory-policy"],
        aof=_flag(said.get("aof_enabled"), config["appendonly"]),
        rdb=None if config["save"] is None else bool(config["save"]),
        evicted_keys=_number(said.get("evicted_keys")),
        expired_keys=_number(said.get("expired_keys")),
        replicas=_number(said.get("connected_slaves")),
        min_replicas=_number(config["min-replicas-to-write"]),
        latency_ms=ping_ms(link, clock),
        time=None if moment is None else moment[0] + moment[1] / 1e6,
        slowlog_us=_number(config["slowlog-log-slower-than"]),
        keys=link.ask("DBSIZE"),
    )


def _worst(servers: Mapping[str, TargetHealth]) -> TargetHealth:
    all_ = list(servers.values())
    maxmemory, used_memory = _fullest(all_)
    lacking = min(all_, key=lambda one: (one.replicas or 0) - (one.min_replicas or 0))
    return TargetHealth(
        role=_first([one.role for one in all_], "replica"),
        maxmemory=maxmemory,
        used_memory=used_memory,
        policy=_first([one.policy for one in all_ if one.policy != SAFE_POLICY] or [SAFE_POLICY]),
        aof=_all([one.aof for one in all_]),
        rdb=_all([one.rdb for one in all_]),
        evicted_keys=_sum([one.evicted_keys for one in all_]),
        expired_keys=_sum([one.expired_keys for one in all_]),
        replicas=lacking.replicas,
        min_replicas=lacking.min_replicas,
        latency_ms=max(one.latency_ms for one in all_),
        time=max((one.time for one in all_ if one.time is not None), default=None),
        slowlog_us=min(
            (one.slowlog_us for one in all_ if (one.slowlog_us or 0) >= 0 and one.slowlog_us),
            default=all_[0].slowlog_us,
        ),
        keys=_sum([one.keys for one in all_]),
        servers=servers,
    )


def _fullest(servers: Sequence[TargetHealth]) -> tuple[int | None, int | None]:
    """
    The limits of all together, and what would be used if each were as full as the fullest.
    """
    limit, used = (
        _sum([one.maxmemory for one in servers]),
        _sum([one.used_memory for one in servers]),
    )
    if limit is None or used is None:
        return limit, used
    if any(one.maxmemory == 0 for one in servers):
        return 0, used
    return limit, round(limit * max(_share(one.used_memory, one.maxmemory) for one in servers))


def _share(used: int | None, limit: int | None) -> float:
    return (used or 0) / limit if limit else 0.0


def _sum(numbers: Sequence[int | None]) -> int | None:
    known = [number for number in numbers if number is not None]
    return sum(known) if len(known) == len(numbers) else None


def _all(flags: Sequence[bool | None]) -> bool | None:
    if False in flags:
        return False
    return None if None in flags else True


def _first(words: Sequence[str | None], worst: str | None = None) -> str | None:
    """
    The worst word, or one that is hidden, or whichever is first.
    """
    if worst in words:
        return worst
    return None if None in words else words[0]


def read_signals(link: Link, clock: Clock) -> Signals:
    """
    The few numbers that the throttle needs, cheaply.
    """
    found = list(link.each(lambda one: _signals(one, clock)).values())
    fullest = max(found, key=lambda one: _share(one.used_memory, one.maxmemory))
    return replace(fullest, latency_ms=max(one.latency_ms for one in found))


def _signals(link: Link, clock: Clock) -> Signals:
    memory = _strings(link.ask("INFO", "memory"))
    return Signals(
        _number(memory.get("used_memory")) or 0,
        _number(memory.get("maxmemory")) or 0,
        ping_ms(link, clock),
    )


def ping_ms(link: Link, clock: Clock) -> float:
    """
    One round trip in milliseconds.
    """
    started = clock.now()
    link.command("PING")
    return (clock.now() - started) * 1000


Check = Callable[[TargetHealth], Concern | None]


def unsafe(health: TargetHealth) -> list[Concern]:
    """
    Why this server might lose or refuse what is written to it, worst first.
    """
    concerns = [found for check in _CHECKS if (found := _concern(check, health)) is not None]
    return sorted(concerns, key=lambda concern: not concern.refuses)


def _concern(check: Check, health: TargetHealth) -> Concern | None:
    """
    What a check finds; of a Cluster, with the first master where it does.
    """
    for address, server in health.servers.items():
        found = check(server)
        if found is not None:
            return replace(found, message=f"{address}: {found.message}")
    return None if health.servers else check(health)


def _evicts(health: TargetHealth) -> Concern | None:
    if health.policy == SAFE_POLICY:
        return None
    what = (
        f"maxmemory-policy is {health.policy}: a full Redis drops records without an error."
        if health.policy
        else "maxmemory-policy cannot be read: Redis may drop records without an error."
    )
    return Concern(
        "eviction", what, "CONFIG SET maxmemory-policy noeviction, or accept that this is a cache."
    )


def _is_replica(health: TargetHealth) -> Concern | None:
    if health.role != "replica":
        return None
    return Concern(
        "replica", "This server is a replica and takes no writes.", "Configure its master."
    )


def _forgets(health: TargetHealth) -> Concern | None:
    if health.aof is not False:
        return None
    kept = "snapshots alone lose the last minutes" if health.rdb else "a restart loses everything"
    return Concern(
        "persistence",
        f"The append-only file is off: {kept}.",
        "CONFIG SET appendonly yes; otherwise a restart has its records written again.",
        refuses=False,
    )


def _shows_values(health: TargetHealth) -> Concern | None:
    if health.slowlog_us is None or not 0 <= health.slowlog_us < SLOW_SLOWLOG_US:
        return None
    return Concern(
        "slowlog",
        f"The slow log keeps commands of {health.slowlog_us} microseconds and more, with values.",
        f"CONFIG SET slowlog-log-slower-than {SLOW_SLOWLOG_US}",
        refuses=False,
    )


def _lacks_replicas(health: TargetHealth) -> Concern | None:
    if not health.min_replicas or health.replicas is None:
        return None
    if health.replicas >= health.min_replicas:
        return None
    return Concern(
        "min-replicas",
        f"{health.replicas} replicas are there and {health.min_replicas} are needed for a write.",
        "Bring the replicas back, or lower min-replicas-to-write.",
    )


_CHECKS: tuple[Check, ...] = (
    _evicts,
    _is_replica,
    _lacks_replicas,
    _forgets,
    _shows_values,
)

_SETTINGS = (
    "maxmemory",
    "maxmemory-policy",
    "appendonly",
    "save",
    "min-replicas-to-write",
    "slowlog-log-slower-than",
)


def _setting(link: Link, name: str) -> str | None:
    reply = link.ask("CONFIG GET", name)
    if not reply:
        return None
    found = {_text(key): _text(value) for key, value in dict(reply).items()}
    return found.get(name)


def _strings(reply: Mapping[Any, Any] | None) -> dict[str, str]:
    return {_text(name): _text(value) for name, value in (reply or {}).items()}


def _number(text: str | None) -> int | None:
    return int(text) if text and text.lstrip("-").isdecimal() else None


def _flag(digit: str | None, word: str | None) -> bool | None:
    if digit is not None:
        return digit == "1"
    return None if word is None else word == "yes"


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
