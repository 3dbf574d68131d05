"""
The result of a verification: one object that every output is made of. Pure functions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from migrate.errors import ExitCode
from migrate.model.verdict import HARD, Level, Verdict

SCHEMA = "profile-migrate.verify/1"

PASS, MISMATCH, INCOMPLETE = "PASS", "MISMATCH", "INCOMPLETE"

SAMPLES = 50
"""Findings of one verdict that a result shows."""

CONFIDENCE = 0.95

_HARD = frozenset(verdict.value for verdict in HARD)


@dataclass(frozen=True, slots=True)
class Counted:
    """
    What was counted, as it lies in the ledger.

    Args:
        verdicts: Entities by verdict, each once.

        parts: Number, rows, seconds and done of each partition.

        sums: Partition, verdict, kind, field and keys.
    """

    verdicts: Mapping[str, int]
    parts: Sequence[Mapping[str, Any]] = ()
    sums: Sequence[tuple[int, str, str, str, int]] = ()
    open_rejects: Mapping[str, int] = field(default_factory=dict)


def judged(
    counted: Counted, *, complete: bool, compared: int, stopped: int | None
) -> tuple[str, int]:
    """
    The word for a whole verification, and its exit code.

    Args:
        stopped: The exit code of whoever stopped it.
    """
    hard = sum(count for verdict, count in counted.verdicts.items() if verdict in _HARD)
    rejected = bool(counted.open_rejects) or bool(counted.verdicts.get(Verdict.REJECTED.value))
    whole = complete and compared > 0
    word = INCOMPLETE
    code = int(ExitCode.INCOMPLETE)
    if hard or (rejected and whole):
        word, code = MISMATCH, int(ExitCode.DIFFERENCES)
    elif whole:
        word, code = PASS, int(ExitCode.DONE)
    return word, code if stopped is None else stopped


def bound(level: Level, compared: int, hard: int) -> dict[str, float] | None:
    """
    What a sample without a difference proves: at most 3 of n differ, at 95 %.
    """
    if level is not Level.SAMPLE or hard or not compared:
        return None
    return {"confidence": CONFIDENCE, "at_most": min(1.0, 3 / compared)}


def partitions(counted: Counted) -> list[dict[str, Any]]:
    """
    The strip of partitions: how many rows each has, and how many findings.
    """
    hard: dict[int, int] = {}
    for number, verdict, _, _, keys in counted.sums:
        if verdict in _HARD:
            hard[number] = hard.get(number, 0) + keys
    return [
        {
            "number": part["number"],
            "rows": part["rows"],
            "compared": part["rows"],
            "hard": hard.get(part["number"], 0),
            "seconds": round(part["seconds"], 3),
            "done": part["done"],
        }
        for part in counted.parts
    ]


def kinds(counted: Counted) -> tuple[dict[str, int], dict[str, dict[str, int]]]:
    """
    Findings by kind, and by field and kind.
    """
    by_kind: dict[str, int] = {}
    by_field: dict[str, dict[str, int]] = {}
    for _, _, kind, name, keys in counted.sums:
        if kind:
            by_kind[kind] = by_kind.get(kind, 0) + keys
        if name:
            here = by_field.setdefault(name, {})
            here[kind] = here.get(kind, 0) + keys
    return by_kind, by_field


def describe(value: bytes | None, secret: bytes, *, show: bool) -> dict[str, Any]:
    """
    A value without itself: its type, length and a digest that only this run can make.

    Args:
        show: The value as well.
    """
    if value is None:
        return {"type": "absent"}
    made = hashlib.blake2b(value, key=secret, digest_size=8).hexdigest()
    try:
        text, kind = value.decode(), "text"
    except UnicodeDecodeError:
        text, kind = value.hex(), "bytes"
    found: dict[str, Any] = {"type": kind, "length": len(value), "digest": made}
    return {**found, "value": text[:SHOWN]} if show else found


SHOWN = 200
"""Characters of a value that is shown."""


def key_shown(key: bytes, secret: bytes, *, personal: bool) -> str:
    """
    A key for people; that of a lookup is made of personal values and shown as a digest.
    """
    if personal:
        made = hashlib.blake2b(key, key=secret, digest_size=8).hexdigest()
        return f"lookup:{made}"
    text = key.decode(errors="backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
