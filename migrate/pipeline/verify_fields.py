"""
The fast way of a verification that reads fields: whole pages, compared column by column.

A page of rows is read by other expressions than the backfill's (`plain_pages`), their records whole
(`whole`), and each field of all records with the same fields is compared at once with what its
column has to look like in a record: by the rules of this module, never by an encoder. A row is told
to be right where version, every field, and the digest made again of the fields are as expected and
there is nothing else. Every other row is read again and judged by `Verifier`, which decodes fields
and compares cell by cell; so verdicts, kinds and fields are those of the plain way.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from migrate.mapping.codecs import Codec, Undecodable, Unencodable
from migrate.mapping.compile import CompiledMapping
from migrate.mapping.digest import prefixed, seed_of
from migrate.model.ports import Partition
from migrate.model.values import Expiry, Key, Kind, RecordType
from migrate.model.verdict import Verdict
from migrate.pipeline.verify import PAGE, Tally, Verifier
from migrate.source.extract import FETCH_AT_ONCE
from migrate.source.plain import filled_up
from migrate.source.plain_pages import FieldPage, FieldPages
from migrate.target.whole import Whole

LARGEST_PAGE = 4_000
"""Rows of a page, which are held together with their records."""

MARKS = 2
"""Fields of a record that are ours: version and digest."""

Form = Callable[[Any], bytes]
"""What a field holds for a cell that is not NULL; raises one of `_FAILURES` where that is not
plain."""

_FAILURES = (
    *(ValueError, LookupError, TypeError, AttributeError, Undecodable, Unencodable, UnicodeError),
)


def fits(compiled: CompiledMapping) -> bool:
    """
    Whether records of this mapping can be compared here: hashes of columns and of nothing else.
    """
    extended = compiled.children or compiled.lookups or compiled.expiry is not Expiry.NONE
    return compiled.record is RecordType.HASH and not extended


class _Field(NamedTuple):
    """
    A field in all records with the same names.

    Args:
        place: Of its value in what is read of a record.

        position: Of its column.

        same: Whether values are those of the columns; None where `form` gives what they are.
    """

    place: int
    position: int
    head: bytes
    form: Form | None
    same: Callable[[Any, bytes], bool] | None


class _Layout(NamedTuple):
    """
    Records with the same names in the same order.

    Args:
        fields: In the order of their names.

        absent: Columns that have no field, and so are NULL.
    """

    version: int
    digest: int
    fields: tuple[_Field, ...]
    absent: tuple[int, ...]


@dataclass(frozen=True)
class Fields:
    """
    Pages of rows and of whole records, for one worker. See `verify.Fast`.

    Args:
        page: Rows of one at most.
    """

    compiled: CompiledMapping
    pages: FieldPages
    whole: Whole
    page: int = LARGEST_PAGE

    def compare(self, verifier: Verifier, partition: Partition) -> tuple[Tally, Key | None]:
        """
        The next rows of a partition against their records, and the key of the last of them.
        """
        limit = min(self.page, PAGE << min(partition.saves, 8))
        page = self.pages.read(partition.range, partition.cursor, limit)
        if page is None:
            chunk = verifier.extractor.read(partition.range, partition.cursor, verifier.page)
            return (verifier.compare(chunk), chunk.keys[-1]) if chunk.keys else (Tally(), None)
        return (self.judge(verifier, page), page.keys[-1]) if page.keys else (Tally(), None)

    def sample(self, verifier: Verifier, keys: Sequence[Key]) -> Tally:
        """
        Some rows against their records.
        """
        tally = Tally()
        for start in range(0, len(keys), FETCH_AT_ONCE):
            part = filled_up(keys[start : start + FETCH_AT_ONCE])
            page = self.pages.fetch(part)
            if page is None:
                chunk = verifier.extractor.fetch(part)
                tally = verifier.compare(chunk, tally) if chunk.keys else tally
            elif page.keys:
                self.judge(verifier, page, tally)
        return tally

    def judge(self, verifier: Verifier, page: FieldPage, tally: Tally | None = None) -> Tally:
        """
        What the rows of a page and their records are to each other.

        Args:
            tally: To add to; None begins one.
        """
        names = self._names(page)
        left = self._left(verifier, page, names)
        if tally is None:
            tally = verifier.tally(page.generation)
        right = len(page.keys) - len(left)
        tally.rows += right
        if right:
            tally.counts[Verdict.OK] += right
        if tally.seen is not None:
            tally.seen.add(name for at, name in enumerate(names) if name and at not in left)
        rest = [page.keys[at] for at in sorted(left)]
        for start in range(0, len(rest), PAGE):
            chunk = verifier.extractor.fetch(filled_up(rest[start : start + PAGE]))
            if chunk.keys:
                verifier.compare(chunk, tally)
        return tally

    def _left(self, verifier: Verifier, page: FieldPage, names: Sequence[bytes | None]) -> set[int]:
        """
        Positions of all rows that are not told to be right at once.
        """
        left = {at for at, name in enumerate(names) if name is None} | page.odd
        asked = [at for at in range(len(names)) if at not in left] if left else range(len(names))
        stored = self.whole.read([names[at] or b"" for at in asked])
        groups: dict[tuple[bytes, ...], list[int]] = {}
        records: dict[int, list[bytes]] = {}
        for at, record in zip(asked, stored, strict=True):
            if record is None:
                left.add(at)
            else:
                records[at] = record
                groups.setdefault(tuple(record[::2]), []).append(at)
        for found, members in groups.items():
            layout = self._layout(found)
            if layout is None:
                left.update(members)
            else:
                left.update(self._wrong(layout, page, names, records, members))
        if verifier.books.has_rejects():
            rejected = verifier.books.rejected(page.keys)
            left.update(at for at, key in enumerate(page.keys) if key in rejected)
        left.update(self._changing(verifier, page, left))
        return left

    def _changing(self, verifier: Verifier, page: FieldPage, left: set[int]) -> Iterator[int]:
        """
        Rows that capture says are changing, or were changed since the page was read.
        """
        rest = [at for at in range(len(page.keys)) if at not in left] if page.generation else []
        for start in range(0, len(rest), PAGE):
            part = rest[start : start + PAGE]
            history = verifier.plain.history([page.keys[at] for at in part])
            for at in part:
                known = history.get(page.keys[at])
                if known and (known.dirty or known.version != page.versions[at].decode()):
                    yield at

    # --- columns ----------------------------------------------------------------------------

    def _wrong(
        self,
        layout: _Layout,
        page: FieldPage,
        names: Sequence[bytes | None],
        records: dict[int, list[bytes]],
        members: Sequence[int],
    ) -> Iterator[int]:
        """
        Positions of records of one layout that are not just as they should be.
        """
        every = len(members) == len(page.keys)
        # Names and values in turn.
        columns = list(zip(*[records[at] for at in members], strict=True))[1::2]

        def picked(values: Sequence[Any]) -> Sequence[Any]:
            return tuple(values) if every else tuple([values[at] for at in members])

        wrong: set[int] = set()
        wrong.update(_differing(picked(page.versions), columns[layout.version]))
        for one in layout.fields:
            have, cells = columns[one.place], picked(page.columns[one.position])
            if one.same is not None:
                wrong.update(_unlike(cells, have, one.same))
            else:
                wrong.update(_differing(_formed(cells, one.form), have))
        for position in layout.absent:
            cells = picked(page.columns[position])
            wrong.update(at for at, cell in enumerate(cells) if cell is not None)
        digests = self._digests(layout, [names[at] or b"" for at in members], columns)
        wrong.update(_differing(digests, columns[layout.digest]))
        return (members[at] for at in wrong)

    def _digests(
        self, layout: _Layout, names: Sequence[bytes], columns: Sequence[Sequence[bytes]]
    ) -> tuple[bytes, ...]:
        """
        The digest of each record made again of what it holds.
        """
        parts: list[Sequence[bytes]] = [_lengths(names), names]
        for one in layout.fields:
            values = columns[one.place]
            parts += ((one.head,) * len(names), _lengths(values), values)
        seed, join = self._seed.copy, b"".join
        made = []
        for row in zip(*parts, strict=True):
            digest = seed()
            digest.update(join(row))
            made.append(digest.hexdigest().encode())
        return tuple(made)

    @cached_property
    def _seed(self) -> Any:
        return seed_of(self.compiled.fingerprint)

    @cached_property
    def _layouts(self) -> dict[tuple[bytes, ...], _Layout | None]:
        return {}

    def _layout(self, names: tuple[bytes, ...]) -> _Layout | None:
        """
        Where everything is in records with these names; None where some of it should not be there.
        """
        if names not in self._layouts:
            if len(self._layouts) >= _MOST_LAYOUTS:
                self._layouts.clear()
            self._layouts[names] = self._laid_out(names)
        return self._layouts[names]

    def _laid_out(self, names: tuple[bytes, ...]) -> _Layout | None:
        version, digest = (name.encode() for name in self.compiled.reserved.names()[:2])
        places = {name: at for at, name in enumerate(names)}
        known = {field.name.encode(): field for field in self.compiled.fields}
        ours = {version, digest}
        if len(places) != len(names) or not ours <= places.keys():
            return None
        if not places.keys() <= known.keys() | ours:
            return None
        fields = []
        for name in sorted(places.keys() - ours):
            field = known[name]
            form, same = _form_of(field.column.kind, field.codec)
            fields.append(_Field(places[name], field.position, prefixed(name), form, same))
        absent = [field.position for name, field in known.items() if name not in places]
        return _Layout(places[version], places[digest], tuple(fields), tuple(absent))

    # --- keys -------------------------------------------------------------------------------

    def _names(self, page: FieldPage) -> Sequence[bytes | None]:
        """
        The key of each row's record; None for one that has none, or none that is plain.
        """
        columns = [page.columns[field.position] for field in self.compiled.key]
        order, unsafe = self._order
        try:
            if order is None or any(_shows(unsafe, column) for column in columns):
                return [self._name(parts) for parts in zip(*columns, strict=True)]
            first, *others = (text.encode() for text in self.compiled.template.literals)
            if len(order) == 1 and len(others) == 1:
                last = others[0]
                return [first + part + last for part in columns[order[0]]]
            pieces: list[Sequence[bytes]] = [(first,) * len(page.keys)]
            for at, text in zip(order, others, strict=True):
                pieces += (columns[at], (text,) * len(page.keys))
            return [b"".join(parts) for parts in zip(*pieces, strict=True)]
        except _FAILURES:
            return [self._name(parts) for parts in zip(*columns, strict=True)]

    def _name(self, parts: Sequence[Any]) -> bytes | None:
        try:
            return self.compiled.key_of([part.decode() for part in parts])
        except _FAILURES:
            return None

    @cached_property
    def _order(self) -> tuple[Sequence[int] | None, re.Pattern[bytes]]:
        """
        Which column of the key each part of the template is, and what no part shows as it is.

        None where cells are not the parts. Of the template alone, and not by what writes keys.
        """
        compiled = self.compiled
        escaped = "".join(sorted(compiled.template.escaped - {"\n"}))
        unsafe = re.compile(f"[{re.escape(escaped)}]".encode())
        kinds = {field.column.kind for field in compiled.key}
        if not kinds <= _KEY_KINDS or not escaped.isascii():
            return None, unsafe
        names = [field.name for field in compiled.key]
        return [names.index(name) for name in compiled.template.names], unsafe


_MOST_LAYOUTS = 1_000
_KEY_KINDS = frozenset({Kind.INTEGER, Kind.TEXT, Kind.UUID})
_LENGTH = [n.to_bytes(4, "big") for n in range(1_024)]


def _shows(unsafe: re.Pattern[bytes], column: Sequence[bytes]) -> bool:
    """
    Whether a part of a key holds what has to be escaped; asked of all parts between line ends.
    """
    text = b"\n".join(column)
    return text.count(b"\n") >= len(column) or unsafe.search(text) is not None


def _lengths(values: Sequence[bytes]) -> list[bytes]:
    try:
        return [_LENGTH[len(value)] for value in values]
    except LookupError:
        return [len(value).to_bytes(4, "big") for value in values]


def _differing(wanted: Sequence[Any], found: Sequence[Any]) -> Sequence[int]:
    """
    Positions at which two columns differ; that of equal ones costs next to nothing.
    """
    if wanted == found:
        return ()
    pairs = enumerate(zip(wanted, found, strict=True))
    return [at for at, (want, have) in pairs if want is None or want != have]


def _unlike(
    cells: Sequence[Any], found: Sequence[bytes], same: Callable[[Any, bytes], bool]
) -> Iterator[int]:
    for at, (cell, have) in enumerate(zip(cells, found, strict=True)):
        try:
            right = same(cell, have)
        except _FAILURES:
            right = False
        if not right:
            yield at


def _formed(cells: Sequence[Any], form: Form | None) -> Sequence[Any]:
    """
    What fields have to hold; None where that is not plain, which no field is equal to.
    """
    if form is None:
        return cells
    try:
        return tuple([form(cell) for cell in cells])
    except _FAILURES:
        return tuple([_each(cell, form) for cell in cells])


def _each(cell: Any, form: Form) -> bytes | None:
    try:
        return form(cell)
    except _FAILURES:
        return None


# --- what a field holds -------------------------------------------------------------------------

_PLAIN = frozenset(
    {
        *(Kind.INTEGER, Kind.DECIMAL, Kind.FLOAT, Kind.TEXT, Kind.DATE, Kind.TIME, Kind.UUID),
        *(Kind.ENUM, Kind.JSON),
    }
)
"""Kinds whose field is the text of the cell, in the form that is theirs without being asked for."""

_FORMS: dict[Kind, Form] = {
    Kind.BOOLEAN: {b"true": b"1", b"false": b"0"}.__getitem__,
    Kind.TIMESTAMP: lambda cell: cell.replace(b" ", b"T"),
    Kind.TIMESTAMPTZ: lambda cell: cell.replace(b" ", b"T").replace(b"+00", b"Z"),
}

_DEFAULTS: dict[Kind, str] = {
    **dict.fromkeys((Kind.INTEGER, Kind.DECIMAL, Kind.FLOAT), "plain"),
    **dict.fromkeys((Kind.TEXT, Kind.UUID, Kind.ENUM), "text"),
    **dict.fromkeys((Kind.DATE, Kind.TIME, Kind.TIMESTAMP, Kind.TIMESTAMPTZ), "iso8601"),
    Kind.JSON: "json",
    Kind.BOOLEAN: "digit",
    Kind.BYTES: "raw",
}


def _form_of(kind: Kind, codec: Codec) -> tuple[Form | None, Callable[[Any, bytes], bool] | None]:
    """
    What a field holds; or else how to say of a field whether it reads back as the cell.
    """
    if not codec.reversible:
        # A mask leads nowhere back: what it makes of the value is all that can be compared.
        if kind is Kind.BYTES:
            return codec.encode, None
        return (lambda cell: codec.encode(cell.decode())), None
    if codec.form == _DEFAULTS.get(kind):
        return (None if kind in _PLAIN or kind is Kind.BYTES else _FORMS[kind]), None
    decode = codec.decode
    if kind is Kind.BYTES:
        return None, lambda cell, have: decode(have) == cell
    return None, lambda cell, have: decode(have) == cell.decode()


__all__ = ["Fields", "fits"]
