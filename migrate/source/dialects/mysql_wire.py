"""
The values of one column as they come off PyMySQL's connection, a row a packet.

Of a result with a single column the driver's own reader of rows is three quarters of what reading
costs. This one does the same with what the driver has set up: its buffered socket, its sequence
numbers, its errors. It reads to the end of the result; whoever is interrupted throws the connection
away, as `Connections` does.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

_WHOLE_PACKET = 0xFFFFFF
"""Bytes of a packet whose row goes on in the next one."""

_NULL, _LONG, _ERROR = 0xFB, 0xFE, 0xFF
"""First bytes of a row that do not say where its value begins."""

_BEGINS = [1] * _NULL + [0, 3, 4, 0, 0]
"""By the first byte of a row where its value begins."""

_LONGER_THAN_LAST = 9
"""From here on what begins as the last packet does has a value of more than 16 MB."""

_LOST = 2013
"""The driver's number for a connection that ended while it read."""


def values_of(driver: Any, query: str, most: int = sys.maxsize) -> list[bytes | None] | None:
    """
    The only column of a query's rows, as bytes; None where they are more bytes than `most`.
    """
    driver.query(query, unbuffered=True)
    result = driver._result  # noqa: SLF001 - see the page above
    try:
        if result.field_count != 1:
            raise ValueError(f"{result.field_count} columns")
        return _read(driver, most)
    finally:
        # Nobody else is to look for rows of it.
        result.unbuffered_active = False
        result.connection = None


def _read(driver: Any, most: int) -> list[bytes | None] | None:
    read, number = driver._rfile.read, driver._next_seq_id  # noqa: SLF001
    values: list[bytes | None] = []
    add = values.append
    total = 0
    try:
        while True:
            low, middle, high, sequence = read(4)
            size = low | middle << 8 | high << 16
            row = read(size)
            if sequence != number or len(row) != size:
                raise _lost()
            number = number + 1 & 0xFF
            if size == _WHOLE_PACKET:
                rest, number = _rest(read, number)
                row += rest
            total += size
            if total > most:
                # Read on, so that the connection can be used again, and keep nothing.
                values.clear()
            begin = _BEGINS[row[0]]
            if begin:
                add(row[begin:])
            elif row[0] == _NULL:
                add(None)
            elif row[0] == _LONG and len(row) >= _LONGER_THAN_LAST:
                add(row[9:])
            else:
                break
    except (OSError, ValueError, IndexError) as exc:
        # A header that is cut off has no four parts, and a packet of nothing no first byte.
        raise _lost() from exc
    if row[0] == _ERROR:
        raise _error(driver, row)
    return None if total > most else values


def _rest(read: Callable[[int], bytes], number: int) -> tuple[bytes, int]:
    """
    What other packets hold of a row, and the number of the packet behind them.
    """
    parts = []
    size = _WHOLE_PACKET
    while size == _WHOLE_PACKET:
        low, middle, high, sequence = read(4)
        size = low | middle << 8 | high << 16
        parts.append(read(size))
        if sequence != number or len(parts[-1]) != size:
            raise _lost()
        number = number + 1 & 0xFF
    return b"".join(parts), number


def _lost() -> Exception:
    from pymysql.err import OperationalError  # noqa: PLC0415  (an extra)

    return OperationalError(_LOST, "Lost connection to MySQL server during query")


def _error(driver: Any, packet: bytes) -> Exception:
    """
    What the server says instead of the next row.
    """
    from pymysql.err import MySQLError  # noqa: PLC0415
    from pymysql.protocol import MysqlPacket  # noqa: PLC0415

    try:
        MysqlPacket(packet, driver.encoding).raise_for_error()
    except MySQLError as exc:
        return exc
    return _lost()


__all__ = ["values_of"]
