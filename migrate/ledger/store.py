"""
The ledger as an object: mappings, runs, partitions, rejects and locks, each change one transaction.

A save that may have been committed before its reply was lost is recognised and not counted twice.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import (
    URL,
    Connection,
    Engine,
    Integer,
    Row,
    Select,
    Update,
    bindparam,
    create_engine,
    delete,
    event,
    func,
    insert,
    inspect,
    select,
    update,
)
from sqlalchemy.pool import NullPool, QueuePool, StaticPool

from migrate.errors import Fenced, LedgerAccessDenied, LedgerDamaged, LockHeld, UsageProblem
from migrate.ledger import journal, keys, recheck, tables, verification
from migrate.ledger.journal import JournalEntry, Note
from migrate.ledger.lock import LEASE_S, Holder, this_process
from migrate.ledger.recheck import Looked
from migrate.ledger.retry import attempt
from migrate.ledger.upgrade import upgrade
from migrate.ledger.verification import Checked, Found, Kept
from migrate.model.events import Notify, silent
from migrate.model.ports import Partition, Progress
from migrate.model.settings import SourceConfig
from migrate.model.shape import RecordShape
from migrate.model.values import Fault, Key, KeyRange, Outcome, Reject
from migrate.model.verdict import BACK, Recheck

T = TypeVar("T")

DRIVERS = {"sqlite": "sqlite", "postgresql": "postgresql+psycopg"}
PENDING, CLAIMED, DONE = "pending", "claimed", "done"
RUNNING, FINISHED, HALTED = "running", "finished", "halted"
PURGED = "purged"
"""A run whose records were removed again."""

BUSY_TIMEOUT_MS = 10_000


@dataclass(frozen=True, slots=True)
class MappingState:
    """
    What the ledger knows of a mapping: which records it writes and which server holds them.

    Args:
        fenced: The target's fence carries `run`; before that, a fence of another run is not a loss.
    """

    name: str
    fingerprint: str
    revision: int
    generation: int
    run: str
    address: str
    topology: str
    flavour: str
    version: str
    fenced: bool


@dataclass(frozen=True, slots=True)
class RunState:
    """
    One run and the sums over its partitions.

    Args:
        instant: The source's clock when it began, in milliseconds since 1970; None where nothing
            depends on it.
    """

    id: str
    mapping: str
    kind: str
    fingerprint: str
    source: str
    target: str
    status: str
    exit_code: int | None
    error: str | None
    rows_estimated: int
    workers: int
    started_at: float
    updated_at: float
    finished_at: float | None
    seconds: float
    throttled_s: float
    partitions: int
    partitions_done: int
    rows: int
    rejected: int
    outcomes: Mapping[Outcome, int]
    instant: int | None = None


@dataclass(frozen=True, slots=True)
class OpenReject:
    """
    A reject as it lies in the ledger.
    """

    reject: Reject
    run: str
    seen_at: float


@dataclass(frozen=True, slots=True)
class Lock:
    """
    A mapping's lock and who holds it.
    """

    mapping: str
    token: str
    holder: Holder
    since: float
    lease_until: float


def _saving() -> tuple[Update, Update]:
    """
    What keeps a chunk of a backfill, and a page of a verification.
    """
    part = tables.partition
    chunk = (
        update(part)
        .where(part.c.run == bindparam("of"), part.c.number == bindparam("at"))
        .where(part.c.token == bindparam("held"), part.c.saves == bindparam("saved"))
        .values(
            cursor=bindparam("to_cursor"),
            status=bindparam("to_status"),
            saves=part.c.saves + 1,
            rows=part.c.rows + bindparam("more_rows"),
            seconds=part.c.seconds + bindparam("more_seconds"),
            written_at=bindparam("now"),
        )
    )
    counted = {name: part.c[name] + bindparam(f"more_{name}") for name in tables.OUTCOMES}
    return chunk.values(
        rejected=part.c.rejected + bindparam("more_rejected"),
        # The first server stays: a later one means that earlier chunks are suspect.
        server=func.coalesce(part.c.server, bindparam("by", type_=part.c.server.type)),
        **counted,
    ), chunk


# Made once: to make such a statement takes longer than to run it.
_SAVE, _SAVE_CHECKED = _saving()
_TOUCH = (
    update(tables.run).where(tables.run.c.id == bindparam("of")).values(updated_at=bindparam("now"))
)


def _claim(run: str, partition: Partition) -> dict[str, object]:
    """
    What a saving statement finds a partition by, while nobody else has it.
    """
    return {"of": run, "at": partition.number, "held": partition.token, "saved": partition.saves}


class Ledger:
    """
    Opens, and makes where it is missing, the ledger of a project.

    Args:
        config: Where it is; sqlite or postgresql.

        wall: Seconds since 1970, for what people read and for leases between hosts.

    Raises:
        LedgerUnavailable: It did not answer for as long as we may wait.
        LedgerDamaged: It is no ledger, or one of a newer version.
    """

    def __init__(
        self,
        config: SourceConfig,
        *,
        wall: Callable[[], float],
        sleep: Callable[[float], None],
        notify: Notify = silent,
    ) -> None:
        self.address = config.address
        self._config = config
        self._wall = wall
        self._sleep = sleep
        self._notify = notify
        self._engine = _engine(config)
        self._transact(self._prepare)

    def close(self) -> None:
        """
        Give the connections back.
        """
        self._engine.dispose()

    def _transact(self, work: Callable[[Connection], T]) -> T:
        def once() -> T:
            with self._engine.begin() as connection:
                return work(connection)

        return attempt(
            once,
            address=self.address,
            retry_for_s=self._config.retry_for_s,
            notify=self._notify,
            sleep=self._sleep,
        )

    def _prepare(self, connection: Connection) -> None:
        # Two programs may make, or bring up to date, one ledger: the second waits and sees it done.
        tables.wait_for_others(connection, tables.OPENING)
        tables.layout.create(connection, checkfirst=True)
        found = connection.scalar(select(tables.layout.c.layout))
        if found is not None and not tables.FIRST_LAYOUT <= found <= tables.LAYOUT:
            raise LedgerDamaged(
                "The ledger was written by another version of profile-migrate.",
                where={"ledger": self.address, "layout": found, "known": tables.LAYOUT},
                next_step="Use the version that wrote it, or name another ledger.",
            )
        tables.metadata.create_all(connection)
        if found is None:
            connection.execute(insert(tables.layout).values(layout=tables.LAYOUT))
        elif found < tables.LAYOUT:
            upgrade(connection, found)

    # --- mappings ---------------------------------------------------------------------------

    def mapping(self, name: str) -> MappingState | None:
        """
        What is known of a mapping, or None before its first run.
        """
        query = select(tables.mapping).where(tables.mapping.c.name == name)
        row = self._transact(lambda connection: connection.execute(query).one_or_none())
        return None if row is None else MappingState(*row)

    def keep_mapping(self, state: MappingState) -> None:
        """
        Remember a mapping's fingerprint, revision and target.
        """

        def work(connection: Connection) -> None:
            table = tables.mapping
            connection.execute(delete(table).where(table.c.name == state.name))
            values = {c.name: getattr(state, c.name) for c in table.columns}
            connection.execute(insert(table).values(**values))

        self._transact(work)

    def forget_mapping(
        self, mapping: str, *, keep_shapes: bool = False, note: Note | None = None
    ) -> None:
        """
        Forget what was written, after all of it was removed. Runs and journal stay.

        Args:
            keep_shapes: Records that others have changed are still there.

            note: What the journal says of it, in the same transaction.
        """

        def work(connection: Connection) -> None:
            runs = select(tables.run.c.id).where(tables.run.c.mapping == mapping)
            part = tables.partition
            connection.execute(delete(part).where(part.c.run.in_(runs.scalar_subquery())))
            tables_of = [tables.reject.c.mapping, tables.mapping.c.name]
            # Nothing is there any more that a verification could speak of.
            verification.forget(connection, mapping)
            if not keep_shapes:
                tables_of.append(tables.shape.c.mapping)
            for column in tables_of:
                connection.execute(delete(column.table).where(column == mapping))
            table = tables.run
            connection.execute(
                update(table).where(table.c.mapping == mapping).values(status=PURGED)
            )
            if note is not None:
                journal.append(connection, note, self._wall())

        self._transact(work)

    # --- shapes -----------------------------------------------------------------------------

    def keep_shape(self, mapping: str, shape: RecordShape) -> None:
        """
        Remember how records are about to be written; its revision is never lowered.
        """
        table = tables.shape
        here = (table.c.mapping == mapping) & (table.c.fingerprint == shape.fingerprint)

        def work(connection: Connection) -> None:
            text = connection.scalar(select(table.c.shape).where(here).with_for_update())
            revision = shape.revision
            if text is not None:
                revision = max(revision, RecordShape.from_json(text).revision)
                connection.execute(delete(table).where(here))
            kept = replace(shape, revision=revision)
            connection.execute(
                insert(table).values(
                    mapping=mapping, fingerprint=shape.fingerprint, shape=kept.to_json()
                )
            )

        self._transact(work)

    def shapes(self, mapping: str) -> list[RecordShape]:
        """
        Every way in which records of a mapping may be in the target, oldest revision first.
        """
        table = tables.shape
        query = select(table.c.shape).where(table.c.mapping == mapping)
        rows = self._transact(lambda connection: connection.scalars(query).all())
        found = [RecordShape.from_json(text) for text in rows]
        return sorted(found, key=lambda shape: (shape.revision, shape.fingerprint))

    def forget_shapes(self, mapping: str, keep: Collection[str]) -> None:
        """
        Forget the shapes with other fingerprints: nothing of them is in the target any more.
        """
        table = tables.shape
        others = table.c.fingerprint.not_in(list(keep))
        statement = delete(table).where(table.c.mapping == mapping, others)
        self._transact(lambda connection: connection.execute(statement))

    # --- journal ----------------------------------------------------------------------------

    def note(self, note: Note) -> JournalEntry:
        """
        Add a line to the journal, chained to the one before it.
        """
        return self._transact(lambda connection: journal.append(connection, note, self._wall()))

    def journal(self, mapping: str | None = None) -> Iterator[JournalEntry]:
        """
        The journal in order, of one mapping or all of it, read page by page.
        """
        after = 0
        while page := self._transact(
            lambda connection, after=after: journal.page(connection, mapping, after)  # type: ignore[misc]
        ):
            yield from page
            after = page[-1].seq

    def last_entry(self, mapping: str) -> JournalEntry | None:
        """
        The newest line of a mapping.
        """
        return self._transact(lambda connection: journal.last(connection, mapping))

    # --- runs -------------------------------------------------------------------------------

    def begin_run(  # noqa: PLR0913 - one row of the ledger, named column by column
        self,
        mapping: str,
        *,
        kind: str,
        fingerprint: str,
        tool: str,
        source: str,
        target: str,
        ranges: Sequence[KeyRange],
        rows_estimated: int,
        workers: int,
        instant: int | None = None,
    ) -> str:
        """
        Write down a run and its partitions in one transaction; an unfinished one is set aside.

        Args:
            instant: The source's clock when the run began, in milliseconds since 1970.

        Returns:
            The id of the run.
        """
        run = str(uuid.uuid4())
        now = self._wall()
        values = {
            "id": run,
            "mapping": mapping,
            "kind": kind,
            "fingerprint": fingerprint,
            "tool": tool,
            "source": source,
            "target": target,
            "status": RUNNING,
            "rows_estimated": rows_estimated,
            "workers": workers,
            "started_at": now,
            "updated_at": now,
            "seconds": 0.0,
            "throttled_s": 0.0,
            "instant": instant,
        }
        zero = dict.fromkeys(("token", "saves", "rows", "rejected", *tables.OUTCOMES), 0)
        parts = [
            {
                "run": run,
                "number": number,
                "low": keys.dump(part.low),
                "high": keys.dump(part.high),
                "status": PENDING,
                "seconds": 0.0,
                **zero,
            }
            for number, part in enumerate(ranges)
        ]

        def work(connection: Connection) -> None:
            self._retire(connection, mapping, kind)
            connection.execute(insert(tables.run).values(**values))
            if parts:
                connection.execute(insert(tables.partition), parts)

        self._transact(work)
        return run

    def _retire(self, connection: Connection, mapping: str, kind: str) -> None:
        """
        Partitions of earlier runs go; their sums stay with no run that could be resumed.
        """
        table = tables.run
        left = (table.c.mapping == mapping) & (table.c.kind == kind)
        left &= table.c.status.not_in((FINISHED, PURGED))
        earlier = select(table.c.id).where(left)
        connection.execute(
            delete(tables.partition).where(tables.partition.c.run.in_(earlier.scalar_subquery()))
        )
        connection.execute(delete(table).where(left))

    def resume_run(self, run: str, *, workers: int) -> None:
        """
        Mark a run as going on and free the partitions that a dead worker held.
        """
        self._transact(lambda connection: self._resume(connection, run, workers))

    def _resume(self, connection: Connection, run: str, workers: int) -> None:
        connection.execute(
            update(tables.run)
            .where(tables.run.c.id == run)
            .values(
                status=RUNNING, error=None, exit_code=None, workers=workers, updated_at=self._wall()
            )
        )
        part = tables.partition
        connection.execute(
            update(part)
            .where(part.c.run == run, part.c.status == CLAIMED)
            .values(status=PENDING, owner=None, token=part.c.token + 1)
        )

    def end_run(
        self,
        run: str,
        *,
        status: str,
        exit_code: int,
        error: str | None,
        seconds: float,
        throttled_s: float,
    ) -> None:
        """
        Write down how a run ended. A finished run settles the rejects that it did not see again.
        """

        def work(connection: Connection) -> None:
            now = self._wall()
            table = tables.run
            connection.execute(
                update(table)
                .where(table.c.id == run)
                .values(
                    status=status,
                    exit_code=exit_code,
                    error=error,
                    updated_at=now,
                    finished_at=now if status == FINISHED else None,
                    seconds=table.c.seconds + seconds,
                    throttled_s=table.c.throttled_s + throttled_s,
                )
            )
            if status == FINISHED:
                filled = (table.c.id == run) & (table.c.kind == "backfill")
                owner = select(table.c.mapping).where(filled).scalar_subquery()
                connection.execute(
                    delete(tables.reject).where(
                        tables.reject.c.mapping == owner, tables.reject.c.run != run
                    )
                )

        self._transact(work)

    def last_run(self, mapping: str, kind: str = "backfill") -> RunState | None:
        """
        The newest run of a mapping with the sums over its partitions.
        """
        table = tables.run
        query = (
            select(table)
            .where(table.c.mapping == mapping, table.c.kind == kind)
            .order_by(table.c.started_at.desc())
            .limit(1)
        )

        def work(connection: Connection) -> RunState | None:
            row = connection.execute(query).one_or_none()
            return None if row is None else _run_state(row, _sums(connection, row.id))

        return self._transact(work)

    def redo(self, run: str, *, unless_server: str | None) -> int:
        """
        Start the partitions over that another server took, or all of them where none is named.

        Returns:
            How many partitions will be done again.
        """
        part = tables.partition

        def work(connection: Connection) -> int:
            suspect = part.c.run == run
            if unless_server is not None:
                suspect &= (part.c.server.is_not(None)) & (part.c.server != unless_server)
            numbers = list(connection.scalars(select(part.c.number).where(suspect)))
            if not numbers:
                return 0
            zero = dict.fromkeys(("rows", "rejected", "seconds", *tables.OUTCOMES), 0)
            connection.execute(
                update(part)
                .where(suspect)
                .values(
                    status=PENDING,
                    cursor=None,
                    owner=None,
                    server=None,
                    written_at=None,
                    token=part.c.token + 1,
                    **zero,
                )
            )
            connection.execute(
                delete(tables.reject).where(
                    tables.reject.c.run == run, tables.reject.c.partition.in_(numbers)
                )
            )
            return len(numbers)

        return self._transact(work)

    def partitions_left(self, run: str) -> int:
        """
        How many partitions of a run are not done.
        """
        part = tables.partition
        query = select(func.count()).where(part.c.run == run, part.c.status != DONE)
        return self._transact(lambda connection: connection.scalar(query) or 0)

    def count_partitions(self, run: str) -> dict[str, int]:
        """
        Partitions of a run by their status: pending, claimed, done.
        """
        part = tables.partition
        query = select(part.c.status, func.count()).where(part.c.run == run).group_by(part.c.status)
        rows = self._transact(lambda connection: connection.execute(query).all())
        return {row[0]: row[1] for row in rows}

    # --- partitions -------------------------------------------------------------------------

    def claim(self, run: str, worker: str, *, but: Sequence[int] = ()) -> Partition | None:
        """
        Take a partition that nobody works on; raises its token, so that older workers lose it.

        Args:
            but: Numbers of partitions that are none of rows.
        """
        part = tables.partition

        def work(connection: Connection) -> Partition | None:
            row = connection.execute(
                select(part)
                .where(part.c.run == run, part.c.status == PENDING, part.c.number.not_in(but))
                .order_by(part.c.number)
                .limit(1)
                .with_for_update(skip_locked=True)
            ).one_or_none()
            if row is None:
                return None
            connection.execute(
                update(part)
                .where(part.c.run == run, part.c.number == row.number)
                .values(status=CLAIMED, owner=worker, token=row.token + 1)
            )
            return Partition(
                number=row.number,
                range=KeyRange(keys.load(row.low), keys.load(row.high)),
                cursor=keys.load(row.cursor),
                token=row.token + 1,
                saves=row.saves,
            )

        return self._transact(work)

    def save(self, run: str, mapping: str, partition: Partition, progress: Progress) -> Partition:
        """
        Keep what a chunk added, its rejects included, in one transaction.

        Returns:
            The partition as it is now.

        Raises:
            Fenced: Another worker has claimed the partition since.
            LedgerFull: Nothing was kept; the chunk will be done again.
        """
        values: dict[str, object] = {
            **_claim(run, partition),
            "to_cursor": keys.dump(progress.cursor),
            "to_status": DONE if progress.done else CLAIMED,
            "more_rows": progress.rows,
            "more_rejected": _rejected(progress),
            "more_seconds": progress.seconds,
            "by": progress.server or None,
        }
        for name in tables.OUTCOMES:
            values[f"more_{name}"] = progress.outcomes.get(Outcome[name.upper()], 0)

        def work(connection: Connection) -> None:
            now = self._wall()
            if connection.execute(_SAVE, {**values, "now": now}).rowcount == 0:
                self._was_saved(connection, run, partition)
                return
            self._keep_rejects(connection, mapping, run, partition.number, progress.rejects)
            connection.execute(_TOUCH, {"of": run, "now": now})

        self._transact(work)
        return partition.saved(progress.cursor)

    def _was_saved(self, connection: Connection, run: str, partition: Partition) -> None:
        """
        Accept a save whose first attempt was committed though its reply was lost.
        """
        part = tables.partition
        here = (part.c.run == run) & (part.c.number == partition.number)
        row = connection.execute(select(part.c.token, part.c.saves).where(here)).one_or_none()
        if row is None or tuple(row) != (partition.token, partition.saves + 1):
            raise Fenced(
                "Another run or worker took over this partition.",
                where={"ledger": self.address, "partition": partition.number},
                next_step="profile-migrate status",
            )

    def _keep_rejects(
        self,
        connection: Connection,
        mapping: str,
        run: str,
        partition: int,
        rejects: Sequence[Reject],
    ) -> None:
        if not rejects:
            return
        rows = {
            keys.dump(reject.key) or "": {
                "mapping": mapping,
                "key": keys.dump(reject.key),
                "run": run,
                "partition": partition,
                "column": reject.fault.column,
                "reason": reject.fault.reason,
                "detail": reject.fault.detail,
                "seen_at": self._wall(),
            }
            for reject in rejects
        }
        table = tables.reject
        for key in rows:
            connection.execute(delete(table).where(table.c.mapping == mapping, table.c.key == key))
        connection.execute(insert(table), list(rows.values()))

    # --- verifications ----------------------------------------------------------------------

    def begin_verification(self, run: str, kept: Kept, *, carry: bool = False) -> None:
        """
        Remember what a verification is about; findings of earlier ones are forgotten.

        Args:
            carry: Take over their re-check list, which is forgotten otherwise.
        """

        def work(connection: Connection) -> None:
            if carry:
                recheck.carry(connection, kept.mapping, run)
            verification.forget_findings(connection, kept.mapping, but=run)
            verification.keep(connection, run, kept)
            verification.forget_passes(connection, kept.mapping)

        self._transact(work)

    def save_checked(
        self, run: str, partition: Partition, checked: Checked, *, seconds: float
    ) -> Partition:
        """
        Keep what a chunk of a verification found, in one transaction with its cursor.

        Returns:
            The partition as it is now.

        Raises:
            Fenced: Another worker has claimed the partition since.
        """
        values: dict[str, object] = {
            **_claim(run, partition),
            "to_cursor": keys.dump(checked.cursor),
            "to_status": DONE if checked.done else CLAIMED,
            "more_rows": checked.rows,
            "more_seconds": seconds,
        }

        def work(connection: Connection) -> None:
            now = self._wall()
            if connection.execute(_SAVE_CHECKED, {**values, "now": now}).rowcount == 0:
                self._was_saved(connection, run, partition)
                return
            verification.add(connection, run, partition.number, checked)
            recheck.add(connection, run, partition.number, checked.rechecks, checked.due)
            if checked.done and partition.number == BACK:
                verification.forget_seen(connection, run)
            connection.execute(_TOUCH, {"of": run, "now": now})

        self._transact(work)
        return partition.saved(checked.cursor)

    def add_partition(self, run: str, number: int) -> None:
        """
        Add a partition without ends to a verification, unless it is there.
        """
        zero = dict.fromkeys(("token", "saves", "rows", "rejected", *tables.OUTCOMES), 0)

        def work(connection: Connection) -> None:
            part = tables.partition
            here = (part.c.run == run) & (part.c.number == number)
            if connection.scalar(select(func.count()).select_from(part).where(here)):
                return
            values = {"run": run, "number": number, "status": PENDING, "seconds": 0.0, **zero}
            connection.execute(insert(part).values(**values))

        self._transact(work)

    def restart_partition(self, run: str, number: int) -> None:
        """
        Do a partition of a verification again from its beginning, and forget what it found.
        """

        def work(connection: Connection) -> None:
            part = tables.partition
            here = (part.c.run == run) & (part.c.number == number)
            connection.execute(
                update(part)
                .where(here)
                .values(status=PENDING, cursor=None, rows=0, seconds=0.0, token=part.c.token + 1)
            )
            verification.forget_partition(connection, run, number)
            recheck.forget_partition(connection, run, number)

        self._transact(work)

    def rechecks(self, run: str, until: float, size: int) -> list[Recheck]:
        """
        Listed keys of a verification whose time has come.
        """
        return self._transact(lambda connection: recheck.due(connection, run, until, size))

    def next_recheck(self, run: str) -> float | None:
        """
        When the next listed key is to be looked at again, or None.
        """
        return self._transact(lambda connection: recheck.next_due(connection, run))

    def rechecks_left(self, run: str) -> int:
        """
        How many keys of a verification are still changing.
        """
        return self._transact(lambda connection: recheck.left(connection, run))

    def save_rechecked(self, run: str, looked: Sequence[Looked]) -> None:
        """
        Keep what one more look at listed keys brought, in one transaction.
        """

        def work(connection: Connection) -> None:
            recheck.settle(connection, run, looked)
            connection.execute(
                update(tables.run).where(tables.run.c.id == run).values(updated_at=self._wall())
            )

        self._transact(work)

    def seen(self, run: str) -> list[bytes]:
        """
        What the partitions of a verification have kept of the records that they met.
        """
        return self._transact(lambda connection: verification.seen(connection, run))

    def checked(self, run: str) -> dict[tuple[int, str], int]:
        """
        How many entities of each partition had which verdict, as far as it is no finding.
        """
        return self._transact(lambda connection: verification.counts(connection, run))

    def parts_of(self, run: str) -> list[dict[str, Any]]:
        """
        Number, rows, seconds and whether it is done, of each partition.
        """
        part = tables.partition
        query = select(part).where(part.c.run == run).order_by(part.c.number)
        rows = self._transact(_all_of(query))
        return [
            {
                "number": row.number,
                "rows": row.rows,
                "seconds": row.seconds,
                "done": row.status == DONE,
            }
            for row in rows
        ]

    def findings(
        self, run: str, *, verdict: str | None = None, limit: int | None = None
    ) -> Iterator[Found]:
        """
        What a verification found, in a stable order, read page by page.
        """
        left, after = limit, None
        while left is None or left > 0:
            size = 1_000 if left is None else min(left, 1_000)
            page = self._transact(
                lambda connection, after=after, size=size: verification.page(  # type: ignore[misc]
                    connection, run, verdict, after, size
                )
            )
            if not page:
                return
            yield from page
            after = page[-1]
            left = None if left is None else left - len(page)

    def sums_of_findings(self, run: str) -> list[tuple[int, str, str, str, int]]:
        """
        Partition, verdict, kind, field, and how many keys.
        """
        return self._transact(lambda connection: verification.sums(connection, run))

    def keys_of_findings(self, run: str) -> dict[str, int]:
        """
        How many keys have each verdict.
        """
        return self._transact(lambda connection: verification.by_verdict(connection, run))

    def told_entries(self, run: str, entries: Sequence[bytes]) -> set[bytes]:
        """
        Those of these lookup keys that a finding names already.
        """
        return self._transact(lambda connection: verification.told(connection, run, entries))

    def has_rejects(self, mapping: str) -> bool:
        """
        Whether a mapping has any open reject.
        """
        query = select(tables.reject.c.key).where(tables.reject.c.mapping == mapping).limit(1)
        return self._transact(lambda connection: connection.scalar(query)) is not None

    def rejected(self, mapping: str, wanted: Sequence[Key]) -> set[Key]:
        """
        Those of these rows that are open rejects.
        """
        table = tables.reject
        texts = {keys.dump(key) or "": key for key in wanted}
        found: set[Key] = set()
        names = list(texts)
        for start in range(0, len(names), 500):
            query = select(table.c.key).where(
                table.c.mapping == mapping, table.c.key.in_(names[start : start + 500])
            )
            rows = self._transact(lambda connection, query=query: connection.scalars(query).all())  # type: ignore[misc]
            found.update(texts[text] for text in rows)
        return found

    def first_instant(self, mapping: str, fingerprint: str) -> int | None:
        """
        The earliest instant from which records of this form may count their time to live.
        """
        table = tables.run
        query = select(func.min(table.c.instant)).where(
            table.c.mapping == mapping,
            table.c.kind == "backfill",
            table.c.fingerprint == fingerprint,
            table.c.status != PURGED,
        )

        def work(connection: Connection) -> int | None:
            found = connection.scalar(query)
            return None if found is None else int(found)

        return self._transact(work)

    def keep_verification(self, run: str, kept: Kept) -> None:
        """
        Keep the result of a verification.
        """
        self._transact(lambda connection: verification.keep(connection, run, kept))

    def last_verification(self, mapping: str, level: str | None = None) -> Kept | None:
        """
        The newest verification of a mapping, whole or not, of one level or of any.
        """
        return self._transact(lambda connection: verification.last(connection, mapping, level))

    def last_telling(self, mapping: str) -> Kept | None:
        """
        The newest verification that was full or deep, or found differences.
        """
        return self._transact(lambda connection: verification.last_telling(connection, mapping))

    def written_after(self, mapping: str, moment: float) -> bool:
        """
        Whether the journal has a line of the mapping since then: something was repaired or removed.
        """
        last = self.last_entry(mapping)
        return last is not None and last.at > moment

    # --- rejects ----------------------------------------------------------------------------

    def rejects(self, mapping: str, *, limit: int | None = None) -> Iterator[OpenReject]:
        """
        Open rejects in a stable order, read page by page.
        """
        table = tables.reject
        after = ""
        left = limit
        while left is None or left > 0:
            size = 1_000 if left is None else min(left, 1_000)
            query = (
                select(table)
                .where(table.c.mapping == mapping, table.c.key > after)
                .order_by(table.c.key)
                .limit(size)
            )
            rows = self._transact(_all_of(query))
            if not rows:
                return
            for row in rows:
                yield _open_reject(row)
            after = rows[-1].key
            left = None if left is None else left - len(rows)

    def count_rejects(self, mapping: str, *, run: str | None = None) -> dict[str, int]:
        """
        Open rejects by reason.

        Args:
            run: Only those that this run has seen.
        """
        table = tables.reject
        here = table.c.mapping == mapping
        if run is not None:
            here &= table.c.run == run
        query = (
            select(table.c.reason, func.count())
            .where(here)
            .group_by(table.c.reason)
            .order_by(table.c.reason)
        )
        rows = self._transact(lambda connection: connection.execute(query).all())
        return {row[0]: row[1] for row in rows}

    def settle(self, mapping: str, settled: Sequence[Key], again: Sequence[Reject]) -> None:
        """
        After a replay: forget the rejects that are done, and keep the others with today's reason.
        """
        table = tables.reject

        def work(connection: Connection) -> None:
            for key in settled:
                connection.execute(
                    delete(table).where(table.c.mapping == mapping, table.c.key == keys.dump(key))
                )
            for reject in again:
                connection.execute(
                    update(table)
                    .where(table.c.mapping == mapping, table.c.key == keys.dump(reject.key))
                    .values(
                        column=reject.fault.column,
                        reason=reject.fault.reason,
                        detail=reject.fault.detail,
                        seen_at=self._wall(),
                    )
                )

        self._transact(work)

    # --- locks ------------------------------------------------------------------------------

    def lock(self, mapping: str) -> Lock:
        """
        Take a mapping for this process; a dead holder of this host is taken over at once.

        Raises:
            LockHeld: Another process has it; says which.
        """
        table = tables.lock
        me = this_process()
        token = str(uuid.uuid4())

        def work(connection: Connection) -> Lock:
            now = self._wall()
            row = connection.execute(
                select(table).where(table.c.mapping == mapping).with_for_update()
            ).one_or_none()
            if row is not None:
                self._refuse_if_alive(_lock(row), now)
                connection.execute(delete(table).where(table.c.mapping == mapping))
            values = {
                "mapping": mapping,
                "token": token,
                "host": me.host,
                "boot": me.boot,
                "pid": me.pid,
                "born": me.born,
                "command": me.command,
                "since": now,
                "lease_until": now + LEASE_S,
            }
            connection.execute(insert(table).values(**values))
            return Lock(mapping, token, me, now, now + LEASE_S)

        return self._transact(work)

    def _refuse_if_alive(self, lock: Lock, now: float) -> None:
        gone = lock.holder.is_gone()
        if gone or (gone is None and lock.lease_until < now):
            return
        where: dict[str, object] = {"mapping": lock.mapping, "holder": str(lock.holder)}
        where["for_s"] = round(now - lock.since)
        if gone is None:
            where["lease_ends_in_s"] = round(lock.lease_until - now)
        raise LockHeld(
            f"Another run holds mapping '{lock.mapping}'.",
            where=where,
            next_step="Wait for it, or stop it; then run the same command again.",
        )

    def renew(self, lock: Lock) -> bool:
        """
        Say that this process lives; False where the lock is no longer its own.
        """
        table = tables.lock
        statement = (
            update(table)
            .where(table.c.mapping == lock.mapping, table.c.token == lock.token)
            .values(lease_until=self._wall() + LEASE_S)
        )
        return self._transact(lambda connection: connection.execute(statement).rowcount == 1)

    def unlock(self, lock: Lock) -> None:
        """
        Give a mapping back; nothing happens where another process took it over.
        """
        table = tables.lock
        statement = delete(table).where(
            table.c.mapping == lock.mapping, table.c.token == lock.token
        )
        self._transact(lambda connection: connection.execute(statement))

    def lock_of(self, mapping: str) -> Lock | None:
        """
        Who holds a mapping now, dead holders left out.
        """
        table = tables.lock
        query = select(table).where(table.c.mapping == mapping)
        row = self._transact(lambda connection: connection.execute(query).one_or_none())
        if row is None:
            return None
        lock = _lock(row)
        gone = lock.holder.is_gone()
        return None if gone or (gone is None and lock.lease_until < self._wall()) else lock


def _all_of(query: Select[Any]) -> Callable[[Connection], Sequence[Row[Any]]]:
    return lambda connection: connection.execute(query).all()


def _rejected(progress: Progress) -> int:
    """
    Rejects that have no outcome of their own; a record that was refused is counted as that.
    """
    unwritten = (Outcome.COLLISION, Outcome.CONFLICT, Outcome.DUPLICATE)
    return len(progress.rejects) - sum(progress.outcomes.get(kind, 0) for kind in unwritten)


def _lock(row: Row[Any]) -> Lock:
    holder = Holder(row.host, row.boot, row.pid, row.born, row.command)
    return Lock(row.mapping, row.token, holder, row.since, row.lease_until)


def _open_reject(row: Row[Any]) -> OpenReject:
    key = keys.load(row.key) or ()
    fault = Fault(row.column, row.reason, row.detail)
    return OpenReject(Reject(key, fault), row.run, row.seen_at)


def _sums(connection: Connection, run: str) -> Row[Any]:
    part = tables.partition
    done = func.sum(func.coalesce((part.c.status == DONE).cast(Integer), 0))
    return connection.execute(
        select(
            func.count().label("partitions"),
            func.coalesce(done, 0).label("partitions_done"),
            func.coalesce(func.sum(part.c.rows), 0).label("rows"),
            func.coalesce(func.sum(part.c.rejected), 0).label("rejected"),
            *(func.coalesce(func.sum(part.c[name]), 0).label(name) for name in tables.OUTCOMES),
        ).where(part.c.run == run)
    ).one()


def _run_state(row: Row[Any], sums: Row[Any]) -> RunState:
    known = {
        name: getattr(row, name) for name in RunState.__dataclass_fields__ if hasattr(row, name)
    }
    known |= {
        "partitions": int(sums.partitions),
        "partitions_done": int(sums.partitions_done),
        "rows": int(sums.rows),
        "rejected": int(sums.rejected),
        "outcomes": {Outcome[name.upper()]: int(getattr(sums, name)) for name in tables.OUTCOMES},
    }
    return RunState(**known)


def has_ledger(
    config: SourceConfig, *, sleep: Callable[[float], None], notify: Notify = silent
) -> bool:
    """
    Whether there is a ledger already. Looks only: opening a `Ledger` makes the one that is missing.

    Raises:
        LedgerUnavailable: Its server did not answer for as long as we may wait.
        LedgerAccessDenied: Its server refused us.
    """
    if config.dialect == "sqlite":
        return Path(config.database or "").exists()
    engine = _engine(config)

    def look() -> bool:
        with engine.connect() as connection:
            return inspect(connection).has_table(tables.layout.name)

    return attempt(
        look, address=config.address, retry_for_s=config.retry_for_s, notify=notify, sleep=sleep
    )


def _engine(config: SourceConfig) -> Engine:
    driver = DRIVERS.get(config.dialect)
    if driver is None:
        raise UsageProblem(
            f"The ledger cannot live in {config.dialect} in this version.",
            where={"ledger": config.address},
            next_step="Name a sqlite or postgresql URL under `ledger:`.",
        )
    if config.dialect == "sqlite":
        return _sqlite_engine(config)
    url = URL.create(
        driver,
        username=config.username,
        password=config.password.reveal() if config.password else None,
        host=config.host,
        port=config.port,
        database=config.database,
        query=dict(config.options),
    )
    return create_engine(url, poolclass=NullPool, hide_parameters=True)


def _sqlite_engine(config: SourceConfig) -> Engine:
    path = config.database or ":memory:"
    in_memory = path == ":memory:"
    if not in_memory:
        _private_folder(Path(path))
    engine = create_engine(
        URL.create("sqlite", database=path),
        poolclass=StaticPool if in_memory else QueuePool,
        hide_parameters=True,
    )
    pages = config.options.get("max_page_count")

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # transactions are begun below, not by the driver
        connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        if pages is not None and pages.isdecimal():
            connection.execute(f"PRAGMA max_page_count = {int(pages)}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # A deferred transaction that turns into a writer meets SQLITE_BUSY without waiting.
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def _private_folder(path: Path) -> None:
    """
    Make the ledger's folder and file readable by this user only: rejects name people's keys.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(mode=0o600, exist_ok=True)
    except OSError as error:
        raise _no_place(path, error.strerror or type(error).__name__) from None
    if not path.is_file():
        # SQLite would wait for a pipe or a device as it waits for a busy file.
        raise _no_place(path, "not a regular file")


def _no_place(path: Path, reason: str) -> LedgerAccessDenied:
    return LedgerAccessDenied(
        "The ledger's file cannot be made or written.",
        where={"ledger": str(path), "reason": reason},
        next_step="Give this user the right to write there, or name another ledger.",
    )
