"""
A source with capture, played by hand: the tables, what triggers would write, and a sync.

Changes and their marks are one transaction, as a trigger makes them; the sync reads, encodes and
writes through the program's own ports and folds the marks that it saw.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from migrate.mapping.compile import CompiledMapping, compile_mapping
from migrate.mapping.files import load
from migrate.model.settings import RedisConfig
from migrate.model.values import Fence, Outcome
from migrate.pipeline.scope import find_table
from migrate.source.control import MARK, VER, create_control
from migrate.source.extract import KeysetExtractor
from migrate.source.plain import PlainReader, filled_up
from migrate.source.store import SqlSource
from migrate.target.loader import ScriptLoader
from migrate.target.removal import Remover, There, Tombstone
from migrate.target.store import RedisTarget
from tests.project import Project
from tests.servers import Database

MAPPING = "people"
GENERATION = 1
AT_ONCE = 200
TRIES = 50

_APPLIED = {Outcome.WRITTEN, Outcome.REPLACED, Outcome.SAME, Outcome.STALE}


@dataclass(slots=True)
class Captured:
    """
    The tables of capture in one database, and changes with their marks.
    """

    database: Database
    engine: sa.Engine = field(init=False)

    def __post_init__(self) -> None:
        arguments = {"timeout": 30} if self.database.dialect == "sqlite" else {}
        self.engine = sa.create_engine(
            self.database.url, poolclass=NullPool, connect_args=arguments
        )
        if self.database.dialect == "sqlite":
            # Readers and the writer do not shut each other out.
            self.database.execute("PRAGMA journal_mode = WAL")
        create_control(self.engine)
        self.database.execute(
            "INSERT INTO migrate_ctl (mapping, generation, base, stage, ramp, epoch) "
            f"VALUES ('{MAPPING}', {GENERATION}, 0, 'capture', 0, 0)"
        )

    def change(self, person: int, *statements: str) -> None:
        """
        Statements and the mark of the person whom they change, in one transaction.
        """

        def work(connection: sa.Connection) -> None:
            for statement in statements:
                connection.exec_driver_sql(statement)
            connection.execute(sa.insert(MARK).values(mapping=MAPPING, pk=self._pk(person)))

        self.transact(work)

    def rename(self, person: int, name: str) -> None:
        """
        The change that most tests need.
        """
        self.change(person, f"UPDATE people SET name = '{name}' WHERE id = {person}")

    def fold(self, person: int) -> None:
        """
        What a sync does at its end, without its beginning: the marks go and nothing was written.
        """
        mark = MARK.c
        query = sa.select(mark.id, mark.pk).where(mark.pk == self._pk(person))
        self.folded([(row[0], person) for row in self.transact(lambda c: c.execute(query).all())])

    def marks(self) -> list[tuple[int, int]]:
        """
        Some marks with their persons, oldest first.
        """
        query = sa.select(MARK.c.id, MARK.c.pk).order_by(MARK.c.id).limit(AT_ONCE)
        rows = self.transact(lambda connection: connection.execute(query).all())
        return [(row[0], int(row[1])) for row in rows]

    def folded(self, marks: list[tuple[int, int]]) -> None:
        """
        Delete these marks and add their number to the versions, in one transaction.
        """
        counts: dict[int, int] = {}
        for _, person in marks:
            counts[person] = counts.get(person, 0) + 1

        def work(connection: sa.Connection) -> None:
            for person, count in sorted(counts.items()):
                here = (VER.c.mapping == MAPPING) & (VER.c.pk == self._pk(person))
                added = sa.update(VER).where(here).values(n=VER.c.n + count)
                if not connection.execute(added).rowcount:
                    values = {"mapping": MAPPING, "pk": self._pk(person), "n": count}
                    connection.execute(sa.insert(VER).values(**values))
            connection.execute(sa.delete(MARK).where(MARK.c.id.in_([one for one, _ in marks])))

        if marks:
            self.transact(work)

    def transact(self, work: Callable[[sa.Connection], Any]) -> Any:
        """
        Run it in one transaction, again where the server chose it as the victim of a deadlock.
        """
        for _ in range(TRIES):
            try:
                with self.engine.begin() as connection:
                    return work(connection)
            except sa.exc.OperationalError as error:
                said = str(error.orig).lower()
                if not any(word in said for word in ("deadlock", "lock wait", "locked")):
                    raise
        raise AssertionError(f"no transaction came through in {TRIES} tries")

    def _pk(self, person: int) -> object:
        # An entity is its bytes on MariaDB.
        return str(person).encode() if self.database.dialect == "mariadb" else str(person)


@dataclass(slots=True)
class Sync:
    """
    Applies what was marked: read, encode, write, bury, and only then fold.
    """

    captured: Captured
    compiled: CompiledMapping
    extractor: KeysetExtractor
    plain: PlainReader
    loader: ScriptLoader
    remover: Remover

    @classmethod
    @contextmanager
    def opened(cls, project: Project, captured: Captured, redis: RedisConfig) -> Iterator[Sync]:
        """
        Over the stores of a project that was backfilled, under the fence of its last run.
        """
        mapping = load(project.folder / "mappings")[MAPPING]
        with ExitStack() as stack:
            source = stack.enter_context(closing(SqlSource.open(captured.database.config())))
            target = stack.enter_context(closing(RedisTarget.open(redis)))
            table = find_table(source, mapping)
            compiled = compile_mapping(mapping, table, revision=1)
            extractor = stack.enter_context(closing(source.extractor(compiled.query, table)))
            found = target.fence(MAPPING)
            assert found is not None
            fence = Fence(found.mode, found.epoch, found.run, found.floor)
            loader = stack.enter_context(closing(target.loader(MAPPING, fence, compiled.shape())))
            remover = target.remover(MAPPING, fence)
            plain = source.plain(compiled.query)
            yield cls(captured, compiled, extractor, plain, loader, remover)

    def once(self, *, fold: bool = True) -> int:
        """
        Apply the oldest marks, and say how many there were.
        """
        marks = self.captured.marks()
        persons = sorted({person for _, person in marks})
        if not persons:
            return 0
        batch = self.compiled.encode(self.extractor.fetch(self._keys(persons)))
        outcomes = set(self.loader.write(batch.records).outcomes)
        assert outcomes <= _APPLIED, outcomes
        present = {int(key[0]) for key in batch.keys}
        left = {person for person in persons if person not in present and not self._bury(person)}
        if fold:
            self.captured.folded([mark for mark in marks if mark[1] not in left])
        return len(marks)

    def everything(self) -> None:
        """
        Apply until no mark is left.
        """
        while self.once():
            continue

    def _keys(self, persons: list[int]) -> list[tuple[int | str, ...]]:
        as_number = self.captured.database.dialect == "sqlite"
        return [(person if as_number else str(person),) for person in persons]

    def _bury(self, person: int) -> bool:
        """
        A tombstone at the version of the delete, unless the row is back or moved on meanwhile.
        """
        [key] = self._keys([person])
        before = self.plain.history([key])[key].version
        back = self.extractor.fetch(filled_up([key])).keys
        if back or self.plain.history([key])[key].version != before:
            return False
        shape = self.compiled.shape()
        name = f"person:{person}".encode()
        for page in self.remover.read([name], shape):
            there = [one for one in page if one.there is There.MARKED]
            self.remover.remove(there, shape, tombstone=Tombstone(int(before)))
        return True
