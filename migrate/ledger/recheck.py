"""
The re-check list of verifications: keys that were changing when they were compared.

Holds no value of a row: primary keys, versions, and digests of whole records.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, Row, and_, delete, func, insert, select, update

from migrate.ledger import keys, tables, verification
from migrate.ledger.verification import Checked
from migrate.model.verdict import CARRIED, Recheck, State

STATES = 8
"""Witnessed states that are kept of one key: the newest."""


@dataclass(frozen=True, slots=True)
class Looked:
    """
    What one more look at a listed key brought.

    Args:
        listed: As it was on the list.

        checked: What is told of it; None where it was still changing.

        states: Of its row, the one that was seen now among them.

        due: When to look again; None where that was the last time.
    """

    listed: Recheck
    checked: Checked | None = None
    states: tuple[State, ...] = ()
    due: float | None = None


def add(
    connection: Connection, run: str, number: int, listed: Sequence[Recheck], due: float
) -> None:
    """
    List keys, or what more is known of those that are listed.
    """
    table = tables.recheck
    for one in listed:
        here = (table.c.run == run) & (table.c.key == one.key.hex())
        row = connection.execute(select(table).where(here)).one_or_none()
        states = (*(_loaded(row).states if row else ()), *one.states)
        # A key that the way from SQL has counted as one of its own stays with it.
        kept = number if row is None or row.number == CARRIED else row.number
        connection.execute(delete(table).where(here))
        connection.execute(
            insert(table).values(
                run=run,
                key=one.key.hex(),
                source_key=keys.dump(one.source_key),
                number=kept,
                tries=0,
                due=due,
                states=_dumped(states),
            )
        )


def carry(connection: Connection, mapping: str, run: str) -> None:
    """
    Take over what earlier verifications of a mapping could not settle.
    """
    earlier = select(tables.verification.c.run).where(
        tables.verification.c.mapping == mapping, tables.verification.c.run != run
    )
    table = tables.recheck
    connection.execute(
        update(table)
        .where(table.c.run.in_(earlier.scalar_subquery()))
        .values(run=run, number=CARRIED, tries=0, due=0.0)
    )


def due(connection: Connection, run: str, until: float, size: int) -> list[Recheck]:
    """
    Keys whose time has come, the longest waiting first.
    """
    table = tables.recheck
    query = (
        select(table)
        .where(table.c.run == run, table.c.due <= until)
        .order_by(table.c.due, table.c.key)
        .limit(size)
    )
    return [_loaded(row) for row in connection.execute(query)]


def next_due(connection: Connection, run: str) -> float | None:
    """
    When the next key is to be looked at again; None where nothing is left to do.
    """
    table = tables.recheck
    found = connection.scalar(select(func.min(table.c.due)).where(table.c.run == run))
    return None if found is None else float(found)


def settle(connection: Connection, run: str, looked: Sequence[Looked]) -> None:
    """
    Take off the list what could be told, and put off the rest.

    A look that was kept already, though the reply was lost, is not counted again.
    """
    table = tables.recheck
    for one in looked:
        listed = one.listed
        here = and_(
            table.c.run == run, table.c.key == listed.key.hex(), table.c.tries == listed.tries
        )
        if one.checked is None:
            later = {"tries": listed.tries + 1, "due": one.due, "states": _dumped(one.states)}
            connection.execute(update(table).where(here).values(**later))
        elif connection.execute(delete(table).where(here)).rowcount:
            verification.add(connection, run, listed.number, one.checked)


def left(connection: Connection, run: str) -> int:
    """
    How many keys of this pass are on the list.
    """
    table = tables.recheck
    query = select(func.count()).where(table.c.run == run, table.c.number != CARRIED)
    return connection.scalar(query) or 0


def forget_partition(connection: Connection, run: str, number: int) -> None:
    """
    Forget what one partition listed.
    """
    table = tables.recheck
    connection.execute(delete(table).where(table.c.run == run, table.c.number == number))


def _dumped(states: Sequence[State]) -> str:
    unique = list(dict.fromkeys(states))[-STATES:]
    return json.dumps([[state.version, state.digest.decode("ascii")] for state in unique])


def _loaded(row: Row[tuple[object, ...]]) -> Recheck:
    states = tuple(State(version, digest.encode()) for version, digest in json.loads(row.states))
    source_key = keys.load(row.source_key) or ()
    return Recheck(bytes.fromhex(row.key), source_key, states, row.number, row.tries)
