"""
The digest of a record: one recipe for what writes records and for what recognises them.

BLAKE2b of 64 bits, seeded with the mapping's fingerprint, over the record key and then each field
in the order of its name's bytes: every part with its length before it. An instant of expiry that
comes from the row stands behind the fields, under its reserved name. Version and lookups are not
in it.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b

DIGEST_BYTES = 8


def prefixed(text: bytes) -> bytes:
    """
    Length, then bytes, so that no two lists of parts ever join to the same bytes.
    """
    return len(text).to_bytes(4, "big") + text


def seed_of(fingerprint: str) -> blake2b:
    """
    The hash that every record of a mapping begins with; copied for each.
    """
    return blake2b(bytes.fromhex(fingerprint), digest_size=DIGEST_BYTES)


def digest_of(
    seed: blake2b,
    key: bytes,
    fields: Iterable[tuple[bytes, bytes]],
    expires: tuple[bytes, bytes] | None = None,
) -> bytes:
    """
    The digest of one record, as it is stored.

    Args:
        fields: Names and values in any order.

        expires: Reserved name and instant, where the digest covers it.
    """
    parts = [prefixed(key)]
    for name, value in [*sorted(fields), *([expires] if expires else [])]:
        parts += (prefixed(name), prefixed(value))
    digest = seed.copy()
    digest.update(b"".join(parts))
    return digest.hexdigest().encode()
