"""
Mends what the last verification named, from SQL to Redis, one key at a time.

Rows are read again and go through the same compare-and-set as a backfill's; records without a row
become tombstones. Each key is a line of the journal. A pass in which something was repaired is not
clean: the verification that finds nothing is the next one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from typing import Any, Self

from migrate.errors import ExitCode, Refused, TargetChanged
from migrate.ledger.access import held, open_ledger
from migrate.ledger.journal import DONE, INTENT, Note
from migrate.ledger.keys import dump
from migrate.ledger.store import Ledger, MappingState
from migrate.ledger.verification import Found
from migrate.mapping.compile import CompiledMapping, compile_mapping
from migrate.mapping.values import Mapping
from migrate.model.events import Notify, silent
from migrate.model.ports import Clock, Extractor, Loader
from migrate.model.settings import Settings
from migrate.model.values import Fence, LookupKind, Outcome, generation_of
from migrate.model.verdict import Kind, Presence, Verdict
from migrate.pipeline.scope import find_table
from migrate.pipeline.verify_compare import listed_in
from migrate.source.store import SqlSource
from migrate.target.reader import RecordReader
from migrate.target.removal import Remover, There, Tombstone
from migrate.target.store import RedisTarget

STEP = "repair"
"""Its name in the journal."""

MENDED = frozenset(
    {Outcome.WRITTEN, Outcome.REPLACED, Outcome.SAME, Outcome.ADOPTED, Outcome.EXPIRED}
)

_BEHIND = frozenset(
    {Kind.VALUE, Kind.CHILD, Kind.EXTRA_FIELD, Kind.ABSENT_FIELD, Kind.TTL, Kind.TYPE}
)
"""What a compare-and-set cannot see where the stored digest is right."""


@dataclass(frozen=True, slots=True)
class Options:
    """
    What the user allows.

    Args:
        most: Keys at most; more are a bug to be found, not a list to be mended.

        force_version: Also replace content that captured versions say is the same.

        adopt: Put values that are not ours aside.
    """

    most: int = 100
    force_version: bool = False
    adopt: bool = False
    dry_run: bool = False


@dataclass(slots=True)
class Report:
    """
    What became of the keys that were named.

    Args:
        left: Keys that stay as they are, by reason.
    """

    mapping: str
    dry_run: bool
    named: int = 0
    mended: dict[str, int] = field(default_factory=dict)
    left: dict[str, int] = field(default_factory=dict)

    @property
    def exit_code(self) -> ExitCode:
        """
        Differences, where some key stays as it is.
        """
        return ExitCode.DIFFERENCES if self.left else ExitCode.DONE


@dataclass(frozen=True, slots=True)
class Repair:
    """
    The stores and rules of one repair.
    """

    mapping: Mapping
    options: Options
    ledger: Ledger
    state: MappingState
    compiled: CompiledMapping
    extractor: Extractor
    target: RedisTarget
    run: str
    stop: Callable[[], None]

    @classmethod
    @contextmanager
    def open(
        cls,
        settings: Settings,
        mapping: Mapping,
        options: Options,
        *,
        wall: Callable[[], float],
        clock: Clock,
        stop: Callable[[], None],
        notify: Notify = silent,
    ) -> Iterator[Self]:
        """
        Connect, and hold the mapping while it is open.

        Raises:
            Refused: There is no verification, or it is of other records.
        """
        name = mapping.name
        with ExitStack() as stack:
            ledger = stack.enter_context(
                closing(open_ledger(settings.ledger, wall=wall, notify=notify))
            )
            stack.enter_context(held(ledger, name))
            state, kept, last = (
                ledger.mapping(name),
                ledger.last_verification(name),
                ledger.last_run(name),
            )
            if state is None or kept is None:
                raise _unverified(name)
            source = stack.enter_context(
                closing(SqlSource.open(settings.source, notify, sleep=clock.sleep))
            )
            target = stack.enter_context(
                closing(RedisTarget.open(settings.redis["target"], notify, clock))
            )
            table = find_table(source, mapping)
            instant = last.instant if last else None
            compiled = compile_mapping(mapping, table, revision=state.revision, instant=instant)
            found = target.fence(name)
            if kept.fingerprint != compiled.fingerprint or found is None or found.run != state.run:
                raise TargetChanged(
                    "The mapping or the target is not the one that was verified.",
                    where={"mapping": name, "target": settings.redis["target"].address},
                    next_step=f"profile-migrate verify {name}",
                )
            if found.epoch != kept.epoch:
                raise _unverified(name)
            extractor = stack.enter_context(closing(source.extractor(compiled.query, table)))
            yield cls(mapping, options, ledger, state, compiled, extractor, target, kept.run, stop)

    def do(self) -> Report:
        """
        Mend what was named, or say what would be.

        Raises:
            Refused: More keys were named than may be mended.
        """
        findings = self._by_key()
        report = Report(self.mapping.name, self.options.dry_run, len(findings))
        if self.options.dry_run or not findings:
            for found in findings:
                _add(report.mended, found[0].verdict)
            return report
        fence = self.target.begin(
            self.state.name,
            run=self.state.run,
            expected=self.state.run,
            generation=self.state.generation,
            revision=self.state.revision,
            fingerprint=self.state.fingerprint,
        )
        self._note(fence, INTENT, {"keys": len(findings), "verification": self.run})
        shape = self.compiled.shape()
        tools = _Tools(
            fence,
            self.target.loader(self.state.name, fence, shape, adopt=self.options.adopt),
            self.target.remover(self.state.name, fence),
            self.target.reader(shape),
        )
        for found in findings:
            self.stop()
            word = self._one(tools, found)
            _add(report.mended if word in _GOOD else report.left, word)
            self._note(fence, DONE, self._line(found[0], word))
        return report

    def _by_key(self) -> list[list[Found]]:
        """
        What was found, by key: no more than may be mended is ever held.
        """
        keys: dict[bytes, list[Found]] = {}
        for one in self.ledger.findings(self.run):
            keys.setdefault(one.key, []).append(one)
            if len(keys) > self.options.most:
                raise Refused(
                    f"The verification named more than {self.options.most} keys.",
                    where={"mapping": self.mapping.name},
                    next_step="Find the reason first; --max-repairs allows more, and a backfill "
                    "writes every row again.",
                )
        return list(keys.values())

    def _one(self, tools: _Tools, found: Sequence[Found]) -> str:
        first = found[0]
        if first.verdict == Verdict.ORPHAN and first.kind == Kind.LOOKUP:
            return self._release(tools, first)
        if first.verdict == Verdict.SPLIT_BRAIN:
            return "newer-in-redis"
        chunk = self.extractor.fetch([first.source_key] if first.source_key else [])
        if not chunk.keys:
            return self._bury(tools, first.key)
        batch = self.compiled.encode(chunk)
        if not batch.records:
            return "rejected"
        [record] = batch.records
        if record.key != first.key:
            # A server that takes 'a' for 'a ' gave the row of another record.
            alone = first.verdict == Verdict.ORPHAN
            return self._bury(tools, first.key) if alone else "another-key"
        [outcome] = tools.loader.write([record]).outcomes
        kinds = {one.kind for one in found}
        equal = first.verdict == Verdict.DIFFERENT
        ordered = generation_of(record.version.decode()) > 0
        forced = self.options.force_version or not ordered
        if equal and (outcome is Outcome.CONFLICT or (outcome is Outcome.SAME and kinds & _BEHIND)):
            if not forced:
                return "needs-force-version"
            self._remove(tools, record.key)
            [outcome] = tools.loader.write([record]).outcomes
        return outcome.name.lower() if outcome in MENDED else f"refused-{outcome.name.lower()}"

    def _remove(self, tools: _Tools, key: bytes, tombstone: Tombstone | None = None) -> str:
        shape = self.compiled.shape()
        word = "gone"
        for page in tools.remover.read([key], shape):
            there = [one for one in page if one.there in (There.MARKED, There.LARGE)]
            for _, removed in tools.remover.remove(there, shape, tombstone=tombstone):
                word = removed.value
        return word

    def _bury(self, tools: _Tools, key: bytes) -> str:
        """
        A tombstone, no older than what was there, in the place of a record without a row.
        """
        stored = tools.reader.read([key], whole=False)[key]
        if stored.presence is not Presence.RECORD:
            return "gone"
        version = max(int(stored.version), self.state.revision)
        return self._remove(tools, key, Tombstone(version))

    def _release(self, tools: _Tools, found: Found) -> str:
        """
        Take the records out of a lookup that do not list it.
        """
        names = dict(zip(self.compiled.lookups, self.compiled.shape().lookups, strict=True))
        if found.field not in names:
            return "unknown-lookup"
        kind: LookupKind = names[found.field][0]
        entry = (kind.value.encode(), found.entry)
        released = False
        for members in tools.remover.members(found.entry, kind):
            ours = [one for one in members if self.compiled.template.match(one) is not None]
            stored = tools.reader.read(ours, whole=False) if ours else {}
            wrong = [
                key
                for key, one in stored.items()
                if one.presence is not Presence.RECORD or entry not in listed_in(one)
            ]
            if wrong:
                tools.remover.release(found.entry, kind, wrong)
                released = True
        return "released" if released else "gone"

    def _note(self, fence: Fence, phase: str, payload: dict[str, Any]) -> None:
        self.ledger.note(Note(self.mapping.name, STEP, phase, fence.run, fence.epoch, payload))

    def _line(self, found: Found, word: str) -> dict[str, Any]:
        """
        A key's line in the journal: the row's key, and of a lookup a digest of its own.
        """
        line = {"verdict": found.verdict, "kind": found.kind, "outcome": word}
        if found.verdict == Verdict.ORPHAN and found.kind == Kind.LOOKUP:
            made = hashlib.blake2b(found.key, digest_size=8).hexdigest()
            return {**line, "lookup": found.field, "digest": made}
        return {
            **line,
            "record": found.key.decode(errors="backslashreplace"),
            "key": dump(found.source_key),
        }


@dataclass(frozen=True, slots=True)
class _Tools:
    fence: Fence
    loader: Loader
    remover: Remover
    reader: RecordReader


_GOOD = frozenset({outcome.name.lower() for outcome in MENDED} | {"buried", "released", "gone"})


def _add(counts: dict[str, int], word: str) -> None:
    counts[word] = counts.get(word, 0) + 1


def _unverified(name: str) -> Refused:
    return Refused(
        "Only what a verification of the records as they are now named is repaired.",
        where={"mapping": name},
        next_step=f"profile-migrate verify {name} --level deep",
    )
