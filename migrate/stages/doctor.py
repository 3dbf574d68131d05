"""
Every prerequisite of a backfill as a check with its fix; one that fails hides no other.

Answers fast rather than patiently, and changes nothing: no ledger is made, no key is left.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from shlex import quote
from typing import TypeVar

from migrate.errors import InvalidFiles, TargetAccessDenied
from migrate.mapping.values import Mapping as ProfileMapping
from migrate.model.events import Notify, silent
from migrate.model.settings import RedisConfig, Settings, SourceConfig
from migrate.model.values import Expiry
from migrate.source.store import SqlSource
from migrate.stages.checks import Check, failures, guarded, ok, opened, skipped, warning
from migrate.stages.ledger_checks import Known, ledger_checks
from migrate.stages.source_checks import mapping_checks, source_checks
from migrate.stages.target_checks import (
    bulk_checks,
    command_checks,
    fence_checks,
    health_checks,
    reach_checks,
    tls_check,
)
from migrate.target.probe import ACL_USER, EXPIRY, LOOKUPS, acl_rule
from migrate.target.store import RedisTarget

S = TypeVar("S", SourceConfig, RedisConfig)

QUICK_S = 2.0
"""A store that does not answer for so long counts as away."""

CLOCKS_APART_S = 1.0
"""Difference between two clocks that is worth a warning."""


@dataclass(slots=True)
class Doctor:
    """
    Looks at everything once; made for one use.

    Args:
        read_settings: May raise InvalidFiles, which becomes failed checks.

        read_mappings: The mappings to look at; the same.

        wall: Seconds since 1970 on this machine.

        notify: Told before each wait for a store.
    """

    read_settings: Callable[[], Settings]
    read_mappings: Callable[[], Sequence[ProfileMapping]]
    wall: Callable[[], float]
    sleep: Callable[[float], None] = time.sleep
    notify: Notify = silent
    _clocks: dict[str, float] = field(default_factory=dict)

    def checks(self) -> Iterator[Check]:
        """
        All of them, in the order in which they are best mended.

        Raises:
            UnknownMapping: The mapping that was asked for does not exist.
        """
        settings = yield from opened("config.file", self.read_settings)
        if settings is None:
            yield skipped("config.mappings", "Where the mappings are is not known.")
            return
        yield ok("config.file", "The configuration can be read.")
        mappings = yield from self._mappings()
        yield from _pause(settings.throttle.pause_file)
        with ExitStack() as stack:
            known = yield from ledger_checks(
                _quick(settings.ledger),
                stack,
                wall=self.wall,
                sleep=self.sleep,
                notify=self.notify,
            )
            yield from self._source(_quick(settings.source), mappings, stack)
            yield from self._target(settings, mappings, known, stack)
        yield clock_check(self._clocks)

    def _mappings(self) -> Generator[Check, None, Sequence[ProfileMapping]]:
        try:
            found = self.read_mappings()
        except InvalidFiles as error:
            yield from failures("config.mappings", error)
            return ()
        names = ", ".join(mapping.name for mapping in found)
        yield ok("config.mappings", f"Sound: {names}.")
        return found

    def _source(
        self, config: SourceConfig, mappings: Sequence[ProfileMapping], stack: ExitStack
    ) -> Iterator[Check]:
        def make() -> SqlSource:
            source = SqlSource.open(config, self.notify, sleep=self.sleep)
            return stack.enter_context(closing(source))

        source = yield from opened("source.reach", make)
        if source is None:
            for mapping in mappings:
                yield skipped(f"mapping.{mapping.name}.table", "The source cannot be asked.")
            return
        before = self.wall()
        facts = yield from opened("source.reach", source.facts)
        if facts is not None:
            self._clocks["source"] = _ahead(facts.now, before, self.wall())
            yield from source_checks(facts, config.address)
        for mapping in mappings:
            look = partial(mapping_checks, source, mapping)
            yield from guarded(f"mapping.{mapping.name}.table", look)

    def _target(
        self,
        settings: Settings,
        mappings: Sequence[ProfileMapping],
        known: Known | None,
        stack: ExitStack,
    ) -> Iterator[Check]:
        config = _quick(settings.redis["target"])
        yield tls_check(config)

        prefixes, needed = list(_prefixes(mappings)), _needed(mappings)

        def make() -> RedisTarget:
            try:
                return stack.enter_context(closing(RedisTarget.open(config, self.notify)))
            except TargetAccessDenied as error:
                if error.where.get("reason") == "noperm":
                    # Elsewhere the advice is to look here.
                    error.next_step = acl_rule(prefixes, config.username or ACL_USER, needed)
                raise

        target = yield from opened("target.reach", make)
        if target is None:
            for mapping in mappings:
                yield skipped(f"mapping.{mapping.name}.fence", "The target cannot be asked.")
            return
        yield from reach_checks(target, config.address)
        yield from guarded("target.health", lambda: self._health(target, settings))
        rule = target.acl_rule(prefixes, needed)
        yield from guarded(
            "target.commands",
            lambda: command_checks(target.probe_commands(prefixes, needed), rule),
        )
        yield from guarded("target.bulk", lambda: bulk_checks(target, settings, rule))
        for mapping in mappings:
            yield from _fence(target, mapping.name, known)

    def _health(self, target: RedisTarget, settings: Settings) -> Iterator[Check]:
        before = self.wall()
        health = target.health()
        if health.time is not None:
            self._clocks["target"] = _ahead(health.time, before, self.wall())
        yield from health_checks(health, settings.throttle)


def _prefixes(mappings: Sequence[ProfileMapping]) -> dict[str, None]:
    """
    How the keys of records and lookups begin, each once.
    """
    found: dict[str, None] = {}
    for mapping in mappings:
        found[mapping.template.literals[0]] = None
        found |= {lookup.template.literals[0]: None for lookup in mapping.lookups}
    return found


def _needed(mappings: Sequence[ProfileMapping]) -> set[str]:
    """
    Commands that these mappings need besides those of every backfill.
    """
    needed: set[str] = set()
    if any(mapping.lookups for mapping in mappings):
        needed |= {*LOOKUPS}
    if any(mapping.expiry is not Expiry.NONE for mapping in mappings):
        needed |= {*EXPIRY}
    return needed


def _quick(config: S) -> S:
    return replace(config, retry_for_s=min(config.retry_for_s, QUICK_S))


def _ahead(theirs: float, before: float, after: float) -> float:
    """
    Seconds that a server's clock is ahead of ours, half of the round trip taken off.
    """
    return theirs - (before + after) / 2


def _pause(path: str) -> Iterator[Check]:
    if Path(path).exists():
        yield warning(
            "throttle.pause",
            f"The pause file {path} is there: every run stands still.",
            f"rm {quote(path)}",
        )
    else:
        yield ok("throttle.pause", "No pause file is there.")


def _fence(target: RedisTarget, mapping: str, known: Known | None) -> Iterator[Check]:
    name = f"mapping.{mapping}.fence"
    if known is None:
        yield skipped(name, "The ledger cannot say which records are ours.")
    else:
        yield from guarded(name, lambda: fence_checks(target, mapping, known))


def clock_check(ahead: Mapping[str, float]) -> Check:
    """
    How far the clocks of the stores and of this machine are apart.

    Args:
        ahead: Seconds before this machine's clock, by store.
    """
    if not ahead:
        return skipped("clocks", "No store told its time.")
    spread = max(0.0, *ahead.values()) - min(0.0, *ahead.values())
    told = ", ".join(
        f"{store} {round(seconds, 1) + 0:+} s" for store, seconds in sorted(ahead.items())
    )
    what = f"Against this machine: {told}."
    if spread > CLOCKS_APART_S:
        return warning(
            "clocks", f"Clocks are apart. {what}", "Set them by NTP; times in reports may mislead."
        )
    return ok("clocks", what)
