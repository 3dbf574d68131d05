"""
The list of a record's entries in lookups, as the record itself carries it.

A record names every further key that may name it, so that whoever replaces or removes it can
release them without knowing the mapping that made them. Each entry is the letter of its kind, the
length of its key in bytes, a colon, and the key, in the mapping's order and without anything
between.
"""

from __future__ import annotations

from collections.abc import Iterable

from migrate.model.values import Entry, LookupKind

LONGEST_HEAD = 12
"""Bytes of a kind, a length and the colon, at most: longer keys than 512 MB there are none."""

_KINDS = frozenset(kind.value.encode() for kind in LookupKind)


def entries_text(entries: Iterable[Entry]) -> bytes:
    """
    The list of these entries; empty where none has a key.
    """
    return b"".join(b"%b%d:%b" % (kind, len(key), key) for kind, key, _ in entries if key)


def parse_entries(text: bytes) -> tuple[Entry, ...]:
    """
    The entries of such a list, without scores.

    Raises:
        ValueError: It is no such list.
    """
    found = []
    at = 0
    while at < len(text):
        kind, colon = text[at : at + 1], text.find(b":", at, at + LONGEST_HEAD)
        digits = text[at + 1 : max(colon, 0)]
        if kind not in _KINDS or not digits.isdigit():
            raise ValueError("not a list of lookup entries")
        start = colon + 1
        at = start + int(digits)
        if at > len(text):
            raise ValueError("a list of lookup entries that was cut off")
        found.append(Entry(kind, text[start:at]))
    return tuple(found)
