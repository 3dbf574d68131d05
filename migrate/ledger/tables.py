"""
The ledger's tables. They live at `ledger:` in the configuration and never in the source unasked.
"""

from __future__ import annotations

from sqlalchemy import (
    DDL,
    BigInteger,
    Boolean,
    Column,
    Connection,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    event,
    text,
)
from sqlalchemy.schema import ExecutableDDLElement

LAYOUT = 5
"""Of these tables; a ledger with a higher one belongs to a newer version of the tool."""

FIRST_LAYOUT = 1
"""The oldest one that is brought up to date in place."""

OPENING, APPENDING = 0x70726F65, 0x70726F66
"""Of PostgreSQL's advisory locks: what only one at a time may do."""

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
    Column("instant", BigInteger),
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
    *(Column(name, BigInteger, nullable=False, server_default="0") for name in OUTCOMES),
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

shape = Table(
    "migrate_shape",
    metadata,
    Column("mapping", String(63), primary_key=True),
    Column("fingerprint", String(64), primary_key=True),
    Column("shape", Text, nullable=False),
)

journal = Table(
    "migrate_journal",
    metadata,
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("at", Float, nullable=False),
    Column("actor", String(255), nullable=False),
    Column("mapping", String(63), nullable=False, index=True),
    Column("run", String(36)),
    Column("epoch", BigInteger),
    Column("step", String(32), nullable=False),
    Column("phase", String(8), nullable=False),
    Column("payload", Text, nullable=False),
    Column("prev_hash", String(64), nullable=False),
    Column("hash", String(64), nullable=False),
)

verification = Table(
    "migrate_verification",
    metadata,
    Column("run", String(36), primary_key=True),
    Column("mapping", String(63), nullable=False, index=True),
    Column("level", String(16), nullable=False),
    Column("fingerprint", String(64), nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("kept_at", Float, nullable=False),
    Column("verdict", String(16), nullable=False),
    Column("result", Text, nullable=False),
)

checked = Table(
    "migrate_checked",
    metadata,
    Column("run", String(36), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("verdict", String(16), primary_key=True),
    Column("count", BigInteger, nullable=False),
)

seen = Table(
    "migrate_seen",
    metadata,
    Column("run", String(36), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("sums", LargeBinary, nullable=False),
)

finding = Table(
    "migrate_finding",
    metadata,
    Column("run", String(36), primary_key=True),
    Column("key", Text, primary_key=True),
    Column("verdict", String(16), primary_key=True),
    Column("kind", String(16), primary_key=True),
    Column("field", Text, primary_key=True),
    Column("number", Integer, nullable=False),
    Column("source_key", Text),
    Column("entry", Text, nullable=False, index=True),
    Column("expected", Text),
    Column("found", Text),
)

recheck = Table(
    "migrate_recheck",
    metadata,
    Column("run", String(36), primary_key=True),
    Column("key", Text, primary_key=True),
    Column("source_key", Text, nullable=False),
    Column("number", Integer, nullable=False),
    Column("tries", Integer, nullable=False),
    Column("due", Float),
    Column("states", Text, nullable=False),
    Index("ix_migrate_recheck_due", "run", "due"),
)

_REFUSE = "the journal is only ever added to"

_GUARDS = (
    (
        "sqlite",
        (
            "CREATE TRIGGER migrate_journal_no_update BEFORE UPDATE ON migrate_journal "
            f"BEGIN SELECT RAISE(ABORT, '{_REFUSE}'); END"
        ),
    ),
    (
        "sqlite",
        (
            "CREATE TRIGGER migrate_journal_no_delete BEFORE DELETE ON migrate_journal "
            f"BEGIN SELECT RAISE(ABORT, '{_REFUSE}'); END"
        ),
    ),
    (
        "postgresql",
        (
            "CREATE OR REPLACE FUNCTION migrate_journal_refuse() RETURNS trigger LANGUAGE plpgsql "
            f"AS $$ BEGIN RAISE EXCEPTION '{_REFUSE}'; END $$"
        ),
    ),
    (
        "postgresql",
        (
            "CREATE TRIGGER migrate_journal_append_only BEFORE UPDATE OR DELETE OR TRUNCATE "
            "ON migrate_journal FOR EACH STATEMENT EXECUTE FUNCTION migrate_journal_refuse()"
        ),
    ),
)
"""Made with the journal's table: a slip of the hand changes no line of it."""

for _dialect, _statement in _GUARDS:
    _guard: ExecutableDDLElement = DDL(_statement)  # type: ignore[no-untyped-call]
    event.listen(journal, "after_create", _guard.execute_if(dialect=_dialect))

ADDED: dict[int, tuple[Column[int], ...]] = {
    2: (partition.c.expired, partition.c.duplicate, partition.c.adopted, run.c.instant),
    3: (),
    4: (),
    5: (),
}
"""Columns that a layout added to tables of an earlier one; whole tables are made as they are."""


def wait_for_others(connection: Connection, lock: int) -> None:
    """
    Be the only one to do this until the transaction ends. SQLite has one writer anyway.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": lock})
