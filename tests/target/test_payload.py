"""
What the encoder of payloads makes, read back by our own parser and by real servers.

A wrong payload with a right checksum ends a server, so that nothing here is left to reading code.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import pytest
import redis
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from migrate.target.payload import (
    MAX_ENTRY,
    MAX_FIELDS,
    MAX_TEXT,
    entry,
    hash_of,
    hash_payload,
    seal,
    string_payload,
)
from migrate.target.payload_check import BadPayload, contents, crc64, listpack
from tests.servers import RedisServer

# Bytes of a text around which something changes: 6 and 12 bits, one byte and two of a tail.
LENGTHS = [0, 1, 2, 43, 44, 45, 63, 64, 65, 125, 126, 127, 128, 129, 255, 256, 1000, 4094, 4095]

# Around every width of an integer in a listpack, from both sides.
WIDTHS = [
    side * (2**bits) + off for bits in (6, 7, 12, 15, 23, 31, 63) for off in (-1, 0, 1)
    for side in (1, -1)
]  # fmt: skip
NUMBERS = [b"%d" % n for n in (0, *WIDTHS)] + [
    b"-0", b"+1", b" 1", b"1 ", b"007", b"00", b"-007", b"1.0", b"1e3", b"nan", b"inf", b"0x10",
    b"-", b"+", b"9" * 30, b"\xef\xbc\x91",
]  # fmt: skip

texts = st.one_of(
    st.binary(max_size=80),
    st.sampled_from(LENGTHS).flatmap(lambda size: st.binary(min_size=size, max_size=size)),
    st.sampled_from(NUMBERS),
    st.integers(-(2**65), 2**65).map(lambda number: b"%d" % number),
)
hashes = st.dictionaries(texts, texts, min_size=1, max_size=20)


def flat(fields: dict[bytes, bytes]) -> list[bytes]:
    """
    Name, value, name, value, ...
    """
    return list(itertools.chain.from_iterable(fields.items()))


def made(fields: dict[bytes, bytes]) -> bytes:
    """
    The payload of a hash that is small enough.
    """
    payload = hash_payload(flat(fields))
    assert payload is not None
    return payload


def numbered(count: int, size: int = 3) -> dict[bytes, bytes]:
    """
    So many fields.
    """
    return {b"field %d" % at: b"x" * size for at in range(count)}


@given(hashes)
def test_a_hash_reads_back(fields: dict[bytes, bytes]) -> None:
    """
    Whatever the bytes, the parser that shares nothing with the encoder finds the same fields.
    """
    assert contents(made(fields)) == fields


@given(st.binary(max_size=20_000) | texts)
def test_a_string_reads_back(text: bytes) -> None:
    """
    The same for string records.
    """
    payload = string_payload(text)

    assert payload is not None
    assert contents(payload) == text


def test_every_length_of_an_entry() -> None:
    """
    Each of the 4,096 lengths has its head and its tail.
    """
    for size in range(MAX_ENTRY + 1):
        assert contents(made({b"n": b"y" * size})) == {b"n": b"y" * size}


def test_the_checksum_is_the_one_of_redis() -> None:
    """
    The value that Redis' own source gives for its test, by both implementations.
    """
    assert crc64(b"123456789") == 0xE9C6D914C4B8D9CA
    assert crc64(seal(b"123456789")[:-8]) == int.from_bytes(seal(b"123456789")[-8:], "little")


@pytest.mark.parametrize(
    "pairs",
    [
        [b"n", b"x" * (MAX_ENTRY + 1)],
        [b"n" * (MAX_ENTRY + 1), b"x"],
        flat(numbered(MAX_FIELDS + 1)),
        flat(numbered(MAX_FIELDS, 1000)),
    ],
    ids=["long value", "long name", "many fields", "large hash"],
)
def test_what_is_too_large_has_no_payload(pairs: Sequence[bytes]) -> None:
    """
    The script writes it instead.
    """
    assert hash_payload(pairs) is None


def test_a_string_that_is_too_large_has_no_payload() -> None:
    """
    The same for string records.
    """
    assert string_payload(b"x" * MAX_TEXT) is not None
    assert string_payload(b"x" * (MAX_TEXT + 1)) is None


@pytest.mark.parametrize("pairs", [[], [b"n"], [b"n", b"v", b"m"]])
def test_a_name_without_a_value_is_never_encoded(pairs: list[bytes]) -> None:
    """
    It is what ends servers.
    """
    with pytest.raises(ValueError, match="pairs"):
        hash_payload(pairs)


@given(hashes, st.data())
def test_a_changed_byte_is_found(fields: dict[bytes, bytes], data: st.DataObject) -> None:
    """
    By the checksum, wherever it is.
    """
    payload = bytearray(made(fields))
    payload[data.draw(st.integers(0, len(payload) - 1))] ^= data.draw(st.integers(1, 255))

    with pytest.raises(BadPayload):
        contents(bytes(payload))


# --- what a server says --------------------------------------------------------------------------


def planted() -> dict[str, bytes]:
    """
    Payloads with a right checksum that would end a server.
    """
    good = entry(b"name") + entry(b"a value")
    block = (6 + len(good) + 1).to_bytes(4, "little") + b"\x02\x00" + good + b"\xff"

    def sealed(listpack: bytes) -> bytes:
        return seal(b"\x10" + bytes([len(listpack)]) + listpack)

    short = entry(b"name")[:-1] + b"\x04"
    return {
        "tail": sealed(block[:6] + short + entry(b"a value") + b"\xff"),
        "length": sealed(block[:6] + b"\x8f" + block[7:]),
        "total": sealed((len(block) + 3).to_bytes(4, "little") + block[4:]),
        "count": sealed(block[:4] + b"\x04\x00" + block[6:]),
        "parity": sealed(
            (6 + len(good) + 4).to_bytes(4, "little") + b"\x03\x00" + good + entry(b"m") + b"\xff"
        ),
        "end": sealed(block[:-1] + b"\x00"),
        "twice": sealed(
            (7 + 2 * len(good)).to_bytes(4, "little") + b"\x04\x00" + good + good + b"\xff"
        ),
    }


@pytest.mark.parametrize("name", planted())
def test_planted_errors_are_refused(bulk_redis: RedisServer, name: str) -> None:
    """
    By our parser, and by a server that checks what it is given.
    """
    bulk_redis.set(sanitize_dump_payload="yes")
    client = bulk_redis.client()

    with pytest.raises(BadPayload):
        contents(planted()[name])
    with pytest.raises(redis.ResponseError, match="Bad data format"):
        client.restore("k", 0, planted()[name])

    assert client.ping()


@given(st.lists(hashes, min_size=1, max_size=10))
@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_server_that_checks_reads_back_the_same(
    bulk_redis: RedisServer, found: list[dict[bytes, bytes]]
) -> None:
    """
    RESTORE takes every payload, and HGETALL and HGET give every field.
    """
    client = bulk_redis.client()
    client.flushall()
    bulk_redis.set(sanitize_dump_payload="yes")

    with client.pipeline(transaction=False) as pipe:
        for at, fields in enumerate(found):
            pipe.restore(f"k{at}", 0, made(fields))
            pipe.hgetall(f"k{at}")
            for name in fields:
                pipe.hget(f"k{at}", name)
        replies = iter(pipe.execute())

    for fields in found:
        assert next(replies)
        assert next(replies) == fields
        assert [next(replies) for _ in fields] == list(fields.values())
    bulk_redis.close_clients()


@example({b"": b""}, 0x80)
@example({b"n": b"x" * 126}, 0x80)
@given(st.dictionaries(texts, texts, min_size=1, max_size=3), st.integers(1, 255))
@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_our_parser_accepts_a_server_that_checks_accepts(
    bulk_redis: RedisServer, fields: dict[bytes, bytes], change: int
) -> None:
    """
    Of payloads with any one byte changed and a right checksum: no more than the server, the same.
    """
    client = bulk_redis.client()
    client.flushall()
    bulk_redis.set(sanitize_dump_payload="yes")
    body = made(fields)[:-10]

    # Of a long text the first and the last bytes say all.
    for at in (*range(min(len(body), 100)), *range(max(0, len(body) - 50), len(body))):
        changed = seal(body[:at] + bytes([body[at] ^ change]) + body[at + 1 :])
        try:
            held = contents(changed)
        except BadPayload:
            continue
        client.restore("k", 0, changed, replace=True)
        assert held == (client.hgetall("k") if isinstance(held, dict) else client.get("k"))
    bulk_redis.close_clients()


@pytest.mark.parametrize("size", [0, 1, 63, 64, 127, 128, 4095])
def test_values_of_every_size(bulk_redis: RedisServer, size: int) -> None:
    """
    They come back, in the small form, and no larger than HSET would make them.
    """
    bulk_redis.set(sanitize_dump_payload="yes")
    client = bulk_redis.client()
    fields = {b"_v": b"1", **{b"f%d" % at: bytes([65 + at]) * size for at in range(6)}}

    client.restore("ours", 0, made(fields))
    client.hset("ours.", mapping=fields)

    assert client.hgetall("ours") == fields
    assert client.object("encoding", "ours") == b"listpack"
    assert client.memory_usage("ours", samples=0) <= client.memory_usage("ours.", samples=0)


@pytest.mark.parametrize("count", [1, 63, 64, 126, 127])
def test_hashes_of_every_length(bulk_redis: RedisServer, count: int) -> None:
    """
    Up to the limit they are kept in the small form by every server's own settings.
    """
    bulk_redis.set(sanitize_dump_payload="yes")
    client = bulk_redis.client()

    client.restore("k", 0, made(numbered(count)))

    assert client.hgetall("k") == numbered(count)
    assert client.hlen("k") == count
    assert client.object("encoding", "k") == b"listpack"


def test_a_server_with_a_lower_limit_makes_it_a_table(bulk_redis: RedisServer) -> None:
    """
    What its settings call too long is turned into a table on the way in.
    """
    bulk_redis.set(hash_max_listpack_entries="10")
    client = bulk_redis.client()

    client.restore("k", 0, made(numbered(11)))

    assert client.object("encoding", "k") == b"hashtable"
    assert client.hgetall("k") == numbered(11)


@pytest.mark.parametrize("number", NUMBERS, ids=ascii)
def test_texts_that_look_like_integers(bulk_redis: RedisServer, number: bytes) -> None:
    """
    They come back byte for byte, as values and as names, and later writes find them.
    """
    bulk_redis.set(sanitize_dump_payload="yes")
    client = bulk_redis.client()
    fields = {b"value": number, number: b"name", b"last": b"x"}

    client.restore("k", 0, made(fields))

    assert client.hgetall("k") == fields
    assert client.hget("k", number) == b"name"
    assert client.hexists("k", number)
    assert client.hstrlen("k", "value") == len(number)
    assert client.hset("k", number, "renamed") == 0
    assert client.hdel("k", "value") == 1
    assert client.hgetall("k") == {number: b"renamed", b"last": b"x"}


@pytest.mark.parametrize("number", [0, 1, -1, 127, 128, 4095, -4096, 2**31, 2**62, -(2**62)])
def test_a_number_can_be_counted_on(bulk_redis: RedisServer, number: int) -> None:
    """
    HINCRBY reads our text as it reads its own integer, and what is there then is its own.
    """
    client = bulk_redis.client()
    client.restore("k", 0, made({b"n": b"%d" % number, b"m": b"x"}))

    assert client.hincrby("k", "n", 5) == number + 5
    assert client.hgetall("k") == {b"n": b"%d" % (number + 5), b"m": b"x"}


def test_numbers_cost_little(bulk_redis: RedisServer) -> None:
    """
    A record of mostly numbers takes at most a step of the allocator more than the server's own.
    """
    client = bulk_redis.client()
    fields = {b"_v": b"1", **{b"number_%d" % at: b"%d" % (10**at) for at in range(10)}}

    client.restore("ours", 0, made(fields))
    client.hset("ours.", mapping=fields)

    ours, theirs = (client.memory_usage(key, samples=0) for key in ("ours", "ours."))
    assert ours <= theirs + 64


def test_our_parser_reads_what_the_server_keeps(bulk_redis: RedisServer) -> None:
    """
    The listpack that HSET makes, with its integers of every width, is read by the same parser.
    """
    bulk_redis.set(rdbcompression="no", hash_max_listpack_value="4096")
    client = bulk_redis.client()
    fields = {b"f%d" % at: number for at, number in enumerate(NUMBERS)} | {b"long": b"x" * 200}
    client.hset("k", mapping=fields)

    dump = client.dump("k")

    assert dump[:1] == b"\x10"
    start = 2 if dump[1] >> 6 else 1
    found = listpack(dump[1 + start : -10])
    assert dict(zip(found[::2], found[1::2], strict=True)) == fields
    assert crc64(dump[:-8]) == int.from_bytes(dump[-8:], "little")


@pytest.mark.parametrize("text", [b"", b"{}", b'{"_v":"1"}', b"x" * 44, b"x" * 45, b"12", b"-0"])
def test_strings_are_those_of_set(bulk_redis: RedisServer, text: bytes) -> None:
    """
    A restored string is read, kept and encoded as if it had been SET.
    """
    bulk_redis.set(sanitize_dump_payload="yes")
    client = bulk_redis.client()

    client.restore("ours", 0, string_payload(text))
    client.set("ours.", text)

    assert client.get("ours") == text
    assert client.object("encoding", "ours") == client.object("encoding", "ours.")


def test_large_strings(bulk_redis: RedisServer) -> None:
    """
    Each form of their length.
    """
    client = bulk_redis.client()
    for size in (63, 64, 16_383, 16_384, MAX_TEXT):
        client.restore(f"k{size}", 0, string_payload(b"z" * size))

        assert client.get(f"k{size}") == b"z" * size


def test_they_outlive_a_restart(bulk_redis: RedisServer) -> None:
    """
    What was restored is written to disk and loaded again as it was.
    """
    fields = [{**numbered(3, size), b"n": b"%d" % size} for size in LENGTHS]
    client = bulk_redis.client()
    for at, one in enumerate(fields):
        client.restore(f"k{at}", 0, made(one))
    client.restore("text", 0, string_payload(b"x" * 20_000))

    bulk_redis.restart()

    client = bulk_redis.client()
    assert [client.hgetall(f"k{at}") for at in range(len(fields))] == fields
    assert client.get("text") == b"x" * 20_000


def test_they_outlive_a_crash(modern: None, redis_fresh: Callable[..., RedisServer]) -> None:
    """
    The append-only file brings them back as well.
    """
    server = redis_fresh(appendonly="yes", appendfsync="always")
    server.client().restore("k", 0, made(numbered(20, 200)))

    server.kill()
    server.start()

    assert server.client().hgetall("k") == numbered(20, 200)


def test_whole_payloads_of_joined_entries() -> None:
    """
    Who joins entries himself gets the same payload.
    """
    fields = numbered(5)

    assert hash_of(b"".join(map(entry, flat(fields))), 5) == made(fields)
