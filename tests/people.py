"""
Generated people with orders, roles and vouchers, alike on SQLite, PostgreSQL and MariaDB.

They have what flat rows lack: children of children, keys and values that need escaping, further
keys that change hands, and instants of expiry. What Redis should hold of them is worked out here
from the rows that a driver gives, by code that the writer does not share.
"""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from tests.parity import Row, Wanted, rows_of
from tests.servers import Database

TENANTS = ("acme", "b:olt 100%", "café*[x]?")
"""Most of their characters need escaping."""

LOCALES = (None, "", "de-DE", "en-GB", "日本", "a:b")

SPELLINGS = (
    "user{}@example.org",
    "User{}@Example.ORG",
    "zoë.{}@exämple.org",
    "100%:{}*?[x]",
    "{} {{}} \\ 😀",
)
"""Of e-mails, each made unique by a number."""

ENDS = (
    None,
    "2001-09-09 01:46:40",
    "1969-12-31 23:59:59.999999",
    "2999-01-01 00:00:00",
    "9999-12-31 23:59:59.999999",
    "2345-06-07 08:09:10.987654",
)
"""Of vouchers: never, over, and to come; none so near that a run could meet it."""

GRACE_MS = 60_000
"""How long a record outlives its instant."""

MAPPING = """
version: 1
name: people
source: {table: people, key: [tenant, id]}
target: {key: "person:{{{tenant}}}:{id}"}
fields: {tenant: {}, id: {}, email: {}, name: {}, locale: {}, born: {}, points: {}, seen: {}}
children:
  orders:
    table: orders
    join: {tenant: tenant, person_id: id}
    order_by: [place]
    columns: [no, placed_at, total]
    children:
      lines:
        table: order_lines
        join: {order_no: no}
        order_by: [line]
        columns: {sku: {}, count: {column: quantity}}
  roles: {table: roles, join: {tenant: tenant, person_id: id}, order_by: [role], column: role}
lookups:
  by_email: {key: "person-email:{{{tenant}}}:{email}", unique: true}
  by_locale: {type: set, key: "people-locale:{{{tenant}}}:{locale}"}
  by_birth: {type: sorted_set, key: "people-born:{{{tenant}}}", score: born}
  by_points: {type: sorted_set, key: "people-points:{{{tenant}}}:{locale}", score: points}
"""
"""The record and its further keys share a hash tag, which is what sets need on a Cluster."""

VOUCHERS = """
version: 1
name: vouchers
source: {table: vouchers, key: [code]}
target: {key: "voucher:{{v}}:{code}", ttl: {column: valid_until}}
fields: {holder: {}, worth: {}, valid_until: {}}
lookups:
  by_holder: {key: "voucher-holder:{{v}}:{holder}", unique: true}
"""

TYPES = {
    "tenant": "text",
    "id": "integer",
    "email": "text",
    "name": "text",
    "locale": "text",
    "born": "date",
    "points": "decimal:2",
    "seen": "timestamp",
}
VOUCHER_TYPES = {"holder": "text", "worth": "decimal:2", "valid_until": "timestamp"}

_TABLES = """
CREATE TABLE people (tenant VARCHAR(20) NOT NULL, id BIGINT NOT NULL, email VARCHAR(120),
    name VARCHAR(60), locale VARCHAR(20), born DATE, points NUMERIC(12, 2), seen {stamp},
    PRIMARY KEY (tenant, id));
CREATE TABLE orders (no BIGINT NOT NULL PRIMARY KEY, tenant VARCHAR(20), person_id BIGINT,
    place INTEGER, total NUMERIC(10, 2), placed_at {stamp});
CREATE INDEX orders_person ON orders (tenant, person_id);
CREATE TABLE order_lines (order_no BIGINT NOT NULL, line INTEGER NOT NULL, sku VARCHAR(60),
    quantity INTEGER, PRIMARY KEY (order_no, line));
CREATE TABLE roles (tenant VARCHAR(20), person_id BIGINT, role VARCHAR(20));
CREATE INDEX roles_person ON roles (tenant, person_id);
CREATE TABLE vouchers (code VARCHAR(40) NOT NULL PRIMARY KEY, holder VARCHAR(60),
    worth NUMERIC(10, 2), valid_until {stamp})
"""
_STAMP = {"sqlite": "DATETIME", "postgresql": "timestamp", "mariadb": "DATETIME(6)"}


class People:
    """
    The tables in one database, and changes to them; the same seed is always the same content.
    """

    def __init__(self, database: Database, seed: int = 1) -> None:
        self._database = database
        self._random = random.Random(seed)
        self._mark = "?" if database.dialect == "sqlite" else "%s"
        self._made = 0

    def create(self, count: int) -> None:
        """
        Tables with so many people, and all that belongs to them.
        """
        for statement in _TABLES.replace("{stamp}", _STAMP[self._database.dialect]).split(";"):
            self._database.execute(statement)
        self.add(count)
        self._insert("vouchers", [self._voucher(number) for number in range(count // 3)])

    def add(self, count: int) -> None:
        """
        Further people with their orders and roles.
        """
        people: list[tuple[Any, ...]] = []
        orders: list[tuple[Any, ...]] = []
        lines: list[tuple[Any, ...]] = []
        roles: list[tuple[Any, ...]] = []
        for number in range(self._made, self._made + count):
            # Two tenants may use one number.
            tenant, person = TENANTS[number % 3], number // 3 * 7 - 1_000
            people.append((tenant, person, *self._person(number)))
            for at in range(self._random.choice((0, 0, 1, 2, 5))):
                orders.append((number * 10 + at, tenant, person, *self._order()))
                lines += [(number * 10 + at, line, *self._line()) for line in range(at)]
            roles += [(tenant, person, role) for role in self._roles()]
        self._made += count
        self._insert("people", people)
        self._insert("orders", orders)
        self._insert("order_lines", lines)
        self._insert("roles", roles)

    def change(self, count: int) -> None:
        """
        Change fields, move children to other parents, and pass unique values on in chains.
        """
        people = self._keys("people", "tenant, id")
        self._set("people", "tenant, id", "name, locale, born, points, seen", [
            (*self._person(0)[1:], *key) for key in self._random.sample(people, count)
        ])  # fmt: skip
        orders = self._keys("orders", "no")
        self._set("orders", "no", "tenant, person_id, place, total, placed_at", [
            (*self._random.choice(people), *self._order(), *key)
            for key in self._random.sample(orders, count)
        ])  # fmt: skip
        lines = self._keys("order_lines", "order_no, line")
        self._set("order_lines", "order_no, line", "sku, quantity", [
            (*self._line(), *key) for key in self._random.sample(lines, count)
        ])  # fmt: skip
        dropped = " AND ".join(f"{name} = {self._mark}" for name in ("order_no", "line"))
        gone = self._random.sample(lines, count // 2)
        self._database.execute(f"DELETE FROM order_lines WHERE {dropped}", *gone)
        self._database.execute(
            f"UPDATE roles SET role = 'moved', person_id = {people[0][1]}, "
            f"tenant = '{people[0][0]}' WHERE person_id % 5 = 0"
        )
        for tenant in TENANTS:
            chain = self._random.sample([key for key in people if key[0] == tenant], 12)
            self._pass_on("people", "tenant, id", "email", chain)
        self._change_vouchers(count)
        self.add(count)

    def wanted(self, now: datetime | None = None) -> Iterator[Wanted]:
        """
        What Redis should hold of the people and the vouchers.

        Args:
            now: Which vouchers are over.
        """
        orders, roles = self._orders(), self._read_roles()
        for row in self._rows("people"):
            owner = (row["tenant"], row["id"])
            yield Wanted(
                f"person:{{{key_text(owner[0])}}}:{owner[1]}".encode(),
                row,
                TYPES,
                nested={"orders": orders[owner], "roles": roles[owner]},
                entries=tuple(_entries(row)),
            )
        at = milliseconds(now or datetime.now(UTC).replace(tzinfo=None))
        for row in self._rows("vouchers"):
            ends = _instant(row["valid_until"])
            if ends is None or ends + GRACE_MS > at:
                holder = row["holder"]
                entry = None if holder is None else f"voucher-holder:{{v}}:{key_text(holder)}"
                yield Wanted(
                    b"voucher:{v}:" + key_text(row["code"]).encode(),
                    row,
                    VOUCHER_TYPES,
                    entries=() if entry is None else (("u", entry.encode(), None),),
                    expires=ends,
                    grace=GRACE_MS,
                )

    # --- reading --------------------------------------------------------------------------------

    def _rows(self, table: str, order: str = "") -> Iterator[Row]:
        return rows_of(self._database.url, f"SELECT * FROM {table} {order}")

    def _orders(self) -> dict[tuple[str, int], list[Any]]:
        lines: dict[int, list[Any]] = defaultdict(list)
        for row in sorted(self._rows("order_lines"), key=lambda row: row["line"]):
            lines[row["order_no"]].append(_object(count=row["quantity"], sku=row["sku"]))
        found: dict[tuple[str, int], list[Any]] = defaultdict(list)
        rows = sorted(
            self._rows("orders"),
            key=lambda row: (row["place"] is None, row["place"] or 0, row["no"]),
        )
        for row in rows:
            found[row["tenant"], row["person_id"]].append(
                _object(
                    lines=lines[row["no"]],
                    no=row["no"],
                    placed_at=_stamp(row["placed_at"]),
                    total=_cents(row["total"]),
                )
            )
        return found

    def _read_roles(self) -> dict[tuple[str, int], list[Any]]:
        found: dict[tuple[str, int], list[Any]] = defaultdict(list)
        # In the server's own order of texts.
        for row in self._rows("roles", "ORDER BY CASE WHEN role IS NULL THEN 1 ELSE 0 END, role"):
            found[row["tenant"], row["person_id"]].append(row["role"])
        return found

    def _keys(self, table: str, key: str) -> list[tuple[Any, ...]]:
        return self._database.query(f"SELECT {key} FROM {table} ORDER BY {key}")

    # --- writing --------------------------------------------------------------------------------

    def _insert(self, table: str, rows: Sequence[tuple[Any, ...]]) -> None:
        marks = ", ".join([self._mark] * len(rows[0]))
        self._database.execute(f"INSERT INTO {table} VALUES ({marks})", *rows)

    def _set(self, table: str, key: str, columns: str, rows: Sequence[Sequence[Any]]) -> None:
        values = ", ".join(f"{name} = {self._mark}" for name in columns.split(", "))
        places = " AND ".join(f"{name} = {self._mark}" for name in key.split(", "))
        self._database.execute(f"UPDATE {table} SET {values} WHERE {places}", *rows)

    def _pass_on(self, table: str, key: str, column: str, chain: Sequence[tuple[Any, ...]]) -> None:
        """
        Each row takes the value of the next, the last one a new value.
        """
        found = self._database.query(f"SELECT {key}, {column} FROM {table}")
        held = {tuple(row[:-1]): row[-1] for row in found}
        values = [held[link] for link in chain[1:]]
        fresh = f"new-{self._random.randrange(10**9)}"
        rows = [(value, *link) for value, link in zip([*values, fresh], chain, strict=True)]
        self._set(table, key, column, rows)

    def _change_vouchers(self, count: int) -> None:
        vouchers = self._keys("vouchers", "code")
        chosen = self._random.sample(vouchers, count)
        self._set("vouchers", "code", "valid_until", [
            (self._random.choice(ENDS), *key) for key in chosen
        ])  # fmt: skip
        self._pass_on("vouchers", "code", "holder", self._random.sample(vouchers, 10))

    # --- values ---------------------------------------------------------------------------------

    def _person(self, number: int) -> tuple[Any, ...]:
        chance = self._random
        day = date(1900, 1, 1) + timedelta(days=chance.randrange(45_000))
        return (
            None if number % 10 == 9 else SPELLINGS[number % len(SPELLINGS)].format(number),
            chance.choice((None, "", "Ada", "Björn", "Đặng 😀", 'O\'Neil "x"')),
            chance.choice(LOCALES),
            chance.choice((None, str(day), str(day))),
            chance.choice((None, "0.00", "-0.01", "9999999999.99", str(chance.randrange(10**6)))),
            chance.choice(
                (None, f"{day} 12:34:56.{chance.randrange(10**6):06}", f"{day} 00:00:00")
            ),
        )

    def _order(self) -> tuple[Any, ...]:
        chance = self._random
        return (
            chance.choice((None, 1, 2, 3, -1)),
            chance.choice((None, "1.50", "20.00", "0.01", "99999999.99")),
            chance.choice((None, "2024-02-29 23:59:59.5", "1969-12-31 00:00:00")),
        )

    def _line(self) -> tuple[Any, ...]:
        chance = self._random
        return (
            chance.choice((None, "", "pen", 'two "quoted" \\ words', "tab\there", "日本 😀")),
            chance.choice((None, 0, 1, -(2**31), 2**31 - 1)),
        )

    def _roles(self) -> list[str | None]:
        return self._random.sample(("admin", "editor", "", None, "admin", "reader"), 2)

    def _voucher(self, number: int) -> tuple[Any, ...]:
        ends = [*ENDS, "infinity"] if self._database.dialect == "postgresql" else [*ENDS]
        return (
            f"V:{number}%",
            None if number % 7 == 6 else f"holder zoë {number}",
            f"{number}.5",
            ends[number % len(ends)],
        )


def key_text(value: str) -> str:
    """
    A value inside a record key, or the key of a lookup.
    """
    return re.sub(
        r"[%:{}*?\[\]\\ \x00-\x1f\x7f]", lambda found: f"%{ord(found.group()):02X}", value
    )


def milliseconds(at: datetime) -> int:
    """
    Since 1970, in UTC; what is finer is cut off.
    """
    return (at - datetime(1970, 1, 1)) // timedelta(milliseconds=1)


def _entries(row: Row) -> Iterator[tuple[str, bytes, float | None]]:
    tenant = key_text(row["tenant"])
    locale = None if row["locale"] is None else key_text(row["locale"])
    if row["email"] is not None:
        yield "u", f"person-email:{{{tenant}}}:{key_text(row['email'])}".encode(), None
    if locale is not None:
        yield "s", f"people-locale:{{{tenant}}}:{locale}".encode(), None
    if row["born"] is not None:
        born = row["born"] if isinstance(row["born"], date) else date.fromisoformat(row["born"])
        score = float((born - date(1970, 1, 1)).days * 86_400_000)
        yield "z", f"people-born:{{{tenant}}}".encode(), score
    if locale is not None and row["points"] is not None:
        key = f"people-points:{{{tenant}}}:{locale}"
        yield "z", key.encode(), float(row["points"])


def _object(**members: Any) -> dict[str, Any]:
    """
    As a record has it: NULL is an absent member, and members stand in the order of their names.
    """
    return {name: members[name] for name in sorted(members) if members[name] is not None}


def _moment(value: Any) -> datetime:
    return value if isinstance(value, datetime) else datetime.fromisoformat(value)


def _stamp(value: Any) -> str | None:
    if value is None:
        return None
    text = _moment(value).isoformat()
    return text.rstrip("0") if "." in text else text


def _cents(value: Any) -> Decimal | None:
    return None if value is None else Decimal(str(value)).quantize(Decimal("0.01"))


def _instant(value: Any) -> int | None:
    return None if value in (None, "infinity") else milliseconds(_moment(value))
