"""
`RedisTarget`: the target side of a run behind one object.

Standalone servers and masters behind Sentinel. A Cluster is detected and refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Self

from migrate.errors import Refused
from migrate.model.events import Notify, silent
from migrate.model.ports import Clock, Loader
from migrate.model.settings import RedisConfig, Topology
from migrate.model.values import Fence, Record, RecordType, ServerIdentity
from migrate.target.connect import connect
from migrate.target.detect import Detected, detect
from migrate.target.fence import Claim, FenceState, begin, read_fence
from migrate.target.health import (
    Signals,
    TargetHealth,
    read_health,
    read_identity,
    read_signals,
)
from migrate.target.link import Link
from migrate.target.loader import DryLoader, ReservedNames, ScriptLoader
from migrate.target.probe import ACL_USER, Probed, acl_rule, probe_commands
from migrate.target.retry import Patience, SystemClock
from migrate.target.survey import Cost, Held, lookup, measure


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
            Refused: It is a Cluster.
            UsageProblem: It is not what the configuration says.
        """
        clock = clock or SystemClock()
        detected = detect(config, notify, clock)
        if detected.topology is Topology.CLUSTER:
            raise Refused(
                "Loading into Redis Cluster is not built yet.",
                where={"redis": config.name, "address": config.address},
                next_step="Use a standalone server or a master behind Sentinel (docs/limits.md).",
            )
        connected = connect(config, detected.topology, service=detected.service)
        return cls(Link(config, connected, Patience(config, notify, clock)), detected, clock)

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

    def identity(self) -> ServerIdentity:
        """
        The server that answers now: read anew at every call, in one round trip.
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

    def is_empty(self) -> bool:
        """
        Whether the database holds no key at all.
        """
        return int(self._link.command("DBSIZE")) == 0

    def fence(self, mapping: str) -> FenceState | None:
        """
        The fence of a mapping, or None. See `fence.read_fence`.
        """
        return read_fence(self._link, mapping)

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
        Create or take over the fence for a new run. See `fence.begin` and `fence.Claim`.
        """
        claim = Claim(run, expected, generation, revision, fingerprint, start_over)
        state = begin(self._link, mapping, claim)
        return Fence(state.mode, state.epoch, state.run, state.floor)

    def loader(
        self,
        mapping: str,
        fence: Fence,
        reserved: ReservedNames,
        kind: RecordType = RecordType.HASH,
    ) -> ScriptLoader:
        """
        Writes behind the fence that `begin` gave.
        """
        return ScriptLoader(self._link, mapping, fence, reserved, self.identity, kind)

    def dry_loader(self, reserved: ReservedNames) -> Loader:
        """
        Decides as `loader` does and writes nothing.
        """
        return DryLoader(self._link, reserved)

    def lookup(self, keys: Sequence[bytes], reserved: ReservedNames) -> list[Held]:
        """
        What is under these keys. See `survey.lookup`.
        """
        return lookup(self._link, keys, reserved)

    def measure(
        self,
        records: Sequence[Record],
        reserved: ReservedNames,
        kind: RecordType = RecordType.HASH,
    ) -> Cost:
        """
        What these records would cost here. See `survey.measure`.
        """
        return measure(self._link, self._clock, records, reserved, kind)

    def probe_commands(self, prefixes: Sequence[str] = ()) -> list[Probed]:
        """
        Which commands this user may run. See `probe.probe_commands`.
        """
        return probe_commands(self._link, prefixes)

    def acl_rule(self, prefixes: Sequence[str] = ()) -> str:
        """
        The ACL line that this configuration's user needs.
        """
        return acl_rule(prefixes, self._link.config.username or ACL_USER)
