"""
The checks of the target. Writes nothing that anybody could see.

An Active-Active database cannot be told from others by its commands (docs/limits.md).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from migrate.errors import TargetNotWritable, TargetUnavailable
from migrate.model.settings import RedisConfig, Settings, ThrottleConfig
from migrate.stages.checks import Check, failed, ok, skipped, warning
from migrate.stages.ledger_checks import Known
from migrate.target.health import TargetHealth, unsafe
from migrate.target.probe import UNTRIED, Probed
from migrate.target.store import RedisTarget

OLDEST = (6, 2)
"""The oldest Redis that is tested; every Valkey is newer."""


@dataclass(frozen=True, slots=True)
class Aspect:
    """
    One thing to worry about, where `unsafe` does not.

    Args:
        fine: What to say then.

        known: Whether the server told us enough to say it.
    """

    fine: str
    known: Callable[[TargetHealth], bool]


ASPECTS: Mapping[str, Aspect] = {
    "eviction": Aspect("A full Redis refuses writes and drops nothing.", lambda h: True),
    "replica": Aspect("The server is a master.", lambda h: h.role is not None),
    "min-replicas": Aspect(
        "As many replicas are there as a write needs.",
        lambda h: h.min_replicas is not None and h.replicas is not None,
    ),
    "persistence": Aspect("The append-only file is on.", lambda h: h.aof is not None),
    "slowlog": Aspect("The slow log keeps no ordinary write.", lambda h: h.slowlog_us is not None),
}
"""By the names of `target.health.Concern`."""

_OTHERWISE: Mapping[str, str] = {
    "OOM": "Raise maxmemory or free memory.",
    "READONLY": "Point the configuration at the master.",
    "MISCONF": "See the server's log; most often its disk is full.",
    "NOREPLICAS": "Bring the replicas back.",
}
"""What to do where a command failed for another reason than permission, by the error's word."""


def tls_check(config: RedisConfig) -> Check:
    """
    Whether the connection is encrypted and the server proves who it is.
    """
    name = "target.tls"
    if config.tls is None:
        return skipped(name, "Connections are not encrypted: no `tls` is configured.")
    if not config.tls.verify:
        return warning(
            name,
            "Certificates are not verified: anybody in between can read and change everything.",
            f"Set redis.{config.name}.tls.ca_file and remove `verify: false`.",
        )
    return ok(name, "Certificate and host name are verified.")


def reach_checks(target: RedisTarget, address: str) -> Iterator[Check]:
    """
    What the target was found to be.
    """
    found = target.detected
    server = f"{found.flavour} {found.version}".strip() or "A server that hides its version"
    yield ok("target.reach", f"{server}, {found.topology}, {found.role}, at {address}.")
    yield version_check(found.flavour, found.version)


def version_check(flavour: str, version: str) -> Check:
    """
    Whether this release was tested with such a server.
    """
    name = "target.version"
    numbers = re.match(r"(\d+)\.(\d+)", version)
    if numbers is None:
        return warning(
            name,
            "The version cannot be read.",
            "Allow INFO, or make sure that it is Redis 6.2 or later, or Valkey.",
        )
    if flavour == "redis" and (int(numbers[1]), int(numbers[2])) < OLDEST:
        return failed(
            name, f"Redis {version} is older than 6.2.", "Upgrade to Redis 6.2 or later, or Valkey."
        )
    return ok(name, f"{flavour} {version} is supported.")


def health_checks(health: TargetHealth, throttle: ThrottleConfig) -> Iterator[Check]:
    """
    Whether the server would lose or refuse what is written to it.
    """
    concerns = {concern.check: concern for concern in unsafe(health)}
    for check, aspect in ASPECTS.items():
        name, concern = f"target.{check}", concerns.get(check)
        if concern is not None:
            make = failed if concern.refuses else warning
            yield make(name, concern.message, concern.fix)
        elif aspect.known(health):
            yield ok(name, aspect.fine)
        else:
            yield skipped(name, "Hidden from this user.")
    yield memory_check(health, throttle)


def memory_check(health: TargetHealth, throttle: ThrottleConfig) -> Check:
    """
    How full the server is, against the throttle's limit.
    """
    name = "target.memory"
    if health.maxmemory is None or health.used_memory is None:
        return skipped(name, "Hidden from this user.")
    if health.maxmemory == 0:
        return warning(
            name,
            "maxmemory is not set: Redis grows until the machine has no memory left.",
            "CONFIG SET maxmemory to what this machine can give.",
        )
    share, limit = health.used_memory / health.maxmemory, throttle.redis_memory
    what = f"{share:.0%} of maxmemory is used; the throttle's limit is {limit:.0%}."
    if share > limit:
        return failed(name, what, "Raise maxmemory, free memory, or raise throttle.redis_memory.")
    return ok(name, what)


def command_checks(probed: Sequence[Probed], rule: str) -> Iterator[Check]:
    """
    Whether this user may run every command; the fix is the smallest rule that allows all of them.
    """
    for name, required in (("target.commands", True), ("target.optional-commands", False)):
        refused = [probe for probe in probed if not probe.ok and probe.required is required]
        make = failed if required else warning
        if refused:
            what = ", ".join(dict.fromkeys(map(_refusal, refused)))
            cost = "" if required else " Less can be told about the server, and no restart noticed."
            yield make(name, f"Refused: {what}.{cost}", _remedy(refused, rule))
        else:
            yield ok(name, "This user may run each of them.")


def bulk_checks(target: RedisTarget, settings: Settings, rule: str) -> Iterator[Check]:
    """
    Whether records can be written as ready payloads, or each of them by the script.
    """
    name = "target.bulk"
    if not settings.bulk:
        yield skipped(name, "Switched off: every record is written by the script.")
        return
    try:
        unfit = target.bulk_unfit()
    except (TargetNotWritable, TargetUnavailable) as error:
        yield skipped(name, f"Not to be tried now: {error.what}")
        return
    if unfit is None:
        yield ok(name, "Records without lookups and time to live are written by RESTORE.")
    elif unfit.denied:
        yield warning(name, f"{unfit.what} {_SLOWER}", rule)
    else:
        yield skipped(name, f"{unfit.what} {_SLOWER}")


_SLOWER = "Every record is written by the script, which is slower."


def _refusal(probe: Probed) -> str:
    at = f" on {probe.key.rpartition(':')[0]}:*" if ":" in probe.key else ""
    return f"{probe.command}{at} ({probe.error})"


def _remedy(refused: Sequence[Probed], rule: str) -> str:
    words = {probe.error for probe in refused} - {UNTRIED}
    known = [fix for word, fix in _OTHERWISE.items() if word in {w.upper() for w in words}]
    return known[0] if known and len(words) == 1 else rule


def fence_checks(target: RedisTarget, mapping: str, known: Known) -> Iterator[Check]:
    """
    Whose records of this mapping the target holds.
    """
    name = f"mapping.{mapping}.fence"
    fence, state = target.fence(mapping), known.mapping(mapping)
    if fence is None and state is not None and state.fenced:
        yield warning(
            name,
            "Redis has lost the fence of this mapping, and with it perhaps its records.",
            f"See what the next run would do: profile-migrate plan {mapping}",
        )
    elif fence is None:
        yield ok(name, "No run has written records of this mapping here.")
    elif state is not None and fence.run == state.run:
        yield ok(name, f"The records here are ours; epoch {fence.epoch}.")
    else:
        yield failed(
            name,
            f"The target holds records of another migration named '{mapping}', run {fence.run}.",
            "Use the ledger that wrote them, or take them over with: "
            f"profile-migrate backfill {mapping} --start-over",
        )
