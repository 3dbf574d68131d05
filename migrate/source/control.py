"""
The tables of capture in the source: who is in charge, which rows were marked, at which version.

Nothing here creates them unasked: reading works without them, at generation 0.
"""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.dialects import mysql

from migrate.model.values import Key

METADATA = sa.MetaData()

# SQLite counts up by itself only in a column that is declared INTEGER.
_SERIAL = sa.BigInteger().with_variant(sa.Integer, "sqlite")

# MariaDB and MySQL keep no index over a text without a length, and compare texts loosely: an entity
# is its bytes there. With `mapping` it fills the 3,072 bytes that an index may have.
_ENTITY = sa.Text().with_variant(mysql.VARBINARY(2_048), "mysql", "mariadb")

CTL = sa.Table(
    "migrate_ctl",
    METADATA,
    sa.Column("mapping", sa.String(255), primary_key=True),
    sa.Column("generation", sa.BigInteger, nullable=False),
    sa.Column("base", sa.BigInteger, nullable=False),
    sa.Column("stage", sa.String(32), nullable=False),
    sa.Column("ramp", sa.Integer, nullable=False, server_default="0"),
    sa.Column("epoch", sa.BigInteger, nullable=False, server_default="0"),
)
"""One row a mapping: the generation of its capture and the stage it is in; compare-and-set."""

FENCE = sa.Table(
    "migrate_fence",
    METADATA,
    sa.Column("mapping", sa.String(255), primary_key=True),
    sa.Column("mode", sa.String(32), nullable=False),
    sa.Column("epoch", sa.BigInteger, nullable=False),
)
"""Who may write the mapped tables; triggers read it under a lock."""

MARK = sa.Table(
    "migrate_mark",
    METADATA,
    sa.Column("id", _SERIAL, primary_key=True, autoincrement=True),
    sa.Column("mapping", sa.String(255), nullable=False),
    sa.Column("pk", _ENTITY, nullable=False),
    sa.Index("migrate_mark_entity", "mapping", "pk"),
    sqlite_autoincrement=True,
)
"""One row a change. No unique key beside `id`: applications never wait for each other here."""

VER = sa.Table(
    "migrate_ver",
    METADATA,
    sa.Column("mapping", sa.String(255), primary_key=True),
    sa.Column("pk", _ENTITY, primary_key=True),
    sa.Column("n", sa.BigInteger, nullable=False),
    sa.Column("applied_at", sa.BigInteger),
    sa.Column("offset", sa.BigInteger),
)
"""How many marks of an entity were folded, when it was applied, and at which replication offset."""

INSTANCE = sa.Table(
    "migrate_instance",
    METADATA,
    sa.Column("id", sa.String(255), primary_key=True),
    sa.Column("mapping", sa.String(255), nullable=False),
    sa.Column("library_version", sa.String(64), nullable=False),
    sa.Column("epoch_seen", sa.BigInteger, nullable=False),
    sa.Column("ramp_seen", sa.Integer, nullable=False),
    sa.Column("lease_until", sa.BigInteger, nullable=False),
)
"""Application processes that use the dual-write library, and until when each may be alive."""


def create_control(engine: sa.Engine) -> None:
    """
    Create the tables that are not there yet.
    """
    METADATA.create_all(engine)


def pk_text(parts: Sequence[sa.ColumnElement[str]]) -> sa.ColumnElement[str]:
    """
    The `pk` of a row in SQL: the texts of its key columns, escaped, joined by `:`.

    Args:
        parts: The text of each key column, as the dialect's `key_text` spells it.
    """
    joined = _escaped(parts[0])
    for part in parts[1:]:
        joined = joined.concat(":").concat(_escaped(part))
    return joined


def key_text(key: Key) -> str:
    """
    The `pk` of a key in Python: the same text that `pk_text` computes in SQL.
    """
    return ":".join(_spelled(part).replace("%", "%25").replace(":", "%3A") for part in key)


def _escaped(part: sa.ColumnElement[str]) -> sa.ColumnElement[str]:
    percent = sa.func.replace(part, "%", "%25", type_=sa.Text())
    return sa.func.replace(percent, ":", "%3A", type_=sa.Text())


def _spelled(part: int | str | bytes) -> str:
    return part.hex() if isinstance(part, bytes) else str(part)
