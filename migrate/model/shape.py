"""
What records of a mapping look like from outside, kept for as long as some may be in Redis.

The mapping's file may change or be lost; a shape is enough to find, to recognise and to remove
what was written under it, without the source.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from migrate.model.values import Expiry, LookupKind, RecordType


@dataclass(frozen=True, slots=True)
class RecordShape:
    """
    One way in which records of a mapping were written.

    Args:
        fingerprint: Of the mapping; part of every record's digest.

        template: Text of the key template.

        reserved: Names of version, digest, tombstone, lookups and expires, in this order.

        lookups: Kind and text of the key template of each.

        revision: Highest version that was written without capture under it.
    """

    fingerprint: str
    template: str
    reserved: tuple[str, str, str, str, str] = ("_v", "_h", "_t", "_l", "_e")
    record: RecordType = RecordType.HASH
    lookups: tuple[tuple[LookupKind, str], ...] = ()
    expiry: Expiry = Expiry.NONE
    revision: int = 1

    def to_json(self) -> str:
        """
        One line of JSON.
        """
        return json.dumps(asdict(self), ensure_ascii=True, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> RecordShape:
        """
        The shape of such a line.
        """
        parts = json.loads(text)
        version, digest, tombstone, lookups, expires = parts["reserved"]
        return cls(
            fingerprint=parts["fingerprint"],
            template=parts["template"],
            reserved=(version, digest, tombstone, lookups, expires),
            record=RecordType(parts["record"]),
            lookups=tuple((LookupKind(kind), key) for kind, key in parts["lookups"]),
            expiry=Expiry(parts["expiry"]),
            revision=parts["revision"],
        )
