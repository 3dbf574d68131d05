"""
Keys as text in the ledger: JSON that tells numbers, texts and bytes apart and reads back exactly.
"""

from __future__ import annotations

import json

from migrate.model.values import Key, KeyPart


def dump(key: Key | None) -> str | None:
    """
    A key as JSON text; bytes as {"hex": ...}.
    """
    if key is None:
        return None
    parts = [{"hex": part.hex()} if isinstance(part, bytes) else part for part in key]
    return json.dumps(parts, ensure_ascii=True, separators=(",", ":"))


def load(text: str | None) -> Key | None:
    """
    The key that `dump` wrote.
    """
    if text is None:
        return None
    return tuple(_part(part) for part in json.loads(text))


def _part(part: object) -> KeyPart:
    if isinstance(part, dict):
        return bytes.fromhex(part["hex"])
    return part if isinstance(part, int) else str(part)


def show(key: Key) -> str:
    """
    A key for people: its parts, joined by commas, control characters escaped.
    """
    texts = (part.hex() if isinstance(part, bytes) else str(part) for part in key)
    return ", ".join("".join(map(_visible, text)) for text in texts)


def _visible(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode()
