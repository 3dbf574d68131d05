"""
Lookups on a Cluster: each of their keys must be in the slot of the record that it names.

One script writes a record with its entries in one step, and a script works in one slot. Where the
templates do not make sure of that, the mapping is refused before anything is written.
"""

from __future__ import annotations

from collections.abc import Sequence

from migrate.errors import Refused
from migrate.mapping.template import Template
from migrate.model.shape import RecordShape
from migrate.model.values import Receipt, Record
from migrate.target.loader import DryLoader, ScriptLoader
from migrate.target.slots import slot_of

_FIX = (
    "Give the templates of record and lookup one hash tag in common, as in "
    '"profile:{{{tenant}}}:{id}" and "email:{{{tenant}}}:{email}"; or use a server of its own.'
)


class NearLoader(ScriptLoader):
    """
    A loader that writes nothing of a batch in which some entry is far from its record.

    Tags of two templates may look alike and still differ for a value: an empty one makes no tag.
    """

    def write(self, records: Sequence[Record]) -> Receipt:
        """
        Compare-and-set each record. See `model.ports.Loader`.
        """
        refuse_far_entries(self._mapping, records)
        return super().write(records)


class NearDryLoader(DryLoader):
    """
    The same for a run that only decides.
    """

    def write(self, records: Sequence[Record]) -> Receipt:
        """
        What would become of each record now. See `model.ports.Loader`.
        """
        refuse_far_entries(self._mapping, records)
        return super().write(records)


def refuse_far_lookups(mapping: str, shape: RecordShape) -> None:
    """
    Refuse a mapping whose lookups cannot be in the slots of their records.

    Raises:
        Refused: A template has no hash tag, or another one than the records'.
    """
    tag = tag_of(shape.template)
    for _, template in shape.lookups:
        if not tag or tag_of(template) != tag:
            raise Refused(
                "On a Cluster a lookup must be in the slot of its record, and this one is not.",
                where={"mapping": mapping, "record": shape.template, "lookup": template},
                next_step=_FIX,
            )


def refuse_far_entries(mapping: str, records: Sequence[Record]) -> None:
    """
    Refuse records of which some entry is in another slot.

    Raises:
        Refused: Names the lookup by its place, and never a value.
    """
    for record in records:
        slot = slot_of(record.key)
        for at, entry in enumerate(record.entries):
            if entry.key and slot_of(entry.key) != slot:
                raise Refused(
                    "A lookup is in another slot of the Cluster than its record: for this row "
                    "their hash tags differ.",
                    where={"mapping": mapping, "lookup": at + 1},
                    next_step=_FIX,
                )


def tag_of(template: str) -> str:
    """
    The hash tag that the keys of a template have, with its placeholders; empty where none.
    """
    parsed = Template.parse(template, fixed=True)
    # Braces of values are escaped in keys, so the literal ones alone make the tag.
    text = parsed.literals[0]
    for name, literal in zip(parsed.names, parsed.literals[1:], strict=True):
        text += f"\0{name}\1{literal}"
    tag, closed, _ = text.partition("{")[2].partition("}")
    return tag.replace("\0", "{").replace("\1", "}") if closed else ""
