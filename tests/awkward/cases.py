"""
What a case of the collection is: a value or a schema, and what the documentation says of it.

Cases are values. Nothing here asks the program what is right.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

HERE = "§"
"""In a schema's SQL and mapping: a name that is its own, for its table and before its keys."""


@dataclass(frozen=True, slots=True)
class Moved:
    """
    The field holds these bytes; None: the field is absent.
    """

    field: bytes | None


@dataclass(frozen=True, slots=True)
class Rejected:
    """
    The row is a reject with this reason; its neighbours are moved.
    """

    reason: str


ABSENT = Moved(None)


@dataclass(frozen=True, slots=True)
class Value:
    """
    One value as SQL writes it, and what becomes of it.
    """

    sql: str
    outcome: Moved | Rejected


@dataclass(frozen=True, slots=True)
class Sort:
    """
    A column of the table of values: what it is declared as, and the values that go into it.

    Args:
        good: What the neighbours hold, in SQL.

        shown: What that is in a record.

        options: The entry of the field in the mapping, behind its column.

        since: The first version of the server that has such columns or values, as 1011 for 10.11.

        needs: The extension that it comes with.
    """

    declared: str
    good: str
    shown: bytes
    values: Mapping[str, Value]
    options: str = ""
    since: int = 0
    needs: str = ""


Record = Mapping[str, bytes]
"""The fields of a record but ours; what is NULL is not there."""


@dataclass(frozen=True, slots=True)
class Schema:
    """
    A table of its own with its rows, a mapping of it, and the whole outcome.

    Args:
        sql: Makes the table.

        records: By what stands behind `§:` in the record key.

        rejects: Column and reason of each, in the order of the keys.

        source: Of the mapping, behind the table, such as `key: [a, b]`.

        table: As the mapping names it.

        more: Further sections of the mapping.

        key: The template of the record key.

        type: Of the record.

        since, needs: As of a column.
    """

    sql: str
    records: Mapping[str, Record] = field(default_factory=dict)
    rejects: tuple[tuple[str, str], ...] = ()
    source: str = "key: [id]"
    table: str = HERE
    more: str = ""
    key: str = f"{HERE}:{{id}}"
    type: str = "hash"
    since: int = 0
    needs: str = ""


@dataclass(frozen=True, slots=True)
class Refused:
    """
    A schema that no row is read of: the command's error, and the rule that a mapping breaks.

    Args:
        rule: In the error's problems; empty where it has none.
    """

    sql: str
    rule: str = ""
    code: str = "schema-mismatch"
    source: str = "key: [id]"
    table: str = HERE
    more: str = ""
    key: str = f"{HERE}:{{id}}"
    type: str = "hash"
    since: int = 0
    needs: str = ""


@dataclass(frozen=True, slots=True)
class Drift:
    """
    A table that changes behind the first page of a read.

    Args:
        sql: Makes the table; it has five rows with the keys 1 to 5.

        change: Happens behind the second row.

        told: In the error's list of changes; empty where the read goes on.

        cells: The last column of the rows behind the change, where it goes on.
    """

    sql: str
    change: str
    told: str = ""
    cells: tuple[str, ...] = ()


def moved(text: str) -> Moved:
    """
    The field holds this text in UTF-8.
    """
    return Moved(text.encode())


def values(**named: tuple[str, str | bytes | None]) -> dict[str, Value]:
    """
    A table of values: `!` begins a reason, anything else is what the field holds.
    """
    return {name.replace("_", " "): Value(sql, _outcome(is_)) for name, (sql, is_) in named.items()}


def _outcome(wanted: str | bytes | None) -> Moved | Rejected:
    if isinstance(wanted, str):
        return Rejected(wanted[1:]) if wanted.startswith("!") else moved(wanted)
    return Moved(wanted)


def typed(declared: str, rule: str, **changes: str) -> Refused:
    """
    A table with one column `v` of this type, refused by this rule.
    """
    return Refused(f"CREATE TABLE {HERE} (id INT PRIMARY KEY, v {declared})", rule, **changes)


def keyed(declared: str, rule: str = "key-type", **changes: str) -> Refused:
    """
    A table with a key of this type, refused by this rule.
    """
    return Refused(f"CREATE TABLE {HERE} (id {declared} NOT NULL PRIMARY KEY)", rule, **changes)
