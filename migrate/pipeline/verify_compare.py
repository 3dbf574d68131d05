"""
Compares what a record holds with what it should hold; pure functions without any store.

Two ways: bytes against the bytes that a backfill would write, or cells read back from the record
against the server's own text of each value.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from migrate.mapping.codecs import Undecodable, Unencodable
from migrate.mapping.compile import CompiledMapping
from migrate.mapping.digest import digest_of, seed_of
from migrate.mapping.json_text import members
from migrate.model.lookups import parse_entries
from migrate.model.shape import RecordShape
from migrate.model.values import Cell, Entry, Expiry, RecordType, Row
from migrate.model.verdict import Kind, Mismatch
from migrate.target.reader import Stored

Fields = dict[bytes, bytes]

_seed = lru_cache(maxsize=16)(seed_of)


def fields_in(content: Sequence[bytes], shape: RecordShape) -> Fields | None:
    """
    Names and values in a record, those that are ours left out; None where it is no such record.
    """
    if shape.record is RecordType.HASH:
        found = dict(zip(content[::2], content[1::2], strict=True))
    else:
        try:
            pairs = members(content[0].decode()) if content else []
        except (Undecodable, UnicodeDecodeError):
            return None
        found = {name.encode(): text.encode() for name, text in pairs}
    ours = {name.encode() for name in shape.reserved}
    return {name: value for name, value in found.items() if name not in ours}


def by_bytes(expected: Fields, stored: Fields | None, children: frozenset[str]) -> list[Mismatch]:
    """
    Every field that is another one than expected, is missing, or should not be there.
    """
    if stored is None:
        return [Mismatch(Kind.TYPE)]
    found = []
    for name in sorted(expected.keys() | stored.keys()):
        want, have = expected.get(name), stored.get(name)
        if want != have:
            found.append(_field(_text(name), want, have, children))
    return found


def by_cells(
    compiled: CompiledMapping, row: Row, cells: Sequence[Cell], stored: Fields | None
) -> list[Mismatch]:
    """
    Every field that does not read back as the cell of its column; nothing is encoded.

    Args:
        row: As the extractor read it; the lists of child rows are taken from it.

        cells: Of the query's columns, read another way.
    """
    if stored is None:
        return [Mismatch(Kind.TYPE)]
    found = []
    children = frozenset(child.name for child in compiled.children)
    expected: dict[str, Any] = {f.name: cells[f.position] for f in compiled.fields}
    expected |= {child.name: row[child.position] for child in compiled.children}
    masks = {f.name: f for f in compiled.fields if not f.codec.reversible}
    for name, cell in sorted(expected.items()):
        have = stored.get(name.encode())
        if name in masks and cell is not None:
            # A mask leads nowhere back: what it makes of the value is all that can be compared.
            same = have is not None and _unquoted(have, compiled) == masks[name].codec.encode(cell)
        else:
            same = _reads_as(compiled, name, cell, have)
        if not same:
            found.append(_field(name, _shown(cell), have, children))
    extra = sorted(stored.keys() - {name.encode() for name in expected})
    return found + [_field(_text(name), None, stored[name], children) for name in extra]


def digest_in(fields: Fields, stored: Stored, shape: RecordShape) -> bytes:
    """
    The digest made again of what a record holds.
    """
    covered = None
    if shape.expiry is Expiry.COLUMN and stored.expires:
        covered = (shape.reserved[4].encode(), stored.expires)
    return digest_of(_seed(shape.fingerprint), stored.key, fields.items(), covered)


def life(stored: Stored, instant: bytes, shape: RecordShape) -> list[Mismatch]:
    """
    What is wrong with a record's instant and its time to live.

    Args:
        instant: That its row gives it; where all rows share one, any earlier one is right as well.
    """
    carried = stored.expires
    right = carried == instant
    if shape.expiry is Expiry.FIXED:
        right = bool(carried)
    if right and stored.goes_at(carried):
        return []
    has = b"none" if stored.goes is None else b"%d" % stored.goes
    return [Mismatch(Kind.TTL, shape.reserved[4], instant or b"none", has)]


def listing(stored: Stored, entries: Sequence[tuple[str, Entry]]) -> list[Mismatch]:
    """
    Entries that a record should list and does not.
    """
    listed = listed_in(stored)
    return [
        Mismatch(Kind.LOOKUP, name, stored.key, None, entry.key)
        for name, entry in entries
        if entry.key and (entry.kind, entry.key) not in listed
    ]


def listed_in(stored: Stored) -> frozenset[tuple[bytes, bytes]]:
    """
    Kind and key of every entry that a record lists.
    """
    return _listed(stored.entries) if stored.entries else frozenset()


# Several questions are asked of each record of a page, one behind the other for all of them.
@lru_cache(maxsize=2_048)
def _listed(text: bytes) -> frozenset[tuple[bytes, bytes]]:
    try:
        return frozenset((entry.kind, entry.key) for entry in parse_entries(text))
    except ValueError:
        return frozenset()


def _reads_as(compiled: CompiledMapping, name: str, cell: Any, have: bytes | None) -> bool:
    if cell is None or have is None:
        return cell is None and have is None
    try:
        return bool(_plain(compiled.cell_of(name, have)) == _plain(cell))
    except (Undecodable, Unencodable):
        return False


def _plain(value: Any) -> Any:
    """
    Rows of child rows as tuples, whatever sequences they came in.
    """
    return tuple(map(_plain, value)) if isinstance(value, list | tuple) else value


def _unquoted(have: bytes, compiled: CompiledMapping) -> bytes:
    if compiled.record is RecordType.HASH:
        return have
    try:
        return str(json.loads(have)).encode()
    except ValueError:
        return have


def _shown(cell: Any) -> bytes | None:
    if cell is None or isinstance(cell, bytes):
        return cell
    text = cell if isinstance(cell, str) else json.dumps(cell, default=repr)
    return text.encode(errors="surrogatepass")


def _field(name: str, want: bytes | None, have: bytes | None, children: frozenset[str]) -> Mismatch:
    if name in children:
        return Mismatch(Kind.CHILD, name, want, have)
    if want is None:
        return Mismatch(Kind.EXTRA_FIELD, name, want, have)
    kind = Kind.ABSENT_FIELD if have is None else Kind.VALUE
    return Mismatch(kind, name, want, have)


def _text(name: bytes) -> str:
    return name.decode(errors="backslashreplace")
