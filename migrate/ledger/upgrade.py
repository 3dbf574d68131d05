"""
Brings the tables of an older ledger up to date, in the transaction that opens it.
"""

from __future__ import annotations

from sqlalchemy import Column, Connection, inspect, text, update

from migrate.ledger import tables


def upgrade(connection: Connection, found: int) -> None:
    """
    Add what later layouts added; nothing that is there is changed.

    Args:
        found: The layout that the ledger has.
    """
    looked = inspect(connection)
    for layout in range(found + 1, tables.LAYOUT + 1):
        for column in tables.ADDED[layout]:
            table = column.table.name
            there = {part["name"] for part in looked.get_columns(table)}
            if column.name not in there:
                connection.execute(text(f"ALTER TABLE {table} ADD COLUMN {_declared(column)}"))
    connection.execute(update(tables.layout).values(layout=tables.LAYOUT))


def _declared(column: Column[int]) -> str:
    # Every column that was added so far is a number.
    return f"{column.name} BIGINT" + ("" if column.nullable else " NOT NULL DEFAULT 0")
