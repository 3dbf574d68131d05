"""
The ledger's tables. They live at `ledger:` in the configuration and never in the source unasked.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    Integer,
    MetaData,
    String,
    Table,
    Text,
)

LAYOUT = 1
"""Of these tables; a ledger with a higher one belongs to a newer version of the tool."""

metadata = MetaData()

layout = Table(
    "migrate_ledger", metadata, Column("layout", Integer, primary_key=True, autoincrement=False)
)

mapping = Table(
    "migrate_mapping",
    metadata,
    Column("name", String(63), primary_key=True),
    Column("fingerprint", String(64), nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("generation", BigInteger, nullable=False),
    Column("run", String(36), nullable=False),
    Column("address", Text, nullable=False),
    Column("topology", String(16), nullable=False),
    Column("flavour", String(16), nullable=False),
    Column("version", String(32), nullable=False),
    Column("fenced", Boolean, nullable=False),
)

run = Table(
    "migrate_run",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("mapping", String(63), nullable=False, index=True),
    Column("kind", String(16), nullable=False),
    Column("fingerprint", String(64), nullable=False),
    Column("tool", String(32), nullable=False),
    Column("source", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("status", String(16), nullable=False),
    Column("exit_code", Integer),
    Column("error", String(64)),
    Column("rows_estimated", BigInteger, nullable=False),
    Column("workers", Integer, nullable=False),
    Column("started_at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
    Column("finished_at", Float),
    Column("seconds", Float, nullable=False),
    Column("throttled_s", Float, nullable=False),
)

OUTCOMES = (
    *("written", "replaced", "same", "stale", "conflict", "collision"),
    *("expired", "duplicate", "adopted"),
)

partition = Table(
    "migrate_partition",
    metadata,
    Column("run", String(36), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("low", Text),
    Column("high", Text),
    Column("cursor", Text),
    Column("status", String(16), nullable=False),
    Column("owner", String(64)),
    Column("token", BigInteger, nullable=False),
    Column("saves", BigInteger, nullable=False),
    Column("rows", BigInteger, nullable=False),
    Column("rejected", BigInteger, nullable=False),
    *(Column(name, BigInteger, nullable=False) for name in OUTCOMES),
    Column("seconds", Float, nullable=False),
    Column("server", String(64)),
    Column("written_at", Float),
)

reject = Table(
    "migrate_reject",
    metadata,
    Column("mapping", String(63), primary_key=True),
    Column("key", Text, primary_key=True),
    Column("run", String(36), nullable=False),
    Column("partition", Integer, nullable=False),
    Column("column", String(128), nullable=False),
    Column("reason", String(32), nullable=False),
    Column("detail", Text, nullable=False),
    Column("seen_at", Float, nullable=False),
)

lock = Table(
    "migrate_lock",
    metadata,
    Column("mapping", String(63), primary_key=True),
    Column("token", String(36), nullable=False),
    Column("host", String(255), nullable=False),
    Column("boot", String(64), nullable=False),
    Column("pid", BigInteger, nullable=False),
    Column("born", String(64), nullable=False),
    Column("command", String(255), nullable=False),
    Column("since", Float, nullable=False),
    Column("lease_until", Float, nullable=False),
)
