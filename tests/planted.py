"""
Defects planted at random in a migrated data set, with the verdict that each must get.

The data is made by plain SQL that three servers take alike; defects go into Redis by plain
commands, or into SQL behind the backfill's back.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

import redis

from tests.servers import Database

MAPPING = """
version: 1
name: people
source: {table: people, key: [id]}
target: {key: "person:{id}"}
fields: {name: {}, email: {}, city: {}, note: {}, rating: {}, points: {}}
children:
  orders: {table: orders, join: {person: id}, columns: [id, total]}
lookups:
  by_email: {key: "person-email:{email}", unique: true}
  by_city: {type: set, key: "people-city:{city}"}
"""

WITHOUT_LOOKUPS = MAPPING.partition("lookups:")[0]
"""With child rows."""

FLAT = MAPPING.partition("children:")[0]
"""Hashes of columns and of nothing else, which every level compares the fast way."""

FULL, DEEP = "full", "deep"
BOTH = frozenset({FULL, DEEP})
ONLY_DEEP = frozenset({DEEP})

Named = tuple[str, str, str, str]
"""Verdict, kind, key and field."""

COMPOSED, DECOMPOSED = "Jos\u00e9", "Jose\u0301"


@dataclass(slots=True)
class Planted:
    """
    What was planted, and what has to be told of it at each level.
    """

    expected: dict[str, set[Named]] = field(default_factory=lambda: {FULL: set(), DEEP: set()})
    touched: set[str] = field(default_factory=set)

    def name(self, levels: frozenset[str], verdict: str, kind: str, key: str, at: str = "") -> None:
        """
        Something that these levels must name.
        """
        self.touched.add(key)
        for level in levels:
            self.expected[level].add((verdict, kind, key, at))


def create(database: Database, rows: int) -> None:
    """
    The tables and their rows.
    """
    double = "double precision" if database.dialect == "postgresql" else "double"
    binary = " COLLATE utf8mb4_bin" if database.dialect == "mariadb" else ""
    database.execute(
        "CREATE TABLE people (id INTEGER PRIMARY KEY, name VARCHAR(80), email VARCHAR(80), "
        f"city VARCHAR(40), note VARCHAR(80), rating {double}, points INTEGER){binary}"
    )
    database.execute(
        "CREATE TABLE orders (id INTEGER PRIMARY KEY, person INTEGER NOT NULL, "
        f"total DECIMAL(10,2)){binary}"
    )
    for start in range(1, rows + 1, 500):
        ids = range(start, min(rows + 1, start + 500))
        people = ", ".join(
            f"({n}, 'Name {n} {COMPOSED}', '{n}@example.org', 'City {n % 40}', "
            f"{'NULL' if n % 2 else repr('')}, {n / 7!r}, {n * 13 % 1000})"
            for n in ids
        )
        database.execute(f"INSERT INTO people VALUES {people}")
        orders = ", ".join(
            f"({n * 10 + at}, {n}, {n % 90}.{at}0)" for n in ids for at in range(n % 3)
        )
        if orders:
            database.execute(f"INSERT INTO orders VALUES {orders}")


def _key(n: int) -> str:
    return f"person:{n}"


Plant = Callable[[Database, redis.Redis, int, Planted], None]


def _missing(_: Database, client: redis.Redis, n: int, planted: Planted) -> None:
    # Its entries are left over with it.
    client.delete(_key(n))
    planted.name(BOTH, "MISSING", "", _key(n))
    client.delete(f"person-email:{n}@example.org")
    client.srem(f"people-city:City {n % 40}".replace(" ", "%20"), _key(n))


def _extra(_: Database, client: redis.Redis, n: int, planted: Planted) -> None:
    key = _key(9_000_000 + n)
    client.hset(key, mapping={"_v": "1", "_h": "0123456789abcdef", "name": "x", "orders": "[]"})
    planted.name(BOTH, "ORPHAN", "", key)


def _byte(_: Database, client: redis.Redis, n: int, planted: Planted) -> None:
    client.hset(_key(n), "name", f"Name {n} Jos\u00e8")
    planted.name(ONLY_DEEP, "DIFFERENT", "value", _key(n), "name")


def _added(_: Database, client: redis.Redis, n: int, planted: Planted) -> None:
    client.hset(_key(n), "nickname", "x")
    planted.name(ONLY_DEEP, "DIFFERENT", "extra_field", _key(n), "nickname")
    planted.name(frozenset({FULL}), "DIFFERENT", "extra_field", _key(n), "nickname")


def _removed(_: Database, client: redis.Redis, n: int, planted: Planted) -> None:
    client.hdel(_key(n), "points")
    planted.name(BOTH, "DIFFERENT", "absent_field", _key(n), "points")


def _retyped(_: Database, client: redis.Redis, n: int, planted: Planted) -> None:
    client.delete(_key(n))
    client.rpush(_key(n), "a", "b")
    planted.name(BOTH, "DIFFERENT", "type", _key(n))
    client.delete(f"person-email:{n}@example.org")
    client.srem(f"people-city:City {n % 40}".replace(" ", "%20"), _key(n))


def _unmarked(_: Database, client: redis.Redis, n: int, planted: Planted) -> None:
    client.delete(_key(n))
    client.hset(_key(n), "name", "of somebody else")
    planted.name(BOTH, "COLLISION", "", _key(n))
    client.delete(f"person-email:{n}@example.org")
    client.srem(f"people-city:City {n % 40}".replace(" ", "%20"), _key(n))


def _life(_: Database, client: redis.Redis, n: int, planted: Planted) -> None:
    client.expire(_key(n), 100_000)
    planted.name(BOTH, "DIFFERENT", "ttl", _key(n), "_e")


def _stale(_: Database, client: redis.Redis, n: int, planted: Planted) -> None:
    client.hset(_key(n), "_v", "0")
    planted.name(BOTH, "LOST_EVENT", "", _key(n))


def _ahead(_: Database, client: redis.Redis, n: int, planted: Planted) -> None:
    client.hset(_key(n), "_v", "77")
    planted.name(BOTH, "SPLIT_BRAIN", "", _key(n))


def _digest(_: Database, client: redis.Redis, n: int, planted: Planted) -> None:
    client.hset(_key(n), "_h", "fedcba9876543210")
    planted.name(BOTH, "DIFFERENT", "digest", _key(n), "_h")


def _buried(_: Database, client: redis.Redis, n: int, planted: Planted) -> None:
    client.delete(_key(n))
    client.hset(_key(n), mapping={"_v": "1", "_t": "1"})
    planted.name(BOTH, "MISSING", "tombstone", _key(n))
    client.delete(f"person-email:{n}@example.org")
    client.srem(f"people-city:City {n % 40}".replace(" ", "%20"), _key(n))


def _elsewhere(_: Database, client: redis.Redis, n: int, planted: Planted) -> None:
    client.set(f"person-email:{n}@example.org", _key(n + 1))
    planted.name(BOTH, "DIFFERENT", "lookup", _key(n), "by_email")


def _unlinked(_: Database, client: redis.Redis, n: int, planted: Planted) -> None:
    client.srem(f"people-city:City {n % 40}".replace(" ", "%20"), _key(n))
    planted.name(BOTH, "DIFFERENT", "lookup", _key(n), "by_city")


def _left_over(_: Database, client: redis.Redis, n: int, planted: Planted) -> None:
    client.set(f"person-email:old{n}@example.org", _key(n))
    planted.name(BOTH, "ORPHAN", "lookup", f"person-email:old{n}@example.org", "by_email")


def _child(database: Database, _: redis.Redis, n: int, planted: Planted) -> None:
    database.execute(f"INSERT INTO orders VALUES ({5_000_000 + n}, {n}, 1.00)")
    planted.name(BOTH, "DIFFERENT", "child", _key(n), "orders")


def _child_behind(_: Database, client: redis.Redis, n: int, planted: Planted) -> None:
    client.hset(_key(n), "orders", "[]" if n % 3 else '[{"id":1}]')
    planted.name(ONLY_DEEP, "DIFFERENT", "child", _key(n), "orders")


def _zero(database: Database, client: redis.Redis, n: int, planted: Planted) -> None:
    # One side holds zero, the other the zero below it; SQLite cannot hold the second.
    database.execute(f"UPDATE people SET rating = 0 WHERE id = {n}")
    client.hset(_key(n), "rating", "-0")
    planted.name(BOTH, "DIFFERENT", "value", _key(n), "rating")


def _null(_: Database, client: redis.Redis, n: int, planted: Planted) -> None:
    if n % 2:
        client.hset(_key(n), "note", "")
        planted.name(BOTH, "DIFFERENT", "extra_field", _key(n), "note")
    else:
        client.hdel(_key(n), "note")
        planted.name(BOTH, "DIFFERENT", "absent_field", _key(n), "note")


def _unicode(_: Database, client: redis.Redis, n: int, planted: Planted) -> None:
    client.hset(_key(n), "name", f"Name {n} {DECOMPOSED}")
    planted.name(ONLY_DEEP, "DIFFERENT", "value", _key(n), "name")


def _gone(database: Database, _: redis.Redis, n: int, planted: Planted) -> None:
    database.execute(f"DELETE FROM people WHERE id = {n}")
    planted.name(BOTH, "ORPHAN", "", _key(n))


def _changed(database: Database, _: redis.Redis, n: int, planted: Planted) -> None:
    database.execute(f"UPDATE people SET points = points + 1 WHERE id = {n}")
    planted.name(BOTH, "DIFFERENT", "value", _key(n), "points")


DEFECTS: Mapping[str, Plant] = {
    "a missing record": _missing,
    "an extra record": _extra,
    "a row that was deleted": _gone,
    "a row that was changed": _changed,
    "one changed byte": _byte,
    "a field added": _added,
    "a field removed": _removed,
    "a type changed": _retyped,
    "a value without our mark": _unmarked,
    "a time to live changed": _life,
    "a stale version": _stale,
    "a version ahead": _ahead,
    "a digest changed": _digest,
    "a tombstone beside a living row": _buried,
    "a lookup that points elsewhere": _elsewhere,
    "a lookup without the record": _unlinked,
    "a lookup left over": _left_over,
    "a child row missing": _child,
    "child rows changed behind their digest": _child_behind,
    "-0.0 against 0.0": _zero,
    "NULL against empty": _null,
    "decomposed against composed": _unicode,
}


OF_LOOKUPS = frozenset(name for name in DEFECTS if "lookup" in name)
OF_CHILDREN = frozenset(name for name in DEFECTS if "child" in name)


def plant(
    database: Database,
    client: redis.Redis,
    rows: int,
    each: int,
    *,
    seed: int = 7,
    without: Collection[str] = (),
) -> Planted:
    """
    So many defects of each kind, in entities of their own.

    Args:
        without: Kinds that are left out.
    """
    planted = Planted()
    # Every third one at most, so that a neighbour is never a defect as well.
    places = random.Random(seed).sample(range(1, rows // 3), each * len(DEFECTS))
    for at, (name, make) in enumerate(DEFECTS.items()):
        if name in without:
            continue
        for place in places[at * each : (at + 1) * each]:
            make(database, client, 3 * place + 1, planted)
    return planted
