"""
Ready payloads into Redis by RESTORE, for records that are not there yet; the script for all others.

RESTORE writes what is absent and answers BUSYKEY for what is there: a record that is there already,
or its tombstone, is left to the compare-and-set script. Nothing is ever replaced here.

RESTORE does not know the fence, so that each batch is a transaction behind it:

    WATCH fence, HMGET fence run mode epoch, MULTI     once, with the batch before
    RESTORE key 0 payload, ...                         up to 500, once the fence is ours
    EXEC                                               nothing is written if the fence was touched

While Redis works on a batch, the caller makes the next one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any, NamedTuple

from redis.exceptions import ConnectionError as Closed
from redis.exceptions import ResponseError

from migrate.errors import MigrateError, Unexpected
from migrate.model.shape import RecordShape
from migrate.model.values import (
    Expiry,
    Fence,
    Outcome,
    Receipt,
    Record,
    RecordType,
    ServerIdentity,
)
from migrate.target.fence import fence_key
from migrate.target.link import Link, failed, urgent
from migrate.target.loader import Acquaintance, ScriptLoader
from migrate.target.payload import hash_payload, string_payload
from migrate.target.payload_check import BadPayload, contents
from migrate.target.restore import Item, command, joined, payload_in
from migrate.target.retry import DRIVER_ERRORS, classify, prefix_of
from migrate.target.survey import scratch_key
from migrate.target.wire import LEAST_POOL, Wire, packed

MAX_BATCH = 500
"""Records in one transaction at most: the server serves nobody else for about 2 ms."""

MAX_BATCH_BYTES = 512 * 1024
"""
Bytes of one transaction at most, as they are sent: servers since 7.2 count what is queued against
`client-query-buffer-limit`, whose least is a megabyte, and cut the connection above it.
"""

LOOKED_AT = 200
"""So many payloads of every loader are read back before they are sent: the first ones ..."""

LOOKED_AT_EVERY = 1_000
"""... and one in so many of all others."""

PROBE_MS = 10_000
"""How long the key of the probe could live if the server were to die while it tries."""

_EXEC = b"*1\r\n$4\r\nEXEC\r\n"
_AROUND = 1024
"""Bytes of a transaction that are no records, at most: the longest name of a mapping is in it."""

_OK = b"+OK\r\n"
_QUEUED = b"+QUEUED\r\n"
_AIMING = 3
"""Replies to WATCH, HMGET and MULTI."""

_VERSION = re.compile(rb"0|[1-9][0-9]{0,29}")
_DIGEST = re.compile(rb"[0-9a-f]{16}")
_RUN_ID = re.compile(rb"^run_id:(\w+)", re.MULTILINE)
_NEEDED = ("watch", "hmget", "multi", "restore", "hgetall", "unlink", "exec")


class _Part(NamedTuple):
    """
    So many records, and what is sent of them. Its repr shows none.
    """

    records: int
    transaction: bytes

    def __repr__(self) -> str:
        return f"_Part({self.records} records)"


class FencedWire(Wire):
    """
    Transactions of RESTORE behind a fence. Without patience.

    Args:
        refusal: The error for LOST and FENCED in the words of the scripts.
    """

    def __init__(
        self,
        client: Any,
        key: str,
        fence: Fence,
        refusal: Callable[[list[Any]], MigrateError | None],
    ) -> None:
        super().__init__(client)
        self._aim_at = packed([("WATCH", key), ("HMGET", key, "run", "mode", "epoch"), ("MULTI",)])
        self._ours = [fence.run.encode(), fence.mode.encode(), b"%d" % fence.epoch]
        held = b"".join(b"$%d\r\n%b\r\n" % (len(one), one) for one in self._ours)
        self._aimed_well = _OK + b"*3\r\n" + held + _OK
        self._refusal = refusal
        self._aimed = False
        self.flying = False

    def drop(self) -> None:
        """
        See `Wire.drop`. What was sent and is not acknowledged may have happened.
        """
        self._aimed = self.flying = False
        super().drop()

    def run_id(self) -> str:
        """
        Of the server at the other end; empty where this user may not ask.
        """
        [told] = self.ask([("INFO", "server")])
        if not failed(told):
            found = _RUN_ID.search(told)
            return found[1].decode() if found else ""
        if classify(told).waits:
            self.drop()
            raise told
        return ""

    def packed(self, batch: Sequence[Item]) -> bytes:
        """
        What `restore` sends of a batch: its transaction, and the beginning of the next one.
        """
        return joined(batch, _EXEC + self._aim_at)

    def restore(self, transaction: bytes) -> None:
        """
        Send a batch behind the fence, and make ready for the next one.

        Raises:
            Fenced, TargetLostData: The fence is not ours; nothing was sent.
        """
        if not self._aimed:
            self._aim()
        self._aimed = False
        self.send(transaction)
        self.flying = True

    def landed(self, count: int) -> list[int] | None:
        """
        Which keys of the batch that was sent were there; all others were written.

        None where the fence was touched after we had looked at it: nothing was written.

        Raises:
            The most urgent error among the replies.
        """
        replies = self.receive(_expected(count) + self._aimed_well, count + 1 + _AIMING)
        self.flying = False
        if replies is None:
            self._aimed = True
            return []
        done = replies[count]
        self._judge(replies[count + 1 :])
        try:
            return _busy(replies[:count], done)
        except ResponseError:
            # A former master says no for ever; whoever connects anew is sent to the new one.
            self.drop()
            raise

    def _aim(self) -> None:
        self.open()
        self.send(self._aim_at)
        replies = self.receive(self._aimed_well, _AIMING)
        if replies is not None and not self._judge(replies):
            raise self._fault(replies)
        self._aimed = True

    def _judge(self, replies: Sequence[Any]) -> bool:
        """
        Whether a transaction behind our fence has begun; one behind another ends here.
        """
        self._aimed = list(replies) == [b"OK", self._ours, b"OK"]
        if not self._aimed:
            self.drop()
        return self._aimed

    def _fault(self, replies: Sequence[Any]) -> Exception:
        held = replies[1]
        if failed(held) and prefix_of(held) == "WRONGTYPE":
            return self._refusal([b"LOST", b""]) or held
        errors = [reply for reply in replies if failed(reply)]
        if errors:
            return urgent(errors)
        if not isinstance(held, list):
            return ResponseError("no fields of a fence")
        run, mode, epoch = (value or b"" for value in held)
        word = [b"LOST", run] if run != self._ours[0] else [b"FENCED", mode, epoch]
        return self._refusal(word) or ResponseError("a fence that is ours after all")


class BulkLoader:
    """
    Writes what is absent by RESTORE, and the rest by the script. See `model.ports.Loader`.

    Like the script it repeats what was not acknowledged; then it finds its own records, which the
    script calls SAME. Only for records without lookups and expiry, and not on a Cluster.
    """

    def __init__(
        self,
        link: Link,
        script: ScriptLoader,
        mapping: str,
        fence: Fence,
        shape: RecordShape,
        identify: Callable[[], ServerIdentity],
    ) -> None:
        self.script = script
        self._pace = script.pace
        self._link = link
        self._patience = link.patience
        self._where = {"mapping": mapping, "redis": link.config.name}
        self._shape = shape
        self._wire = FencedWire(link.client, fence_key(mapping), fence, script.refusal)
        self._identify = identify
        self._acquaintance = Acquaintance(link, self._meet)
        self._server = self._acquaintance.run_id
        self._seen = 0
        self.promising = True
        """Whether most keys of the last records were absent: otherwise the script alone is faster,
        and rows are better made into records."""

    @property
    def server(self) -> str:
        """
        Run id of the server that acknowledged the last `restore` or `write`, all of it.

        What `settle` adds to a `restore` may be on a later one, which the next batch will name.
        """
        return self._server

    def batches(self, count: int) -> Iterator[slice]:
        """
        So many items in the batches that are best for `restore`, each as large as the pace then is.
        """
        end = 0
        while end < count:
            start, end = end, end + min(MAX_BATCH, self._pace.most)
            yield slice(start, end)

    def lease(self) -> None:
        """
        Nothing here expires.
        """

    def restore(self, batches: Iterable[Sequence[Item]]) -> list[int]:
        """
        Write every item whose key is absent; the positions of all others, over all batches.

        Each batch is taken while Redis works on the one before; all are kept until this returns.

        Raises:
            As `model.ports.Loader.write`.
        """
        kept: list[Sequence[Item]] = []
        coming = _keeping(batches, kept)
        while True:
            before = self._acquaintance.renewed()
            there, count = self._restore(coming)
            # A restart in between may have taken the first ones with it.
            if self._acquaintance.renewed() == before:
                self._server = before
                if count:
                    self.promising = 2 * len(there) <= count
                return there
            coming = iter(kept)

    def settle(self, records: Sequence[Record]) -> Receipt:
        """
        Compare-and-set by the script alone: for records whose key was there, or that are too large.
        """
        return self.script.write(records)

    def write(self, records: Sequence[Record]) -> Receipt:
        """
        As the script does it, and faster where most keys are absent. See `model.ports.Loader`.
        """
        if not self.promising:
            receipt = self.script.write(records)
            self._server = self.script.server
            written = receipt.outcomes.count(Outcome.WRITTEN)
            self.promising = 2 * written > len(records)
            return receipt
        items, places, left = self._encoded(records)
        while True:
            batches = (items[batch] for batch in self.batches(len(items)))
            there = {places[at] for at in self.restore(batches)}
            behind = sorted({*left, *there})
            receipt = self.script.write([records[at] for at in behind])
            if self.script.server == self._server:
                return _spread(receipt, behind, len(records))

    def give_up(self, records: Sequence[Record]) -> int:
        """
        See `ScriptLoader.give_up`.
        """
        return self.script.give_up(records)

    def close(self) -> None:
        """
        Give the connection back.
        """
        self._wire.close()

    def _meet(self) -> ServerIdentity:
        return self._patience.call(self._met)

    def _met(self) -> ServerIdentity:
        """
        Who the server is, once our own connection and all others are known to lead to one.

        After a failover behind one address an old connection may still be of the former master.
        """
        # In this order: if the master changes in between, the name is of the older one, and what
        # is written to the newer is at worst written again.
        identity = self._identify()
        self._wire.renew()
        ours = self._wire.run_id()
        if ours and identity.run_id and ours != identity.run_id:
            self._link.hang_up()
            raise Closed("Two connections, two servers.")
        return identity

    def _encoded(self, records: Sequence[Record]) -> tuple[list[Item], list[int], list[int]]:
        """
        Items with the positions of their records, and the positions of those that are too large.
        """
        items, places, left = [], [], []
        for at, record in enumerate(records):
            payload = payload_of(record, self._shape)
            if payload is None:
                left.append(at)
            else:
                items.append(command(record.key, payload))
                places.append(at)
        return items, places, left

    def _restore(self, batches: Iterator[Sequence[Item]]) -> tuple[list[int], int]:
        """
        The positions that were there, and how many items there were.
        """
        there: list[int] = []
        done = 0
        parts = self._parts(batches)
        part = next(parts, None)
        try:
            while part is not None:
                self._pace.wait(part.records)
                # What goes wrong here is met again, with patience, when the answer is fetched.
                with suppress(*DRIVER_ERRORS):
                    self._wire.restore(part.transaction)
                self._pace.look()
                coming = next(parts, None)
                there += [done + at for at in self._finished(part)]
                done += part.records
                part = coming
        except BaseException:
            # An answer that nobody has read would be taken for the next one's.
            self._wire.drop()
            raise
        return there, done

    def _finished(self, part: _Part) -> list[int]:
        def attempt() -> list[int]:
            while True:
                if not self._wire.flying:
                    self._wire.restore(part.transaction)
                there = self._wire.landed(part.records)
                # Where the fence was touched, looking at it again says whether it is ours.
                if there is not None:
                    return there

        return self._patience.call(attempt)

    def _parts(self, batches: Iterator[Sequence[Item]]) -> Iterator[_Part]:
        for batch in batches:
            for items in _numbered(batch):
                self._look_at(items)
                part = _Part(len(items), self._wire.packed(items))
                if len(part.transaction) <= MAX_BATCH_BYTES:
                    yield part
                    continue
                for fewer in _divided(items):
                    yield _Part(len(fewer), self._wire.packed(fewer))

    def _look_at(self, part: Sequence[Item]) -> None:
        start = 0 if self._seen < LOOKED_AT else -self._seen % LOOKED_AT_EVERY
        step = 1 if self._seen < LOOKED_AT else LOOKED_AT_EVERY
        for item in part[start::step]:
            reason = fault_of(item, self._shape)
            if reason:
                raise Unexpected(
                    "A record was encoded wrongly; it was not sent.",
                    where={**self._where, "reason": reason},
                    next_step="Please report this. Set `bulk: off` to go on without this encoder.",
                )
        self._seen += len(part)


def fits(shape: RecordShape) -> bool:
    """
    Whether records of this shape are one key each, which nothing else belongs to and that stays.
    """
    return not shape.lookups and shape.expiry is Expiry.NONE


def payload_of(record: Record, shape: RecordShape) -> bytes | None:
    """
    The payload of a record; None where it is too large for one.
    """
    if shape.record is RecordType.STRING:
        return string_payload(record.fields[0])
    version, digest = (name.encode() for name in shape.reserved[:2])
    return hash_payload((version, record.version, digest, record.digest, *record.fields))


def fault_of(item: Item, shape: RecordShape) -> str:
    """
    What is wrong with a command, without values; empty where it writes a record of this shape.
    """
    try:
        held = contents(payload_in(item))
    except BadPayload as bad:
        return str(bad)
    if isinstance(held, bytes) is not (shape.record is RecordType.STRING):
        return "a record of another type"
    if isinstance(held, bytes):
        return "" if held[:1] == b"{" else "no version and digest"
    version, digest = (held.get(name.encode(), b"") for name in shape.reserved[:2])
    sound = _VERSION.fullmatch(version) and _DIGEST.fullmatch(digest)
    return "" if sound else "no version and digest"


class Unfit(NamedTuple):
    """
    Why a target takes no payloads.

    Args:
        denied: A right is missing; more rights would change it.
    """

    what: str
    denied: bool = False


def why_unfit(link: Link) -> Unfit | None:
    """
    Try a transaction of RESTORE on a key that nobody sees; None where it works.

    Raises:
        TargetUnavailable, TargetNotWritable: As for any write.
    """
    if link.config.pool_size < LEAST_POOL:
        return Unfit("`pool_size` is 1, and this takes a connection of its own.")
    wire = Wire(link.client)
    key = scratch_key()
    payload = hash_payload((b"name", b"value"))
    commands = [
        ("WATCH", key),
        ("HMGET", key, "run"),
        ("MULTI",),
        ("RESTORE", key, PROBE_MS, payload),
        ("HGETALL", key),
        ("UNLINK", key),
        ("EXEC",),
    ]

    def attempt() -> list[Any]:
        replies = wire.ask(commands)
        errors = [reply for reply in replies if failed(reply) and classify(reply).waits]
        if errors:
            wire.drop()
            raise urgent(errors)
        return replies

    try:
        return _verdict(link.patience.call(attempt))
    finally:
        wire.close()


def _verdict(replies: Sequence[Any]) -> Unfit | None:
    reasons = {
        name: classify(reply).reason
        for name, reply in zip(_NEEDED, replies, strict=True)
        if failed(reply)
    }
    denied = [name.upper() for name, reason in reasons.items() if reason == "noperm"]
    if denied:
        return Unfit(f"This user may not run {', '.join(denied)}.", denied=True)
    missing = [name.upper() for name, reason in reasons.items() if reason == "no-command"]
    if missing:
        return Unfit(f"This server does not have {', '.join(missing)}.")
    if replies[-1] == [b"OK", [b"name", b"value"], 1]:
        return None
    return Unfit("This server does not read what Redis 7.0 has written; it takes 7.0 or Valkey.")


def _keeping(batches: Iterable[Sequence[Item]], kept: list[Sequence[Item]]) -> Iterator[Any]:
    for batch in batches:
        kept.append(batch)
        yield batch


def _numbered(batch: Sequence[Item]) -> Iterator[Sequence[Item]]:
    """
    A batch in parts of which none has too many records, in order.
    """
    if len(batch) <= MAX_BATCH:
        yield from [batch] if batch else []
        return
    for start in range(0, len(batch), MAX_BATCH):
        yield batch[start : start + MAX_BATCH]


def _divided(batch: Sequence[Item]) -> Iterator[Sequence[Item]]:
    """
    A batch in parts of which none has too many bytes, in order.
    """
    start, size = 0, 0
    for at, item in enumerate(batch):
        more = sum(map(len, item))
        if at > start and size + more > MAX_BATCH_BYTES - _AROUND:
            yield batch[start:at]
            start, size = at, 0
        size += more
    if start < len(batch):
        yield batch[start:]


# Most batches of a run have one size.
@lru_cache(maxsize=8)
def _expected(count: int) -> bytes:
    return _QUEUED * count + b"*%d\r\n" % count + _OK * count


def _busy(queued: list[Any], done: Any) -> list[int] | None:
    """
    The positions that were there; None where EXEC wrote nothing.

    Raises:
        The most urgent error among the replies, or one for replies that are not of a transaction.
    """
    errors = [reply for reply in queued if failed(reply)]
    if errors or failed(done):
        # A command that was not even queued says more than EXEC, which only gives up.
        raise urgent(errors or [done])
    if done is None:
        return None
    if not isinstance(done, list) or queued != [b"QUEUED"] * len(done):
        raise ResponseError("no answers to a transaction")
    there = [at for at, answer in enumerate(done) if answer != b"OK"]
    others = [done[at] for at in there if not _is_busykey(done[at])]
    if others:
        raise urgent([one if failed(one) else ResponseError("no OK") for one in others])
    return there


def _is_busykey(answer: Any) -> bool:
    return failed(answer) and prefix_of(answer) == "BUSYKEY"


def _spread(receipt: Receipt, places: Sequence[int], count: int) -> Receipt:
    """
    A receipt of some of the records as one of all: the others were written.
    """
    outcomes = [Outcome.WRITTEN] * count
    for at, outcome in zip(places, receipt.outcomes, strict=True):
        outcomes[at] = outcome
    return Receipt(
        outcomes,
        {places[at]: version for at, version in receipt.found.items()},
        {places[at]: entry for at, entry in receipt.lookups.items()},
    )
