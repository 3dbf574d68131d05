"""
Unique entries in another slot than their record: a real Cluster, killed and crossed at every step.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from migrate.errors import Fenced
from migrate.model.lookups import entries_text, parse_entries
from migrate.model.secret import Secret
from migrate.model.shape import RecordShape
from migrate.model.values import (
    Entry,
    Expiry,
    Fence,
    LookupKind,
    Outcome,
    Receipt,
    Record,
    RecordType,
)
from migrate.target.claims import Claims, Wanted
from migrate.target.far import far_lookups
from migrate.target.link import Command, Link
from migrate.target.loader import GRACE_MS
from migrate.target.probe import LOOKUPS
from migrate.target.removal import There
from migrate.target.retry import SystemClock
from migrate.target.scripts import Script
from migrate.target.slots import slot_of
from migrate.target.store import RedisTarget
from tests.target.conftest import MAPPING, RUN, Heard, begin
from tests.topologies import RedisCluster, cluster

pytestmark = pytest.mark.containers
"""A Cluster of real servers takes seconds to start and to change: part of the matrix."""

SHAPE = RecordShape("0" * 32, "user:{id}", lookups=((LookupKind.UNIQUE, "email:{email}"),))
PLAIN = replace(SHAPE, fingerprint="1" * 32, lookups=())
TWO = replace(SHAPE, lookups=(*SHAPE.lookups, (LookupKind.UNIQUE, "phone:{phone}")))
MIXED = replace(
    SHAPE,
    template="user:{{{tenant}}}:{id}",
    lookups=(
        (LookupKind.UNIQUE, "email:{email}"),
        (LookupKind.SET, "locale:{{{tenant}}}:{locale}"),
        (LookupKind.UNIQUE, "nick:{{{tenant}}}:{nick}"),
    ),
)


@pytest.fixture(scope="module")
def shared() -> Iterator[RedisCluster]:
    """
    Three masters without replicas.
    """
    with cluster() as made:
        yield made


@pytest.fixture
def three(shared: RedisCluster) -> RedisCluster:
    """
    The shared cluster, empty.
    """
    for node in shared.masters:
        node.client().flushall()
    return shared


@pytest.fixture
def opened(three: RedisCluster, heard: Heard) -> Iterator[Callable[[], RedisTarget]]:
    """
    Opens targets that are closed with the test.
    """
    with ExitStack() as stack:

        def make() -> RedisTarget:
            config = three.config(retry_for_s=30.0)
            return stack.enter_context(RedisTarget.open(config, heard, SystemClock()))

        yield make


@pytest.fixture
def target(opened: Callable[[], RedisTarget]) -> RedisTarget:
    """
    The shared cluster as a target, its run begun.
    """
    made = opened()
    begin(made)
    return made


@pytest.fixture
def client(three: RedisCluster) -> Iterator[Any]:
    """
    The driver's own client, which shares nothing with the program's routing.
    """
    with closing(three.client()) as made:
        yield made


def user(
    number: int, email: str = "", *, version: int = 1, digest: str = "0", expires: bytes = b""
) -> Record:
    """
    A record with an entry in a slot of its own; its content says its e-mail.
    """
    return Record(
        b"user:%d" % number,
        str(version).encode(),
        (digest * 16)[:16].encode(),
        (b"email", email.encode()),
        (Entry(b"u", f"email:{email}".encode() if email else b""),),
        expires,
    )


def write(
    target: RedisTarget, *records: Record, shape: RecordShape = SHAPE, adopt: bool = False
) -> Receipt:
    """
    Through a loader behind the fence of the run that was begun first.
    """
    fence = Fence("fwd", 1, RUN, 0)
    return target.loader(MAPPING, fence, shape, adopt=adopt).write(records)


def everything(client: Any) -> dict[bytes, Any]:
    """
    Every key but the fences, in a form that can be compared; stamps left out.
    """
    readers: dict[bytes, Callable[[bytes], Any]] = {
        b"hash": client.hgetall,
        b"string": client.get,
        b"set": client.smembers,
    }
    found = {}
    for key in client.scan_iter("*", 5_000):
        if not key.startswith(b"profile-migrate:fence:"):
            found[key] = readers[client.type(key)](key)
            if set(found[key]) == {b"id", b"v", b"s"}:
                assert found[key].pop(b"s").isdigit()
    return found


def entries_of(client: Any) -> dict[bytes, Any]:
    """
    The record that each e-mail's entry names.
    """
    found = everything(client)
    return {k: v[b"id"] for k, v in found.items() if k.startswith(b"email:")}


def dumped(client: Any) -> dict[bytes, Any]:
    """
    Every key's bytes, but the fences'.
    """
    keys = (k for k in client.scan_iter("*", 5_000) if not k.startswith(b"profile-migrate:fence:"))
    return {key: client.dump(key) for key in keys}


# --- what is written ----------------------------------------------------------------------------


def test_an_entry_names_record_and_version(target: RedisTarget, client: Any) -> None:
    """
    A hash of key, version and stamp in a slot of its own; the record lists it.
    """
    one = user(1, "a@x")

    receipt = write(target, one)

    assert list(receipt.outcomes) == [Outcome.WRITTEN]
    assert slot_of(b"email:a@x") != slot_of(b"user:1")
    assert everything(client) == {
        b"email:a@x": {b"id": b"user:1", b"v": b"1"},
        b"user:1": {
            b"_v": b"1",
            b"_h": b"0" * 16,
            b"_l": entries_text(one.entries),
            b"email": b"a@x",
        },
    }


def test_templates_alone_say_which_lookups_are_far() -> None:
    """
    Those that do not have the records' hash tag, whatever the values are.
    """
    assert far_lookups(SHAPE) == {0}
    assert far_lookups(MIXED) == {0}
    assert far_lookups(replace(MIXED, template="user:{{{id}}}")) == {0, 1, 2}
    assert far_lookups(PLAIN) == frozenset()


def test_no_entry_is_made_of_null(target: RedisTarget, client: Any) -> None:
    """
    A record without a value for its lookup has no entry and no list.
    """
    write(target, user(1))

    assert set(everything(client)) == {b"user:1"}
    assert client.hkeys("user:1") == [b"_v", b"_h", b"email"]


def test_near_and_far_entries_side_by_side(target: RedisTarget, client: Any) -> None:
    """
    Those with the record's tag are strings and sets in its script; the other one is a hash.
    """

    def one(email: bytes, locale: bytes, digest: bytes) -> Record:
        entries = (
            Entry(b"u", b"email:" + email),
            Entry(b"s", b"locale:{t}:" + locale),
            Entry(b"u", b"nick:{t}:" + email),
        )
        return Record(b"user:{t}:1", b"1", digest * 16, (b"n", b"x"), entries)

    write(target, one(b"a@x", b"de", b"0"), shape=MIXED)
    write(target, one(b"b@x", b"en", b"1"), shape=MIXED)

    found = everything(client)
    record = found.pop(b"user:{t}:1")
    assert found == {
        b"email:b@x": {b"id": b"user:{t}:1", b"v": b"1"},
        b"locale:{t}:en": {b"user:{t}:1"},
        b"nick:{t}:b@x": b"user:{t}:1",
    }
    assert {entry.key for entry in parse_entries(record[b"_l"])} == set(found)


def test_a_tag_that_is_the_same_by_chance(target: RedisTarget, client: Any) -> None:
    """
    A far lookup whose key lands in the record's slot is claimed, replaced and left all the same.
    """
    shape = replace(
        SHAPE, template="user:{{{id}}}", lookups=((LookupKind.UNIQUE, "code:{{{code}}}"),)
    )

    def one(code: bytes, digest: bytes) -> Record:
        return Record(b"user:{7}", b"1", digest * 16, (), (Entry(b"u", b"code:{%b}" % code),))

    write(target, one(b"7", b"0"), shape=shape)
    assert everything(client)[b"code:{7}"] == {b"id": b"user:{7}", b"v": b"1"}
    write(target, one(b"8", b"1"), shape=shape)
    assert set(everything(client)) == {b"user:{7}", b"code:{8}"}
    write(target, one(b"7", b"2"), shape=shape)

    assert set(everything(client)) == {b"user:{7}", b"code:{7}"}


def test_a_changed_record_leaves_its_old_entry(target: RedisTarget, client: Any) -> None:
    """
    The old e-mail is free, and the list holds the new one alone.
    """
    write(target, user(1, "a@x"), user(2, "b@x"))

    receipt = write(target, user(1, "c@x", digest="1"))

    assert list(receipt.outcomes) == [Outcome.REPLACED]
    assert entries_of(client) == {b"email:b@x": b"user:2", b"email:c@x": b"user:1"}
    assert client.hget("user:1", "_l") == b"u9:email:c@x"


@pytest.mark.parametrize("shape", ["hash", "string"])
def test_a_mapping_without_lookups_leaves_those_of_its_records(
    target: RedisTarget, client: Any, shape: str
) -> None:
    """
    A record that is replaced by one of another mapping leaves its entries, whatever it becomes.
    """
    write(target, user(1, "a@x"))
    if shape == "hash":
        plain = Record(b"user:1", b"2", b"1" * 16, (b"name", b"x"))
        receipt = write(target, plain, shape=PLAIN)
        expected: Any = {b"_v": b"2", b"_h": b"1" * 16, b"name": b"x"}
    else:
        expected = b'{"_v":"2","_h":"%b","name":"x"}' % (b"1" * 16)
        text = Record(b"user:1", b"2", b"1" * 16, (expected,))
        receipt = write(target, text, shape=replace(PLAIN, record=RecordType.STRING))

    assert list(receipt.outcomes) == [Outcome.REPLACED]
    assert everything(client) == {b"user:1": expected}


def test_the_same_record_is_linked_again(target: RedisTarget, client: Any) -> None:
    """
    An entry that was lost comes back, one too many goes; where all is well nothing is written.
    """
    one = user(1, "a@x")
    write(target, one)
    before = dumped(client)
    client.delete("email:a@x")
    client.hset("email:old", mapping={"id": "user:1", "v": "1", "s": "0"})
    client.hset("user:1", "_l", entries_text([*one.entries, Entry(b"u", b"email:old")]))

    receipt = write(target, one)
    mended = dumped(client)
    again = write(target, one)

    assert list(receipt.outcomes) == list(again.outcomes) == [Outcome.SAME]
    assert entries_of(client) == {b"email:a@x": b"user:1"}
    assert mended[b"user:1"] == before[b"user:1"]
    assert dumped(client) == mended


# --- whose entry it is ----------------------------------------------------------------------------


def test_a_unique_entry_is_never_taken_from_a_living_record(
    target: RedisTarget, client: Any
) -> None:
    """
    The second record with the e-mail is a duplicate, named by its lookup, and nothing of it shows.
    """
    write(target, user(1, "a@x"))
    before = everything(client)

    receipt = write(target, user(2, "a@x"), user(3, "b@x"))

    assert list(receipt.outcomes) == [Outcome.DUPLICATE, Outcome.WRITTEN]
    assert receipt.lookups == {0: 0}
    after = everything(client)
    assert {key: after[key] for key in before} == before
    assert set(after) - set(before) == {b"user:3", b"email:b@x"}


def test_the_other_entries_of_a_duplicate_are_given_back(target: RedisTarget, client: Any) -> None:
    """
    Of two entries one is somebody else's: the record keeps neither.
    """

    def one(number: int, email: bytes, phone: bytes) -> Record:
        entries = (Entry(b"u", b"email:" + email), Entry(b"u", b"phone:" + phone))
        return Record(b"user:%d" % number, b"1", b"0" * 16, (b"n", b"x"), entries)

    write(target, one(1, b"a@x", b"1"), shape=TWO)
    before = everything(client)

    receipt = write(target, one(2, b"b@x", b"1"), shape=TWO)

    assert list(receipt.outcomes) == [Outcome.DUPLICATE]
    assert receipt.lookups == {0: 1}
    assert everything(client) == before


def test_duplicates_of_one_batch_are_seen(target: RedisTarget, client: Any) -> None:
    """
    Of three records with one e-mail in one batch the first is written.
    """
    receipt = write(target, *(user(number, "a@x") for number in (3, 1, 2)))

    assert list(receipt.outcomes) == [Outcome.WRITTEN, Outcome.DUPLICATE, Outcome.DUPLICATE]
    assert entries_of(client) == {b"email:a@x": b"user:3"}


def test_one_key_twice_in_a_batch(target: RedisTarget, client: Any) -> None:
    """
    The records are written in their order, and only the last one's entry is left.
    """
    receipt = write(
        target, user(1, "a@x"), user(1, "b@x", version=2), user(1, "c@x", version=3), user(2)
    )

    assert [int(one) for one in receipt.outcomes] == [0, 1, 1, 0]
    assert entries_of(client) == {b"email:c@x": b"user:1"}


@pytest.mark.parametrize("why", ["deleted", "tombstone", "listed no more"])
def test_an_entry_that_its_record_gave_up_is_free(
    target: RedisTarget, client: Any, why: str
) -> None:
    """
    An entry may name a record that is gone, or that says itself that it is not there any more.
    """
    write(target, user(1, "a@x"))
    if why == "listed no more":
        client.hdel("user:1", "_l")
    else:
        client.delete("user:1")
    if why == "tombstone":
        client.hset("user:1", mapping={"_v": "2", "_t": "1"})

    receipt = write(target, user(2, "a@x"))

    assert list(receipt.outcomes) == [Outcome.WRITTEN]
    assert entries_of(client) == {b"email:a@x": b"user:2"}


def test_an_entry_of_an_earlier_revision_is_taken_over(target: RedisTarget, client: Any) -> None:
    """
    Rows that exchanged their e-mails before the mapping changed are all written.
    """
    write(target, user(1, "a@x"), user(2, "b@x"))

    receipt = write(
        target, user(1, "b@x", version=2, digest="1"), user(2, "a@x", version=2, digest="1")
    )

    assert list(receipt.outcomes) == [Outcome.REPLACED, Outcome.REPLACED]
    assert entries_of(client) == {b"email:a@x": b"user:2", b"email:b@x": b"user:1"}


def test_e_mails_that_are_exchanged_are_duplicates(target: RedisTarget, client: Any) -> None:
    """
    Within one revision neither of two records gives up first, as on a server of its own.
    """
    write(target, user(1, "a@x"), user(2, "b@x"))
    before = everything(client)

    receipt = write(target, user(1, "b@x", digest="1"), user(2, "a@x", digest="1"))

    assert list(receipt.outcomes) == [Outcome.DUPLICATE, Outcome.DUPLICATE]
    assert everything(client) == before


def test_a_chain_in_one_batch_is_written_whole(target: RedisTarget, client: Any) -> None:
    """
    Each e-mail moves to the next row, in whatever order the batch has them.
    """
    count = 6
    write(target, *(user(n, f"{n}@x") for n in range(count)))
    moved = [user(n, f"{n + 1}@x", digest="1") for n in range(count)]

    receipt = write(target, *moved)

    assert set(receipt.outcomes) == {Outcome.REPLACED}
    assert entries_of(client) == {b"email:%d@x" % (n + 1): b"user:%d" % n for n in range(count)}


FOREIGN: dict[str, Callable[[Any], Any]] = {
    "a string that is no record's key": lambda c: c.set("email:a@x", "theirs"),
    "a long string": lambda c: c.set("email:a@x", "t" * 100_000),
    "a hash of theirs": lambda c: c.hset("email:a@x", "a", "b"),
    "a hash with more": lambda c: c.hset(
        "email:a@x", mapping={"id": "user:2", "v": "1", "s": "0", "more": "x"}
    ),
    "an entry of another mapping": lambda c: c.hset(
        "email:a@x", mapping={"id": "account:2", "v": "1", "s": "0"}
    ),
    "a version that is none": lambda c: c.hset(
        "email:a@x", mapping={"id": "user:2", "v": "x", "s": "0"}
    ),
    "a list": lambda c: c.rpush("email:a@x", "user:1"),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_what_is_not_ours_is_no_entry(target: RedisTarget, client: Any, kind: str) -> None:
    """
    A further key that somebody else uses is a collision, named by its lookup; it keeps its bytes.
    """
    FOREIGN[kind](client)
    before = dumped(client)

    foretold = target.dry_loader(MAPPING, SHAPE).write([user(1, "a@x"), user(2, "b@x")])
    receipt = write(target, user(1, "a@x"), user(2, "b@x"))

    assert list(receipt.outcomes) == [Outcome.COLLISION, Outcome.WRITTEN]
    assert foretold == receipt
    assert receipt.lookups == {0: 0}
    after = dumped(client)
    assert {key: after[key] for key in before} == before
    assert b"user:1" not in after


@pytest.mark.parametrize("place", ["locale:{t}:de", "nick:{t}:a"])
def test_what_is_not_ours_is_no_near_entry(target: RedisTarget, client: Any, place: str) -> None:
    """
    The same for a near lookup, whose script cannot ask a record of another slot.
    """
    if place.startswith("nick"):
        client.set(place, "theirs")
    else:
        client.sadd(place, "theirs")
    entries = (Entry(b"u", b""), Entry(b"s", b"locale:{t}:de"), Entry(b"u", b"nick:{t}:a"))
    one = Record(b"user:{t}:1", b"1", b"0" * 16, (b"n", b"x"), entries)
    before = dumped(client)

    foretold = target.dry_loader(MAPPING, MIXED).write([one])
    receipt = write(target, one, shape=MIXED)

    assert list(receipt.outcomes) == [Outcome.COLLISION]
    assert receipt == foretold
    assert dumped(client) == before


def test_a_string_that_names_a_record_is_an_entry_as_well(target: RedisTarget, client: Any) -> None:
    """
    What a script wrote beside a record, before the templates changed, is taken over or kept.
    """
    client.set("email:a@x", "user:9")
    client.set("email:b@x", "user:2")

    receipt = write(target, user(1, "a@x"), user(2, "b@x"))

    assert set(receipt.outcomes) == {Outcome.WRITTEN}
    assert entries_of(client) == {b"email:a@x": b"user:1", b"email:b@x": b"user:2"}


def test_a_stale_record_changes_no_entry(target: RedisTarget, client: Any) -> None:
    """
    An older version, whatever its entry, is neither written nor linked.
    """
    write(target, user(1, "new@x", version=5 * 10**12))
    before = everything(client)

    receipt = write(target, user(1, "old@x", version=4 * 10**12))

    assert list(receipt.outcomes) == [Outcome.STALE]
    assert receipt.found == {0: str(5 * 10**12)}
    assert everything(client) == before


def test_a_dry_run_decides_the_same(target: RedisTarget, client: Any) -> None:
    """
    Outcomes are foretold, and nothing is written.
    """
    write(target, user(1, "a@x"), user(5, "e@x"))
    client.set("email:c@x", "theirs")
    client.delete("user:5")
    before = dumped(client)
    asked = [user(2, "a@x"), user(3, "c@x"), user(4, "d@x"), user(1, "a@x"), user(6, "e@x")]

    foretold = target.dry_loader(MAPPING, SHAPE).write(asked)

    assert dumped(client) == before
    assert foretold == write(target, *asked)
    assert [int(one) for one in foretold.outcomes] == [7, 5, 0, 2, 0]


def test_hostile_keys(target: RedisTarget, client: Any) -> None:
    """
    Keys with every byte, digits, braces and colons are listed, found and left.
    """
    email = "u3:" + "".join(map(chr, range(256))) + "9:u" + "x" * 3_000

    write(target, user(1, email))
    assert len(entries_of(client)) == 1
    write(target, user(1, "plain@x", digest="1"))

    assert entries_of(client) == {b"email:plain@x": b"user:1"}


def test_a_foreign_value_is_put_aside(target: RedisTarget, client: Any) -> None:
    """
    A value in the record's place goes aside where that is asked for, and the entry is made.
    """
    client.set("user:1", "theirs")

    first = write(target, user(1, "a@x"), adopt=True)
    second = write(target, user(1, "a@x"), adopt=True)

    assert [*first.outcomes, *second.outcomes] == [Outcome.ADOPTED, Outcome.SAME]
    assert entries_of(client) == {b"email:a@x": b"user:1"}
    assert b"theirs" in everything(client).values()


def test_thousands_at_once(target: RedisTarget, client: Any) -> None:
    """
    Larger batches than one round trip takes.
    """
    batch = [user(number, f"{number}@x") for number in range(3_000)]

    assert set(write(target, *batch).outcomes) == {Outcome.WRITTEN}
    assert set(write(target, *batch).outcomes) == {Outcome.SAME}
    assert len(entries_of(client)) == 3_000


# --- expiry ---------------------------------------------------------------------------------------

COLUMN = replace(SHAPE, expiry=Expiry.COLUMN)
FIXED = replace(SHAPE, expiry=Expiry.FIXED)


def test_an_entry_expires_with_its_record(target: RedisTarget, client: Any) -> None:
    """
    The entry gets the instant of its record, a SAME record of a fixed time keeps its first one.
    """
    soon = int(time.time()) * 1000 + 3_600_000

    write(target, user(1, "a@x", expires=b"%d" % soon), shape=FIXED)
    write(target, user(1, "a@x", expires=b"%d" % (soon + 9_000)), shape=FIXED)

    assert client.hget("user:1", "_e") == b"%d" % soon
    for key in ("user:1", "email:a@x"):
        left = client.pttl(key) - (soon + GRACE_MS - time.time() * 1000)
        assert abs(left) < 3_000


def test_a_record_that_is_over_goes_with_its_entry(target: RedisTarget, client: Any) -> None:
    """
    EXPIRED removes the older record and leaves its entry; nothing new is claimed.
    """
    write(target, user(1, "a@x"), user(2, "b@x"))

    receipt = write(target, user(1, "c@x", digest="1", expires=b"1000"), shape=COLUMN)

    assert list(receipt.outcomes) == [Outcome.EXPIRED]
    assert set(everything(client)) == {b"user:2", b"email:b@x"}


def test_an_entry_that_never_expires_is_given_no_end(target: RedisTarget, client: Any) -> None:
    """
    An e-mail of a record that ended passes to one that has no end.
    """
    soon = int(time.time()) * 1000 + 3_600_000
    write(target, user(1, "a@x", expires=b"%d" % soon), shape=COLUMN)
    client.delete("user:1")

    write(target, user(2, "a@x"), shape=COLUMN)

    assert client.pttl("email:a@x") == -1


# --- fences ---------------------------------------------------------------------------------------


def test_a_newer_run_locks_out_every_step(
    target: RedisTarget, opened: Callable[[], RedisTarget], client: Any
) -> None:
    """
    Whoever has an older epoch claims nothing, leaves nothing and writes nothing.
    """
    write(target, user(1, "a@x"))
    old = target.loader(MAPPING, Fence("fwd", 1, RUN, 0), SHAPE)
    begin(opened(), expected=RUN)
    before = dumped(client)

    with pytest.raises(Fenced):
        old.write([user(2, "b@x")])
    with pytest.raises(Fenced):
        old.write([user(1, "b@x", digest="1")])

    assert dumped(client) == before


def test_a_claim_never_becomes_older(target: RedisTarget, client: Any) -> None:
    """
    A late claim of the same record leaves the newer stamp, which outlives a late removal.
    """
    claims = Claims(target._link, MAPPING, Fence("fwd", 1, RUN, 0), SHAPE.reserved, lambda _: None)
    newer = Wanted(b"email:a@x", b"user:1", b"2", b"7")

    assert claims.claim([newer, newer._replace(version=b"1", stamp=b"6")]) == [None, None]
    claims._leave([(newer.key, newer.record, b"7")])

    assert client.hgetall("email:a@x") == {b"id": b"user:1", b"v": b"2", b"s": b"7"}


# --- removal --------------------------------------------------------------------------------------


def removed(target: RedisTarget, shape: RecordShape, *keys: bytes) -> list[str]:
    """
    What became of records that a remover took away.
    """
    remover = target.remover(MAPPING, Fence("fwd", 1, RUN, 0))
    found = [one for part in remover.read(keys, shape) for one in part]
    assert all(one.there is There.MARKED for one in found)
    return [word.value for _, word in remover.remove(found, shape)]


def test_a_removed_record_takes_its_entries_along(target: RedisTarget, client: Any) -> None:
    """
    The entry goes with the record; an entry that names somebody else stays.
    """
    write(target, user(1, "a@x"), user(2, "b@x"))
    client.hset("user:1", "_l", b"u9:email:a@xu9:email:b@x")

    assert removed(target, SHAPE, b"user:1") == ["removed"]
    assert entries_of(client) == {b"email:b@x": b"user:2"}


# --- kill between any two steps -------------------------------------------------------------------


class Killed(BaseException):
    """
    The writer is gone.
    """


@dataclass
class Mortal:
    """
    Sends script calls one by one and dies before one of them; with its answer lost if `after`.
    """

    link: Link
    lives: int
    after: bool = False

    def __post_init__(self) -> None:
        self._send = self.link.try_scripts
        self.link.try_scripts = self  # type: ignore[method-assign]

    def __call__(self, calls: Sequence[Command], script: Script) -> list[Any]:
        replies = []
        for call in calls:
            if self.lives == 0 and not self.after:
                raise Killed
            replies += self._send([call], script)
            if self.lives == 0:
                raise Killed
            self.lives -= 1
        return replies


BEFORE = (user(1, "a@x"), user(2, "b@x"), user(3, "c@x"), user(4))
AFTER = (
    user(1, "b@x", digest="1"),
    user(2, "d@x", digest="1"),
    user(3, digest="1"),
    user(4, "a@x", digest="1"),
    user(5, "d@x"),
    user(6, "e@x"),
)


@pytest.mark.parametrize("after", [False, True], ids=["before it", "its answer lost"])
def test_a_kill_at_any_step_is_mended_by_the_next_write(
    three: RedisCluster, opened: Callable[[], RedisTarget], client: Any, after: bool
) -> None:
    """
    Whatever step is the last: the same batch again ends as if nothing had happened.
    """
    target = opened()
    begin(target)
    wanted: dict[bytes, Any] = {}
    for lives in range(200):
        clear(three)
        write(target, *BEFORE)
        mortal = opened()
        died = Mortal(mortal._link, lives, after)
        try:
            write(mortal, *AFTER)
        except Killed:
            check(client, listed=False)
        outcomes = write(target, *AFTER).outcomes
        outcomes = [
            Outcome.DUPLICATE if one is Outcome.DUPLICATE else Outcome.SAME for one in outcomes
        ]
        check(client)
        wanted = wanted or everything(client)
        assert everything(client) == wanted, lives
        assert outcomes == [Outcome.SAME] * 4 + [Outcome.DUPLICATE, Outcome.SAME], lives
        mortal.close()
        if died.lives > 0:
            assert lives > 20
            return
    pytest.fail("it never came to its end")


def test_what_a_kill_leaves_is_in_nobodys_way(
    three: RedisCluster, opened: Callable[[], RedisTarget], client: Any
) -> None:
    """
    A record that was never written keeps no e-mail from another one, and a removal finds all.
    """
    target = opened()
    begin(target)
    for lives in range(200):
        clear(three)
        mortal = opened()
        died = Mortal(mortal._link, lives)
        try:
            write(mortal, user(1, "a@x"), user(2, "b@x"))
        except Killed:
            check(client, listed=False)
        receipt = write(target, user(3, "a@x"), user(4, "b@x"))
        for at, outcome in enumerate(receipt.outcomes):
            written = client.exists(f"user:{at + 1}")
            assert outcome is (Outcome.DUPLICATE if written else Outcome.WRITTEN)
        check(client)
        mortal.close()
        if died.lives > 0:
            return
    pytest.fail("it never came to its end")


def clear(three: RedisCluster) -> None:
    """
    Remove everything but the fences.
    """
    for node in three.masters:
        keys = [key for key in node.client().scan_iter("*:*", 5_000) if b"fence:" not in key]
        for key in keys:
            node.client().delete(key)


def check(client: Any, *, listed: bool = True) -> None:
    """
    No record without its entry, no e-mail with two records; `listed`: and nothing too many.
    """
    found = everything(client)
    owners: dict[bytes, bytes] = {}
    for key, record in found.items():
        if not key.startswith(b"user:") or not record[b"email"]:
            continue
        entry = b"email:" + record[b"email"]
        assert owners.setdefault(entry, key) == key, "two records have one e-mail"
        assert found.get(entry, {}).get(b"id") == key, "a record without its entry"
        keys = {one.key for one in parse_entries(record[b"_l"])}
        assert entry in keys
        assert not listed or keys == {entry}
    if listed:
        there = {key for key in found if key.startswith(b"email:")}
        assert there == set(owners), "an entry too many"


# --- two workers, out of order --------------------------------------------------------------------


@dataclass
class Turns:
    """
    Lets one of several workers take one step at a time, in an order that a seed decides.
    """

    seed: int
    _waiting: dict[int, threading.Event] = field(default_factory=dict)
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def step(self, worker: int) -> None:
        """
        Wait for a turn.
        """
        event = threading.Event()
        with self._changed:
            self._waiting[worker] = event
            self._changed.notify_all()
        assert event.wait(60)

    def run(self, works: Sequence[Callable[[], None]]) -> None:
        """
        Give turns until all are done.
        """
        chance = random.Random(self.seed)
        failed: list[BaseException] = []

        def body(work: Callable[[], None]) -> None:
            try:
                work()
            except BaseException as error:  # noqa: BLE001 - told below
                failed.append(error)

        threads = [threading.Thread(target=body, args=(work,)) for work in works]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            with self._changed:
                self._changed.wait_for(
                    lambda: sum(t.is_alive() for t in threads) == len(self._waiting), 0.01
                )
                alive = [at for at, thread in enumerate(threads) if thread.is_alive()]
                if any(at not in self._waiting for at in alive) or not alive:
                    continue
                chosen = chance.choice(sorted(self._waiting))
                self._waiting.pop(chosen).set()
        for thread in threads:
            thread.join()
        if failed:
            raise failed[0]


@dataclass
class Stepping:
    """
    Waits for a turn before each call of a script.
    """

    link: Link
    turns: Turns
    worker: int
    lives: int | None = None

    def __post_init__(self) -> None:
        self._send = self.link.try_scripts
        self.link.try_scripts = self  # type: ignore[method-assign]

    def __call__(self, calls: Sequence[Command], script: Script) -> list[Any]:
        replies = []
        for call in calls:
            self.turns.step(self.worker)
            if self.lives is not None:
                if self.lives == 0:
                    raise Killed
                self.lives -= 1
            replies += self._send([call], script)
        return replies

    def end(self) -> None:
        """
        Take the place of this wrapper away.
        """
        self.link.try_scripts = self._send  # type: ignore[method-assign]


def test_workers_that_cross_never_break_the_rule(
    three: RedisCluster, target: RedisTarget, opened: Callable[[], RedisTarget], client: Any
) -> None:
    """
    However the steps of three workers mix: no record lacks its entry, and nothing is left over.
    """
    own = [opened() for _ in range(3)]
    for seed in range(SEEDS):
        clear(three)
        write(target, *map(_sound, BEFORE))
        crossed(own, seed, lives=None)
        try:
            check(client)
        except AssertionError as error:
            error.add_note(f"seed {seed}: {everything(client)}")
            raise


def test_workers_that_cross_and_die_are_mended(
    three: RedisCluster, target: RedisTarget, opened: Callable[[], RedisTarget], client: Any
) -> None:
    """
    The same with workers that are killed at a random step, and their batches written once more.
    """
    own = [opened() for _ in range(3)]
    for seed in range(SEEDS):
        clear(three)
        write(target, *map(_sound, BEFORE))
        batches = crossed(own, seed, lives=random.Random(seed).randrange(1, 25))
        for batch in batches:
            write(target, *batch)
        try:
            check(client, listed=False)
        except AssertionError as error:
            error.add_note(f"seed {seed}: {everything(client)}")
            raise


SEEDS = 60
"""Orders of steps that are tried."""


def crossed(own: Sequence[RedisTarget], seed: int, lives: int | None) -> list[list[Record]]:
    """
    Have workers write what a seed says, in the order that it says; the first may be killed.
    """
    chance = random.Random(seed)
    turns = Turns(seed)
    works, written = [], []
    for worker, target in enumerate(own):
        batches = [
            [
                _sound(user(number, chance.choice(["", "a@x", "b@x", "c@x"])))
                for number in chance.sample(range(1, 5), 2)
            ]
            for _ in range(2)
        ]
        written += batches

        def work(
            target: RedisTarget = target,
            batches: Sequence[Sequence[Record]] = tuple(batches),
            worker: int = worker,
        ) -> None:
            loader = target.loader(MAPPING, Fence("fwd", 1, RUN, 0), SHAPE)
            stepping = Stepping(target._link, turns, worker, lives if worker == 0 else None)
            try:
                for batch in batches:
                    loader.write(batch)
            except Killed:
                return
            finally:
                stepping.end()

        works.append(work)
    turns.run(works)
    return written


def _sound(one: Record) -> Record:
    """
    The record with a digest that follows from its content.
    """
    return one._replace(digest=(one.fields[1].hex() + "0" * 16)[:16].encode())


# --- rights ---------------------------------------------------------------------------------------


def test_the_rights_that_doctor_prints_are_enough(
    three: RedisCluster, target: RedisTarget, heard: Heard, client: Any
) -> None:
    """
    A user with them claims, takes, leaves and removes.
    """
    rule = target.acl_rule(["user:", "email:"], LOOKUPS).replace("PASSWORD", "secret")
    for node in three.masters:
        node.client().execute_command(*rule.split(" "))
    config = three.config(username="migrate", password=Secret("secret"))
    try:
        with RedisTarget.open(config, heard, SystemClock()) as limited:
            write(limited, *BEFORE)
            client.delete("user:1")
            write(limited, user(2, "a@x", digest="1"), user(5, "b@x"), user(5, "c@x"))
            assert removed(limited, SHAPE, b"user:2") == ["removed"]
    finally:
        for node in three.masters:
            node.client().acl_deluser("migrate")

    assert entries_of(client) == {b"email:b@x": b"user:5", b"email:c@x": b"user:3"}
