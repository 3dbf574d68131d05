"""
`RedisTarget`: the target side of a run behind one object.

A standalone server, a master behind Sentinel, or all masters of a Cluster.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from types import TracebackType
from typing import Self

from migrate.model.events import Notify, silent
from migrate.model.ports import Clock, Pace
from migrate.model.settings import RedisConfig, Topology
from migrate.model.shape import RecordShape
from migrate.model.values import Fence, Record, RecordType, ServerIdentity
from migrate.target.bulk import BulkLoader, Unfit, fits, why_unfit
from migrate.target.cluster import ClusterLink
from migrate.target.connect import connect
from migrate.target.detect import Detected, detect
from migrate.target.far import FarDryLoader, FarLoader, refuse_far_sets
from migrate.target.fence import Claim, FenceState, begin, read_fence
from migrate.target.fences import begin_fences, read_fences
from migrate.target.glance import Glance
from migrate.target.health import (
    Signals,
    TargetHealth,
    ping_ms,
    read_health,
    read_identity,
    read_signals,
)
from migrate.target.link import Link
from migrate.target.loader import AT_ONCE, DryLoader, ScriptLoader
from migrate.target.nodes import Nodes
from migrate.target.probe import ACL_USER, Probed, acl_rule, probe_commands
from migrate.target.reader import RecordReader
from migrate.target.removal import Remover, close_fence, expire_fence
from migrate.target.retry import Patience, SystemClock
from migrate.target.survey import Cost, Held, lookup, measure
from migrate.target.whole import Whole
from migrate.target.wire import LEAST_POOL


class RedisTarget:
    """
    One Redis that records go to.

    Every method waits for a server that is away or says "not now", tells `notify` so, and raises
    TargetUnavailable, TargetNotWritable or TargetAccessDenied where that does not help. For one
    thread; every process opens its own.

    Args:
        detected: What the configuration was found to point at.
    """

    def __init__(self, link: Link, detected: Detected, clock: Clock) -> None:
        self.detected = detected
        self._link = link
        self._clock = clock

    @classmethod
    def open(cls, config: RedisConfig, notify: Notify = silent, clock: Clock | None = None) -> Self:
        """
        Find out what the configuration points at and connect to it.

        Raises:
            UsageProblem: It is not what the configuration says.
        """
        clock = clock or SystemClock()
        detected = detect(config, notify, clock)
        patience = Patience(config, notify, clock)
        if detected.topology is Topology.CLUSTER:
            return cls(ClusterLink(config, Nodes(config), patience), detected, clock)
        connected = connect(config, detected.topology, service=detected.service)
        return cls(Link(config, connected, patience), detected, clock)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """
        Give the connections back.
        """
        self._link.close()

    @property
    def _has_slots(self) -> bool:
        return self.detected.topology is Topology.CLUSTER

    def identity(self) -> ServerIdentity:
        """
        The server that is the master now: found and read anew at every call.

        Over a new connection: one that is there may still lead to a former master.
        """
        if not self._has_slots:
            self._link.hang_up()
        return self._identity()

    def _identity(self) -> ServerIdentity:
        """
        The same for loaders, which watch over their connections and ask after each new one.
        """
        return read_identity(self._link, self.detected)

    def health(self) -> TargetHealth:
        """
        What the server says of itself; None for what this user may not see.
        """
        return read_health(self._link, self._clock)

    def signals(self) -> Signals:
        """
        Memory and latency for the throttle, in two round trips.
        """
        return read_signals(self._link, self._clock)

    def latency_ms(self) -> float:
        """
        How long an answer takes now, in milliseconds; of several masters the slowest.
        """
        return max(self._link.each(lambda link: ping_ms(link, self._clock)).values())

    def is_empty(self) -> bool:
        """
        Whether the database holds no key at all.
        """
        counts = self._link.each(lambda link: int(link.command("DBSIZE")))
        return not any(counts.values())

    def fence(self, mapping: str) -> FenceState | None:
        """
        The fence of a mapping, or None. See `fence.read_fence` and `fences.read_fences`.
        """
        read = read_fences if self._has_slots else read_fence
        return read(self._link, mapping)

    def begin(
        self,
        mapping: str,
        *,
        run: str,
        expected: str | None,
        generation: int,
        revision: int,
        fingerprint: str,
        start_over: bool = False,
    ) -> Fence:
        """
        Create or take over the fence for a new run. See `fence.begin` and `fences.begin_fences`.
        """
        claim = Claim(run, expected, generation, revision, fingerprint, start_over)
        take = begin_fences if self._has_slots else begin
        state = take(self._link, mapping, claim)
        return Fence(state.mode, state.epoch, state.run, state.floor)

    def refuse_unfit(self, mapping: str, shape: RecordShape) -> None:
        """
        Refuse records that this target cannot hold. See `far.refuse_far_sets`.
        """
        if self._has_slots:
            refuse_far_sets(mapping, shape)

    def loader(
        self,
        mapping: str,
        fence: Fence,
        shape: RecordShape,
        *,
        adopt: bool = False,
        pace: Pace = AT_ONCE,
    ) -> ScriptLoader:
        """
        Writes behind the fence that `begin` gave. See `loader.ScriptLoader`.
        """
        self.refuse_unfit(mapping, shape)
        make = FarLoader if self._has_slots else ScriptLoader
        return make(self._link, mapping, fence, shape, self._identity, adopt=adopt, pace=pace)

    def bulk_unfit(self) -> Unfit | None:
        """
        Why this target takes no ready payloads; None where it does. See `bulk.why_unfit`.
        """
        if self._has_slots:
            return Unfit("A Redis Cluster is written by scripts alone.")
        return why_unfit(self._link)

    def bulk(
        self, mapping: str, fence: Fence, shape: RecordShape, pace: Pace = AT_ONCE
    ) -> BulkLoader | None:
        """
        The same as `loader`, by ready payloads; None where records or target are unfit for it.

        Tries the target, so that it is asked for once a run.
        """
        if not fits(shape) or self.bulk_unfit() is not None:
            return None
        script = self.loader(mapping, fence, shape, pace=pace)
        return BulkLoader(self._link, script, mapping, fence, shape, self._identity)

    def dry_loader(self, mapping: str, shape: RecordShape, *, adopt: bool = False) -> DryLoader:
        """
        Decides as `loader` does and writes nothing.
        """
        self.refuse_unfit(mapping, shape)
        make = FarDryLoader if self._has_slots else DryLoader
        return make(self._link, mapping, shape, adopt=adopt)

    def lookup(self, keys: Sequence[bytes], shape: RecordShape) -> list[Held]:
        """
        What is under these keys. See `survey.lookup`.
        """
        return lookup(self._link, keys, shape)

    def measure(self, records: Sequence[Record], shape: RecordShape) -> Cost:
        """
        What these records would cost here. See `survey.measure`.
        """
        return measure(self._link, self._clock, records, shape)

    def close_fence(self, mapping: str, *, expected: str | None, own: str) -> Fence:
        """
        Close the fence, so that nobody writes any more. See `removal.close_fence`.
        """
        return close_fence(self._link, mapping, expected=expected, own=own)

    def expire_fence(self, mapping: str, fence: Fence) -> None:
        """
        Let a closed fence go after a while. See `removal.expire_fence`.
        """
        expire_fence(self._link, mapping, fence)

    def remover(self, mapping: str, fence: Fence | None) -> Remover:
        """
        Finds and removes records behind this fence; without one it only looks.
        """
        return Remover(self._link, mapping, fence)

    def reader(self, shape: RecordShape) -> RecordReader:
        """
        Reads records in bulk, for a verification. See `reader.RecordReader`.
        """
        return RecordReader(self._link, shape)

    def glance(self, shape: RecordShape, head: int) -> Glance | None:
        """
        Compares records with marks that are known; None where records or target are unfit for it.
        """
        if self._has_slots or not fits(shape) or self._link.config.pool_size < LEAST_POOL:
            return None
        return Glance(self._link, shape, head)

    def whole(self, shape: RecordShape, fields: int) -> Whole | None:
        """
        Reads whole records that are small; None where records, target or rights are unfit for it.

        Args:
            fields: How many a record has at most, those that are ours counted.
        """
        unfit = self._has_slots or not fits(shape) or shape.record is not RecordType.HASH
        if unfit or self._link.config.pool_size < LEAST_POOL:
            return None
        whole = Whole(self._link, fields)
        return whole if whole.may(shape.template.partition("{")[0].encode()) else None

    def probe_commands(
        self, prefixes: Sequence[str] = (), needed: Collection[str] = ()
    ) -> list[Probed]:
        """
        Which commands this user may run. See `probe.probe_commands`.
        """
        return probe_commands(self._link, prefixes, needed)

    def acl_rule(self, prefixes: Sequence[str] = (), needed: Collection[str] = ()) -> str:
        """
        The ACL line that this configuration's user needs.
        """
        return acl_rule(prefixes, self._link.config.username or ACL_USER, needed)
