r"""
Makes RESTORE commands of whole pages of lines, by one function that is written for each mapping.

Why a written function: with the number, the order and the names of the fields known, a row of
eleven cells takes 3 microseconds; asking a table about every field of every row takes four times as
long. The function does for a line what `CompiledMapping.encode` and `payload.hash_payload` do for a
row, in one pass: split, convert, digest, lay out, seal. Its text begins like this (two fields):

    def encode(lines, version, add, odd):
        for at, line in enumerate(lines):
            try:
                if 92 in line:
                    c0, c1, = cells_of(line)
                    key = b"profile:" + c0
                    ...
                else:
                    c0, c1, = line.split(b"\t")
                    key = b"profile:" + c0
                    ...

A line without a backslash has no NULL in it, so that the second half asks for none and knows how
many fields there are.

`Marker` is the same function without a payload, for a verification: what Redis says of a record
that is right.

What it does not know it leaves: a cell of 4,096 bytes or more has no place in the tables of heads
(IndexError), a component of a key that needs escaping is `Odd`, an absent cell where none may be is
a TypeError. Such a row is counted as odd and goes the plain way, which judges it. Nothing of a row
is ever part of the text, and of the mapping only the literals of the key, as Python writes them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from migrate.mapping.bulk import ODD, BulkField, BulkPlan, Odd
from migrate.mapping.digest import DIGEST_BYTES
from migrate.mapping.json_text import quoted
from migrate.model.lines import cells_of
from migrate.model.values import RecordType
from migrate.target import payload
from migrate.target.restore import BEFORE_KEY, Item, before_payload, command

LONGEST_KEY = 512
"""Bytes; a longer key is a reject, which the plain way says."""

LARGEST_TEXT = 64 * 1024
"""Bytes of what a digest is made of; more may be a reject, which the plain way says."""

LONGEST_VERSION = 30
"""Digits."""

FEW_FIELDS = 20
"""Up to which the tables of a mapping are made as a whole."""

BACKSLASH = ord("\\")
"""As a number, which is found seven times as fast as a text of one."""

MARKS = 2
"""Fields of a hash that are not the mapping's: version and digest."""

_SIZES = [n.to_bytes(4, "big") for n in range(payload.MAX_ENTRY + 1)]
"""Lengths as they stand in a digest."""


class Encoded(NamedTuple):
    """
    What became of a page. Its repr shows no values.

    Args:
        items: The pieces of a RESTORE each.

        rows: The line of each item.

        odd: Lines that have to go the plain way.
    """

    items: list[Item]
    rows: Sequence[int]
    odd: list[int]

    def __repr__(self) -> str:
        return f"Encoded({len(self.items)} items, {len(self.odd)} odd)"


class Encoder:
    """
    The encoder of one mapping: lines in, commands out. Pure; for one thread.

    Args:
        versioned: A line ends in its row's version; otherwise all have the one that is given.
    """

    def __init__(self, plan: BulkPlan, *, versioned: bool = False) -> None:
        names = dict(_constants(plan))
        self.text = "\n".join(_written(plan, versioned=versioned)) + "\n"
        exec(compile(self.text, "<encoder>", "exec"), names)  # noqa: S102 - see the page above
        self._encode: Callable[..., None] = names["encode"]

    @staticmethod
    def takes(plan: BulkPlan) -> bool:
        """
        Whether records of this plan can be made here at all.
        """
        return plan.record is RecordType.STRING or len(plan.fields) + MARKS <= payload.MAX_FIELDS

    def encode(
        self, lines: Sequence[bytes], version: bytes = b"", *, sound: bool = False
    ) -> Encoded:
        """
        The commands of a page.

        Args:
            version: Of every row, where lines do not end in one.

            sound: All lines are known to be UTF-8; they are looked at otherwise.
        """
        items: list[Item] = []
        rows, odd = _apart(
            lines, lambda whole, odd: self._encode(whole, version, items.append, odd), sound=sound
        )
        return Encoded(items, rows, odd)


class Marks(NamedTuple):
    """
    What Redis says of the records of a page, if they are right. Its repr shows no keys.

    Args:
        keys: Of the records.

        marks: Of a hash its digest; of a string its first `Marker.head` bytes.

        sizes: Fields of a hash, those of our own among them; bytes of a string.

        versions: Of each record; empty where all have the one that was given.

        rows: The line of each.

        odd: Lines that have to go the plain way.
    """

    keys: list[bytes]
    marks: list[bytes]
    sizes: list[int]
    versions: list[bytes]
    rows: Sequence[int]
    odd: list[int]

    def __repr__(self) -> str:
        return f"Marks({len(self.keys)} records, {len(self.odd)} odd)"


class Marker:
    """
    Lines in, the marks of their records out. Pure; for one thread.

    Args:
        reserved: All names of our own, in the order of `RecordShape.reserved`.

        versioned: As for an `Encoder`.
    """

    def __init__(self, plan: BulkPlan, reserved: Sequence[str], *, versioned: bool = False) -> None:
        self.head = self.head_of(plan, reserved)
        names = {**_alike(plan), **_of_marks(plan), "HEAD": self.head}
        self.text = "\n".join(_marking(plan, versioned=versioned)) + "\n"
        exec(compile(self.text, "<marker>", "exec"), names)  # noqa: S102 - see the page above
        self._mark: Callable[..., None] = names["mark"]

    @staticmethod
    def head_of(plan: BulkPlan, reserved: Sequence[str]) -> int:
        """
        So many bytes of a string record hold all that is ours in it, or would: an instant as well.
        """
        behind = f'",{quoted(reserved[-1])}:"'.encode()
        return sum(map(len, (*plan.opening, behind))) + LONGEST_VERSION + 2 * DIGEST_BYTES

    def mark(self, lines: Sequence[bytes], version: bytes = b"", *, sound: bool = False) -> Marks:
        """
        The marks of a page. See `Encoder.encode`.
        """
        keys: list[bytes] = []
        marks: list[bytes] = []
        sizes: list[int] = []
        versions: list[bytes] = []
        adds = (keys.append, marks.append, sizes.append, versions.append)
        rows, odd = _apart(
            lines, lambda whole, odd: self._mark(whole, version, *adds, odd), sound=sound
        )
        return Marks(keys, marks, sizes, versions, rows, odd)


def _apart(
    lines: Sequence[bytes],
    work: Callable[[Sequence[bytes], Callable[[int], None]], None],
    *,
    sound: bool,
) -> tuple[Sequence[int], list[int]]:
    """
    Do the lines that are texts, and part the positions that were done from the odd ones.
    """
    odd: list[int] = []
    broken = set() if sound else _broken(lines)
    if broken:
        whole = [at for at in range(len(lines)) if at not in broken]
        work([lines[at] for at in whole], odd.append)
        odd = sorted([*broken, *(whole[at] for at in odd)])
    else:
        work(lines, odd.append)
    if not odd:
        return range(len(lines)), odd
    left = set(odd)
    return [at for at in range(len(lines)) if at not in left], odd


def _broken(lines: Sequence[bytes]) -> set[int]:
    """
    Lines that are no UTF-8; asked of the page at once, since there hardly ever is one.
    """
    if _is_text(b"\n".join(lines)):
        return set()
    return {at for at, line in enumerate(lines) if not _is_text(line)}


def _is_text(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


# --- the text of the function -------------------------------------------------------------------


def _constants(plan: BulkPlan) -> Iterator[tuple[str, Any]]:
    """
    What the text refers to by name.
    """
    yield from _alike(plan).items()
    yield from (_of_hashes if plan.record is RecordType.HASH else _of_strings)(plan)


def _alike(plan: BulkPlan) -> dict[str, Any]:
    """
    What every function needs.
    """
    return dict(_common(plan))


def _common(plan: BulkPlan) -> Iterator[tuple[str, Any]]:
    yield "ODD", (*ODD, ValueError)
    yield "Odd", Odd
    yield "cells_of", cells_of
    yield "join", b"".join
    yield "seed", plan.seed.copy
    yield "check", plan.check
    yield "LENGTH", _SIZES[: LONGEST_KEY + 1]
    for at, field in enumerate(plan.fields):
        yield f"convert{at}", field.convert


def _of_hashes(plan: BulkPlan) -> Iterator[tuple[str, Any]]:
    version, digest = (payload.entry(name.encode()) for name in plan.reserved)
    yield "VERSION", version
    yield "DIGEST", digest + payload.HEADS[2 * DIGEST_BYTES]
    yield "BEHIND", payload.TAILS[2 * DIGEST_BYTES]
    yield "HEADS", payload.HEADS
    yield "TAILS", payload.TAILS
    leads = [_Leads(n) for n in range(len(plan.fields) + MARKS + 1)]
    yield "LEADS", leads[-1]
    yield "LEADS_OF", leads
    yield "BEFORE_KEY", BEFORE_KEY
    yield "END", payload.END
    yield "crc64", payload.crc64
    yield "crc_bytes", payload.crc_bytes
    for at, field in enumerate(plan.fields):
        around = _Around(payload.entry(field.name), field.head)
        # A list is looked into faster, and takes 0.75 MB and a millisecond to make.
        yield f"W{at}", around.whole() if len(plan.fields) <= FEW_FIELDS else around


class _Leads(dict[int, tuple[bytes, int]]):
    """
    By the bytes of a hash from its first entry to its CRC: what stands between them and the key.

    With it the CRC of the part of it that is payload already.
    """

    def __init__(self, fields: int) -> None:
        super().__init__()
        self._fields = fields

    def __missing__(self, size: int) -> tuple[bytes, int]:
        start = payload.start_of_hash(size - len(payload.END), self._fields)
        whole = len(start) + size + payload.CRC_BYTES
        self[size] = made = (before_payload(whole) + start, payload.crc64(start))
        return made


class _Around(dict[int, tuple[bytes, bytes, bytes]]):
    """
    By the length of a value: what stands before it in the record and in the digest, and behind it.

    One look into one table, which holds the lengths that were met.
    """

    def __init__(self, name: bytes, head: bytes) -> None:
        super().__init__()
        self._name = name
        self._head = head

    def __missing__(self, n: int) -> tuple[bytes, bytes, bytes]:
        self[n] = made = (self._name + payload.HEADS[n], self._head + _SIZES[n], payload.TAILS[n])
        return made

    def whole(self) -> list[tuple[bytes, bytes, bytes]]:
        """
        The same of all lengths that a value may have.
        """
        name, head = self._name, self._head
        rows = zip(payload.HEADS, _SIZES, payload.TAILS, strict=True)
        return [(name + before, head + size, behind) for before, size, behind in rows]


def _of_strings(plan: BulkPlan) -> Iterator[tuple[str, Any]]:
    before, between = plan.opening
    yield "BEFORE", before
    yield "BETWEEN", between
    yield "payload_of", payload.string_payload
    yield "command", command
    for at, field in enumerate(plan.fields):
        yield f"E{at}", b"," + field.name
        yield f"H{at}", field.head


def _written(plan: BulkPlan, *, versioned: bool) -> Iterator[str]:
    """
    The lines of the function.
    """
    yield "def encode(lines, version, add, odd):"
    if plan.record is RecordType.HASH and not versioned:
        yield "    marks = VERSION + HEADS[len(version)] + version + TAILS[len(version)] + DIGEST"
    bodies = (_body(plan, versioned=versioned, whole=whole) for whole in (False, True))
    yield from _loop(plan, *bodies, versioned=versioned)


def _loop(
    plan: BulkPlan, body: Iterator[str], whole: Iterator[str], *, versioned: bool
) -> Iterator[str]:
    """
    Each line in turn, split into its cells.

    Args:
        whole: What is done where no cell is NULL.
    """
    cells = [f"c{at}" for at in range(plan.width)] + (["version"] if versioned else [])
    names = ", ".join(cells) + ","
    yield "    for at, line in enumerate(lines):"
    yield "        try:"
    yield f"            if {BACKSLASH} in line:"
    yield f"                {names} = cells_of(line)"
    yield from _indented(body)
    yield "            else:"
    yield f"                {names} = line.split(b'\\t')"
    yield from _indented(whole)
    yield "        except ODD:"
    yield "            odd(at)"


def _indented(lines: Iterator[str]) -> Iterator[str]:
    for line in lines:
        yield f"                {line}"


def _body(plan: BulkPlan, *, versioned: bool, whole: bool) -> Iterator[str]:
    yield from _key(plan)
    if not whole:
        yield f"fields = {len(plan.fields) + MARKS}"
    for at, field in enumerate(plan.fields):
        yield from _value(at, field, plan.record, whole=whole)
    values = [_name(at, field, whole=whole) for at, field in enumerate(plan.fields)]
    digested = "".join(f"d{at}, {value}, " for at, value in enumerate(values))
    yield "hashed = seed()"
    yield f"hashed.update(join([LENGTH[len(key)], key, {digested}]))"
    yield "digest = hashed.hexdigest().encode()"
    if plan.record is RecordType.STRING:
        pieces = "".join(f"e{at}, {value}, " for at, value in enumerate(values))
        yield f"text = join([BEFORE, version, BETWEEN, digest, b'\"', {pieces}b'}}'])"
        yield "payload = payload_of(text)"
        yield "if payload is None:"
        yield "    raise Odd"
        yield "add(command(key, payload))"
        return
    marks = "VERSION, HEADS[len(version)], version, TAILS[len(version)], DIGEST"
    pieces = "".join(f"e{at}, {value}, t{at}, " for at, value in enumerate(values))
    yield f"body = join([{marks if versioned else 'marks'}, digest, BEHIND, {pieces}END])"
    # What `payload.hash_of` does, for a number of fields that is known only here where it varies.
    yield f"lead, crc = {'LEADS' if whole else 'LEADS_OF[fields]'}[len(body)]"
    yield "add((BEFORE_KEY[len(key)], key, lead, body, crc_bytes(crc64(body, crc))))"


def _key(plan: BulkPlan) -> Iterator[str]:
    if plan.check is not None:
        for part in plan.key:
            if isinstance(part, int):
                yield f"check(c{part})"
    parts = [
        repr(part) if isinstance(part, bytes) else f"c{part}" for part in plan.key if part != b""
    ]
    yield f"key = {' + '.join(parts)}"


def _value(at: int, field: BulkField, record: RecordType, *, whole: bool) -> Iterator[str]:
    """
    The value of one field, and what stands around it; nothing at all where the cell is NULL.
    """
    value = _name(at, field, whole=whole)
    here = list(_converted(at, field, whole=whole))
    if record is RecordType.HASH:
        here.append(f"e{at}, d{at}, t{at} = W{at}[len({value})]")
    else:
        here.append(f"e{at} = E{at}; d{at} = H{at} + len({value}).to_bytes(4, 'big')")
    absent = f"e{at} = d{at} = v{at} = t{at} = b''"
    yield from _unless_null(field, absent, here, whole=whole)


def _name(at: int, field: BulkField, *, whole: bool) -> str:
    """
    The variable that holds the value of a field.
    """
    return f"c{field.position}" if whole and field.convert is None else f"v{at}"


def _converted(at: int, field: BulkField, *, whole: bool) -> Iterator[str]:
    cell = f"c{field.position}"
    if field.convert is not None:
        yield f"v{at} = convert{at}({cell})"
    elif not whole:
        yield f"v{at} = {cell}"


def _unless_null(
    field: BulkField, absent: str, here: Sequence[str], *, whole: bool
) -> Iterator[str]:
    """
    Do this, or what is done instead where the cell is NULL.
    """
    if whole or not field.nullable:
        yield from here
        return
    yield f"if c{field.position} is None:"
    yield f"    {absent}"
    yield "    fields -= 1"
    yield "else:"
    for line in here:
        yield f"    {line}"


# --- the text of the function without payloads ----------------------------------------------------


class _Heads(dict[int, bytes]):
    """
    What stands before a value in the digest, by the length of the value.
    """

    def __init__(self, head: bytes) -> None:
        super().__init__((n, head + n.to_bytes(4, "big")) for n in range(256))
        self._head = head

    def __missing__(self, n: int) -> bytes:
        return self._head + n.to_bytes(4, "big")


def _of_marks(plan: BulkPlan) -> dict[str, Any]:
    text = plan.record is RecordType.STRING
    names: dict[str, Any] = {"ROOM": LARGEST_TEXT}
    for at, field in enumerate(plan.fields):
        head = field.head
        # As in an encoder, for which a longer value of a hash is odd as well.
        few = not text and len(plan.fields) <= FEW_FIELDS
        names[f"D{at}"] = [head + size for size in _SIZES] if few else _Heads(head)
    return names | dict(_of_strings(plan)) if text else names


def _marking(plan: BulkPlan, *, versioned: bool) -> Iterator[str]:
    yield "def mark(lines, version, add_key, add_mark, add_size, add_version, odd):"
    bodies = (_marks_of(plan, versioned=versioned, whole=whole) for whole in (False, True))
    yield from _loop(plan, *bodies, versioned=versioned)


def _marks_of(plan: BulkPlan, *, versioned: bool, whole: bool) -> Iterator[str]:
    text = plan.record is RecordType.STRING
    yield from _key(plan)
    if not whole:
        yield f"fields = {len(plan.fields) + MARKS}"
    for at, field in enumerate(plan.fields):
        yield from _digested(at, field, text=text, whole=whole)
    values = [_name(at, field, whole=whole) for at, field in enumerate(plan.fields)]
    digested = "".join(f"d{at}, {value}, " for at, value in enumerate(values))
    yield f"text = join((LENGTH[len(key)], key, {digested}))"
    yield "if len(text) > ROOM:"
    yield "    raise Odd"
    yield "hashed = seed()"
    yield "hashed.update(text)"
    yield "mark = hashed.hexdigest().encode()"
    size = str(len(plan.fields) + MARKS) if whole else "fields"
    if text:
        # Where a cell may be NULL its entry may be nothing.
        entry = "E" if whole else "e"
        pieces = "".join(f"{entry}{at}, {value}, " for at, value in enumerate(values))
        yield f"text = join((BEFORE, version, BETWEEN, mark, b'\"', {pieces}b'}}'))"
        yield "mark = text[:HEAD]"
        size = "len(text)"
    if versioned:
        # A row without one is an error before anything of it is added.
        yield "add_version(version + b'')"
    yield "add_key(key)"
    yield "add_mark(mark)"
    yield f"add_size({size})"


def _digested(at: int, field: BulkField, *, text: bool, whole: bool) -> Iterator[str]:
    """
    The value of one field and what stands before it in the digest.
    """
    here = [
        *_converted(at, field, whole=whole),
        f"d{at} = D{at}[len({_name(at, field, whole=whole)})]",
    ]
    if text and not whole:
        here.append(f"e{at} = E{at}")
    absent = f"{f'e{at} = ' if text else ''}d{at} = v{at} = b''"
    yield from _unless_null(field, absent, here, whole=whole)
