"""
The reader of single columns against packets that are made here, and against a server that fails.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymysql.err import OperationalError, ProgrammingError

from migrate.errors import MigrateError
from migrate.model.values import KeyRange
from migrate.source.dialects.mysql_wire import values_of
from migrate.source.store import SqlSource
from tests.servers import MariadbDatabase
from tests.source.reading import query_of

WHOLE = 0xFFFFFF
LAST = b"\xfe\x00\x00\x02\x00"
REFUSED = b"\xff" + (1064).to_bytes(2, "little") + b"#42000no"


class Driver:
    """
    What the reader uses of a connection.
    """

    encoding = "utf8"

    def __init__(self, stream: bytes, number: int, columns: int = 1) -> None:
        self._rfile = io.BytesIO(stream)
        self._next_seq_id = number
        self._columns = columns
        self._result: Any = None

    def query(self, query: str, *, unbuffered: bool) -> None:
        """
        Begin a result.
        """
        assert (query, unbuffered) == ("SELECT", True)
        self._result = SimpleNamespace(
            field_count=self._columns, unbuffered_active=True, connection=self
        )

    @property
    def ended(self) -> bool:
        """
        Nobody would look for further rows.
        """
        return (self._result.unbuffered_active, self._result.connection) == (False, None)

    @property
    def left(self) -> bytes:
        """
        What was not read.
        """
        return self._rfile.read()


def spelled(value: bytes | None) -> bytes:
    """
    A row of one value.
    """
    if value is None:
        return b"\xfb"
    size = len(value)
    for most, mark, width in ((250, b"", 1), (2**16 - 1, b"\xfc", 2), (2**24 - 1, b"\xfd", 3)):
        if size <= most:
            return mark + size.to_bytes(width, "little") + value
    return b"\xfe" + size.to_bytes(8, "little") + value


def packets(rows: Sequence[bytes], number: int) -> bytes:
    """
    Rows as the server sends them.
    """
    found = []
    for row in rows:
        for start in range(0, len(row) + 1, WHOLE):
            part = row[start : start + WHOLE]
            found.append(len(part).to_bytes(3, "little") + bytes([number % 256]) + part)
            number += 1
    return b"".join(found)


VALUES = (
    st.none() | st.binary(max_size=20) | st.sampled_from([249, 250, 251, 252, 70_000]).map(bytes)
)


@given(st.lists(VALUES, max_size=9), st.integers(0, 255))
def test_values_are_those_of_the_packets(values: list[bytes | None], number: int) -> None:
    """
    Of all lengths, from any number on, and not a byte more is read than the result has.
    """
    driver = Driver(packets([*map(spelled, values), LAST], number) + b"next", number)

    assert values_of(driver, "SELECT") == values
    assert driver.ended
    assert driver.left == b"next"


@pytest.mark.parametrize(
    "size", [65_535, 65_536, WHOLE - 5, WHOLE - 4, WHOLE - 3, WHOLE, WHOLE + 1, 2 * WHOLE - 9]
)
def test_long_values_are_whole(size: int) -> None:
    """
    At the borders of lengths and of packets.
    """
    values = [b"a", b"b" * size, None, b"c"]
    driver = Driver(packets([*map(spelled, values), LAST], 250), 250)

    assert values_of(driver, "SELECT") == values


def test_numbers_of_packets_begin_again() -> None:
    """
    There are 256 of them.
    """
    values: list[bytes | None] = [b"%d" % n for n in range(700)]
    driver = Driver(packets([*map(spelled, values), LAST], 5), 5)

    assert values_of(driver, "SELECT") == values


@given(st.lists(VALUES, max_size=5), st.data())
def test_a_result_that_is_cut_off_is_a_lost_connection(
    values: list[bytes | None], data: st.DataObject
) -> None:
    """
    Wherever it ends: there is no result without its last packet.
    """
    stream = packets([*map(spelled, values), LAST], 1)
    driver = Driver(stream[: data.draw(st.integers(0, len(stream) - 1))], 1)

    with pytest.raises(OperationalError) as caught:
        values_of(driver, "SELECT")
    assert caught.value.args[0] == 2013
    assert driver.ended


@pytest.mark.parametrize(
    "stream",
    [
        packets([b"\x01a"], 1) + packets([LAST], 3),
        packets([b"\x01a"], 2),
        packets([b""], 1),
        packets([bytes(WHOLE)], 1)[: WHOLE + 4] + packets([b""], 3),
    ],
)
def test_a_packet_out_of_order_is_a_lost_connection(stream: bytes) -> None:
    """
    A number is left out or wrong, or a packet holds nothing.
    """
    with pytest.raises(OperationalError):
        values_of(Driver(stream, 1), "SELECT")


def test_an_error_behind_rows_is_the_servers() -> None:
    """
    As the driver would raise it, and the rows before it are not used.
    """
    driver = Driver(packets([b"\x01a", REFUSED], 1), 1)

    with pytest.raises(ProgrammingError) as caught:
        values_of(driver, "SELECT")
    assert caught.value.args == (1064, "no")
    assert driver.ended


def test_more_columns_are_none_of_its_business() -> None:
    """
    A mistake of the caller is told before anything is read.
    """
    with pytest.raises(ValueError, match="2 columns"):
        values_of(Driver(packets([LAST], 1), 1, columns=2), "SELECT")


@pytest.mark.parametrize(("most", "whole"), [(40, True), (31, False), (20, False), (0, False)])
def test_too_much_is_read_and_not_kept(most: int, *, whole: bool) -> None:
    """
    The connection is at the end of the result, as otherwise.
    """
    values: list[bytes | None] = [b"12345678", b"12345678", b"12345678"]
    driver = Driver(packets([*map(spelled, values), LAST], 1), 1)

    assert values_of(driver, "SELECT", most) == (values if whole else None)
    assert driver.left == b""


def test_a_row_that_fails_within_a_page_is_the_same_error(
    mariadb: MariadbDatabase, from_mariadb: SqlSource
) -> None:
    """
    An error behind thousands of rows ends the page, and the next read has a connection again.
    """
    mariadb.execute(
        "CREATE TABLE numbers (id INT PRIMARY KEY, d INT);"
        "INSERT INTO numbers SELECT seq, IF(seq = 5000, 2, 1) FROM seq_1_to_9000;"
        "CREATE VIEW people AS SELECT id, "
        "(SELECT s.seq FROM seq_1_to_2 s WHERE s.seq <= numbers.d) AS v FROM numbers"
    )
    table = from_mariadb.reflect(None, "people")
    assert table is not None
    query = query_of(table, ("id",))
    plain, bulk = from_mariadb.extractor(query, table), from_mariadb.bulk(query, table)
    assert bulk is not None

    with pytest.raises(MigrateError) as first:
        plain.read(KeyRange(), None, 9000)
    with pytest.raises(MigrateError) as second:
        bulk.read(KeyRange(), None, 9000)

    assert str(first.value) == str(second.value)
    assert len(bulk.read(KeyRange(), None, 4999).lines) == 4999


def test_a_session_that_ends_is_only_read_again(
    mariadb: MariadbDatabase, from_mariadb: SqlSource
) -> None:
    """
    Somebody ends the session between two pages: the next one comes all the same.
    """
    mariadb.execute(
        "CREATE TABLE people (id INT PRIMARY KEY); INSERT INTO people SELECT seq FROM seq_1_to_10"
    )
    table = from_mariadb.reflect(None, "people")
    assert table is not None
    bulk = from_mariadb.bulk(query_of(table), table)
    assert bulk is not None
    first = bulk.read(KeyRange(), None, 5)

    sessions = mariadb.query(
        "SELECT id FROM information_schema.processlist "
        "WHERE db = DATABASE() AND id <> CONNECTION_ID()"
    )
    mariadb.execute(";".join(f"KILL {number}" for (number,) in sessions))

    assert bulk.read(KeyRange(), first.last, 5).lines == [b"%d" % n for n in range(6, 11)]
