"""
The journal: what was changed, by whom and when, each line vouching for those before it.

Lines are only ever added. A line that was changed, removed or put in between shows; lines cut off
at the end show only against an earlier export, and someone who can write the ledger can make the
whole chain anew. It holds no values of rows and no secrets.
"""

from __future__ import annotations

import getpass
import json
import socket
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from typing import Any

from sqlalchemy import Connection, insert, select

from migrate.ledger.tables import APPENDING, wait_for_others
from migrate.ledger.tables import journal as table

INTENT, DONE, FAILED = "intent", "done", "failed"
"""What a line says of its step."""

START = "0" * 64
"""What the first line names as the hash before it."""

PAGE = 500


@dataclass(frozen=True, slots=True)
class Note:
    """
    What is to be written down.

    Args:
        step: What is done, in one word: purge, ...

        phase: intent, done or failed.

        payload: Counts and names; never a value of a row, never a secret.
    """

    mapping: str
    step: str
    phase: str
    run: str | None = None
    epoch: int | None = None
    payload: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """
    One line of the journal.

    Args:
        at: Seconds since 1970, by the clock of the host that wrote it.

        actor: user@host.

        payload: JSON text, as it was hashed.
    """

    seq: int
    at: float
    actor: str
    mapping: str
    run: str | None
    epoch: int | None
    step: str
    phase: str
    payload: str
    prev_hash: str
    hash: str

    def to_dict(self) -> dict[str, Any]:
        """
        The same for `--json` and for exports.
        """
        return asdict(self) | {"payload": _payload(self.payload)}

    def digest(self) -> str:
        """
        What its hash has to be: SHA-256 of everything else in it.
        """
        parts = asdict(self)
        del parts["hash"]
        canonical = json.dumps(parts, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
        return sha256(canonical.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Broken:
    """
    The first line at which the chain does not hold.
    """

    seq: int
    why: str


def append(connection: Connection, note: Note, at: float) -> JournalEntry:
    """
    Add a line behind the last one, within the caller's transaction.
    """
    wait_for_others(connection, APPENDING)
    before = connection.execute(
        select(table.c.seq, table.c.hash).order_by(table.c.seq.desc()).limit(1)
    ).one_or_none()
    entry = JournalEntry(
        seq=before.seq + 1 if before else 1,
        at=round(at, 3),
        actor=actor(),
        mapping=note.mapping,
        run=note.run,
        epoch=note.epoch,
        step=note.step,
        phase=note.phase,
        payload=json.dumps(note.payload, sort_keys=True, ensure_ascii=True),
        prev_hash=before.hash if before else START,
        hash="",
    )
    values = asdict(entry) | {"hash": entry.digest()}
    connection.execute(insert(table).values(**values))
    return JournalEntry(**values)


def page(connection: Connection, mapping: str | None, after: int) -> list[JournalEntry]:
    """
    The next lines behind a number.
    """
    query = select(table).where(table.c.seq > after).order_by(table.c.seq).limit(PAGE)
    if mapping is not None:
        query = query.where(table.c.mapping == mapping)
    return [JournalEntry(**row) for row in connection.execute(query).mappings()]


def last(connection: Connection, mapping: str) -> JournalEntry | None:
    """
    The newest line of a mapping.
    """
    query = select(table).where(table.c.mapping == mapping).order_by(table.c.seq.desc()).limit(1)
    row = connection.execute(query).mappings().one_or_none()
    return None if row is None else JournalEntry(**row)


def check(entries: Iterable[JournalEntry]) -> Iterator[Broken | JournalEntry]:
    """
    Follow the chain from its beginning.

    Yields:
        Each line that holds; at the first that does not, what is wrong with it, and no more.
    """
    expected, before = 1, START
    for entry in entries:
        why = _wrong(entry, expected, before)
        if why:
            yield Broken(entry.seq, why)
            return
        yield entry
        expected, before = entry.seq + 1, entry.hash


def _wrong(entry: JournalEntry, expected: int, before: str) -> str:
    if entry.seq != expected:
        return f"line {expected} is missing"
    if entry.prev_hash != before:
        return "it does not follow the line before it"
    return "" if entry.digest() == entry.hash else "it was changed"


def actor() -> str:
    """
    Who runs this program, as far as the system says.
    """
    try:
        user = getpass.getuser()
    except (OSError, KeyError):
        user = "unknown"
    return f"{user}@{socket.gethostname()}"[:255]


def _payload(written: str) -> Any:
    # A line that was tampered with is still shown.
    try:
        return json.loads(written)
    except ValueError:
        return written
