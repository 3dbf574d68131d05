"""
The ledger keeps what is done, in one transaction a chunk, and hands each partition to one worker.
"""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from migrate.errors import Fenced, LedgerAccessDenied, LedgerDamaged, LedgerFull, LockHeld
from migrate.ledger import keys, tables, verification
from migrate.ledger.lock import Holder, this_process
from migrate.ledger.recheck import Looked
from migrate.ledger.store import FINISHED, HALTED, Ledger, MappingState
from migrate.ledger.verification import Checked, Kept
from migrate.model.ports import Progress
from migrate.model.settings import SourceConfig
from migrate.model.shape import RecordShape
from migrate.model.values import Expiry, Fault, KeyRange, LookupKind, Outcome, Reject
from migrate.model.verdict import BACK, CARRIED, Recheck, State, Verdict
from tests.servers import PostgresDatabase

Open = Callable[..., Ledger]
STATE = MappingState(
    "users", "print", 3, 0, "mine", "redis://a:1/0", "standalone", "redis", "7.0.15", fenced=True
)
RANGES = [KeyRange(None, (10,)), KeyRange((10,), (20,))]


@dataclass
class Place:
    """
    Where a ledger lies, and how a test can reach behind its back.
    """

    config: SourceConfig
    execute: Callable[[str], object]
    made: list[Ledger] = field(default_factory=list)

    def open(self, wall: Callable[[], float] = time.time, **options: str) -> Ledger:
        """
        Another ledger object on the same place.
        """
        config = replace(self.config, options={**self.config.options, **options})
        self.made.append(Ledger(config, wall=wall, sleep=time.sleep))
        return self.made[-1]


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Place]:
    """
    A ledger in a SQLite file.
    """
    path = tmp_path / "state" / "ledger.db"

    def execute(statement: str) -> None:
        with closing(sqlite3.connect(path)) as raw, raw:
            raw.execute(statement)

    place = Place(SourceConfig("sqlite", database=str(path), retry_for_s=0.2), execute)
    yield place
    for ledger in place.made:
        ledger.close()


@pytest.fixture
def server(postgres: PostgresDatabase) -> Iterator[Place]:
    """
    A ledger on a server, as workers on several hosts need it.
    """
    place = Place(postgres.config(retry_for_s=0.2), postgres.execute)
    yield place
    for ledger in place.made:
        ledger.close()


@pytest.fixture(params=["file", "server"])
def place(request: pytest.FixtureRequest) -> Place:
    """
    A place for a ledger, once of each kind.
    """
    found: Place = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def opened(place: Place) -> Open:
    """
    Opens ledgers in one place.
    """
    return place.open


def begin(ledger: Ledger, mapping: str = "users") -> str:
    """
    A run over two partitions.
    """
    return ledger.begin_run(
        mapping,
        kind="backfill",
        fingerprint="f",
        tool="0",
        source="s",
        target="t",
        ranges=RANGES,
        rows_estimated=20,
        workers=1,
    )


def reject(number: int) -> Reject:
    """
    A reject of one row.
    """
    return Reject((number,), Fault("age", "wrong-type", "holds text"))


@given(
    st.lists(
        st.one_of(st.integers(), st.text(st.characters(codec="utf-8")), st.binary()), min_size=1
    )
)
def test_keys_read_back_exactly(parts: list[int | str | bytes]) -> None:
    """
    Numbers, texts and bytes stay what they are.
    """
    assert keys.load(keys.dump(tuple(parts))) == tuple(parts)


def test_progress_survives_the_process(opened: Open) -> None:
    """
    What was saved by one ledger object is the cursor that another hands out.
    """
    first = opened()
    run = begin(first)
    partition = first.claim(run, "w")
    assert partition is not None
    first.save(run, "users", partition, Progress((7,), 5, {Outcome.WRITTEN: 5}))
    first.close()

    second = opened()
    second.resume_run(run, workers=1)
    again = second.claim(run, "w")
    state = second.last_run("users")

    assert again is not None and again.cursor == (7,) and again.range == RANGES[0]
    assert state is not None and (state.rows, state.outcomes[Outcome.WRITTEN]) == (5, 5)


def test_two_workers_never_get_the_same_partition(opened: Open) -> None:
    """
    Each claim hands out another partition until none is left.
    """
    one, other = opened(), opened()
    run = begin(one)

    claimed = [one.claim(run, "a"), other.claim(run, "b"), one.claim(run, "a")]

    assert [p.number if p else None for p in claimed] == [0, 1, None]


def test_a_worker_that_was_given_up_cannot_save(opened: Open) -> None:
    """
    After the run was resumed elsewhere, the old worker's save is refused and changes nothing.
    """
    ledger = opened()
    run = begin(ledger)
    old = ledger.claim(run, "old")
    assert old is not None
    ledger.resume_run(run, workers=1)
    new = ledger.claim(run, "new")
    assert new is not None

    with pytest.raises(Fenced):
        ledger.save(run, "users", old, Progress((9,), 9, rejects=[reject(1)]))

    ledger.save(run, "users", new, Progress((3,), 3))
    state = ledger.last_run("users")
    assert state is not None and state.rows == 3
    assert ledger.count_rejects("users") == {}


def test_a_save_is_counted_once_though_it_is_sent_twice(opened: Open) -> None:
    """
    The second attempt of a save whose reply was lost is accepted and adds nothing.
    """
    ledger = opened()
    run = begin(ledger)
    partition = ledger.claim(run, "w")
    assert partition is not None

    for _ in range(2):
        ledger.save(run, "users", partition, Progress((7,), 5, {Outcome.SAME: 5}))

    state = ledger.last_run("users")
    assert state is not None and state.rows == 5


def test_rejects_are_saved_with_the_checkpoint_or_not_at_all(file: Place) -> None:
    """
    A full ledger keeps neither the cursor nor the rejects of a chunk.
    """
    ledger = file.open()
    run = begin(ledger)
    partition = ledger.claim(run, "w")
    assert partition is not None
    ledger.close()
    full = file.open(max_page_count="1")
    many = [Reject((number,), Fault("age", "wrong-type", "x" * 200)) for number in range(5_000)]

    with pytest.raises(LedgerFull):
        full.save(run, "users", partition, Progress((7,), 5_000, rejects=many))

    roomy = file.open()
    assert roomy.count_rejects("users") == {}
    roomy.save(run, "users", partition, Progress((7,), 5_000, rejects=many))
    assert roomy.count_rejects("users") == {"wrong-type": 5_000}


def test_rejects_are_read_page_by_page_in_a_stable_order(opened: Open) -> None:
    """
    Every open reject comes once, with its key, column and reason.
    """
    ledger = opened()
    run = begin(ledger)
    partition = ledger.claim(run, "w")
    assert partition is not None
    wanted = [reject(number) for number in range(2_500)]
    ledger.save(run, "users", partition, Progress((7,), 2_500, rejects=wanted))

    found = [entry.reject for entry in ledger.rejects("users")]

    assert sorted(found, key=lambda r: r.key) == wanted
    assert len(list(ledger.rejects("users", limit=7))) == 7


def test_a_finished_run_settles_the_rejects_it_did_not_see_again(opened: Open) -> None:
    """
    Rows that were repaired in SQL leave the list; rows that are still bad stay.
    """
    ledger = opened()
    first = begin(ledger)
    partition = ledger.claim(first, "w")
    assert partition is not None
    ledger.save(first, "users", partition, Progress((7,), 2, rejects=[reject(1), reject(2)]))
    ledger.end_run(first, status=FINISHED, exit_code=3, error=None, seconds=1, throttled_s=0)
    second = begin(ledger)
    partition = ledger.claim(second, "w")
    assert partition is not None
    ledger.save(second, "users", partition, Progress((7,), 2, rejects=[reject(2)]))

    ledger.end_run(second, status=FINISHED, exit_code=3, error=None, seconds=1, throttled_s=0)

    assert [entry.reject.key for entry in ledger.rejects("users")] == [(2,)]


def test_a_replay_settles_and_updates(opened: Open) -> None:
    """
    A replayed reject leaves the list when it was written, or carries today's reason.
    """
    ledger = opened()
    run = begin(ledger)
    partition = ledger.claim(run, "w")
    assert partition is not None
    ledger.save(run, "users", partition, Progress((7,), 2, rejects=[reject(1), reject(2)]))
    later = replace(reject(2), fault=Fault("name", "invalid-utf8", "is not UTF-8"))

    ledger.settle("users", [(1,)], [later])

    assert [entry.reject for entry in ledger.rejects("users")] == [later]


def test_partitions_of_another_server_are_done_again(opened: Open) -> None:
    """
    What a server took that has restarted since starts over; what today's server took stays.
    """
    ledger = opened()
    run = begin(ledger)
    for server in ("old", "new"):
        partition = ledger.claim(run, "w")
        assert partition is not None
        partition = ledger.save(
            run,
            "users",
            partition,
            Progress((7,), 5, rejects=[reject(partition.number)], server=server),
        )
        ledger.save(run, "users", partition, Progress((9,), 1, done=True, server="new"))

    assert ledger.redo(run, unless_server="new") == 1

    again = ledger.claim(run, "w")
    state = ledger.last_run("users")
    assert again is not None and (again.number, again.cursor) == (0, None)
    assert state is not None and (state.rows, state.partitions_done) == (6, 1)
    assert [entry.reject.key for entry in ledger.rejects("users")] == [(1,)]


def test_a_new_run_sets_an_unfinished_one_aside(opened: Open) -> None:
    """
    After starting over only the new run's partitions are handed out.
    """
    ledger = opened()
    old = begin(ledger)
    ledger.end_run(old, status=HALTED, exit_code=5, error="x", seconds=1, throttled_s=0)

    new = begin(ledger)

    state = ledger.last_run("users")
    assert state is not None and state.id == new
    assert ledger.claim(old, "w") is None


def test_a_mapping_is_remembered(opened: Open) -> None:
    """
    The newest state of a mapping is the one that comes back.
    """
    ledger = opened()
    state = MappingState("users", "f", 1, 0, "r", "redis://x/0", "standalone", "redis", "7", False)

    ledger.keep_mapping(state)
    ledger.keep_mapping(replace(state, revision=2, fenced=True))

    assert ledger.mapping("users") == replace(state, revision=2, fenced=True)
    assert ledger.mapping("others") is None


def test_the_second_run_is_told_who_holds_the_mapping(opened: Open) -> None:
    """
    A lock of a living process is refused with its number and host.
    """
    one, other = opened(), opened()
    one.lock("users")

    with pytest.raises(LockHeld) as refused:
        other.lock("users")

    assert str(os.getpid()) in str(refused.value.where["holder"])
    assert other.lock("others").mapping == "others"


def test_of_many_that_begin_at_once_one_gets_the_mapping(opened: Open) -> None:
    """
    Eight ledgers are made and locked at the same moment: one holds it, seven are told so.
    """
    together = threading.Barrier(8)

    def begin_at_once() -> str:
        together.wait()
        try:
            opened().lock("users")
        except LockHeld:
            return "told"
        return "holds"

    with ThreadPoolExecutor(8) as pool:
        ended = sorted(job.result() for job in [pool.submit(begin_at_once) for _ in range(8)])

    assert ended == ["holds", *["told"] * 7]


def test_a_dead_holder_is_taken_over_at_once(file: Place, tmp_path: Path) -> None:
    """
    The lock of a process that was killed stops nobody.
    """
    ledger = file.open()
    code = (
        "import os, time\n"
        "from migrate.ledger.store import Ledger\n"
        "from migrate.model.settings import SourceConfig\n"
        f"config = SourceConfig('sqlite', database={ledger.address.removeprefix('sqlite:///')!r})\n"
        "Ledger(config, wall=time.time, sleep=time.sleep).lock('users')\n"
        "os.kill(os.getpid(), 9)\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], check=False, timeout=60)
    assert ended.returncode == -9

    assert ledger.lock_of("users") is None
    assert ledger.lock("users").holder == this_process()


def test_a_lock_of_another_host_stands_until_its_lease_ends(place: Place, opened: Open) -> None:
    """
    What this host cannot know, the lease decides; renewing moves it on.
    """
    now = [1_000.0]
    ledger = opened(wall=lambda: now[0])
    lock = ledger.lock("users")
    place.execute("UPDATE migrate_lock SET host = 'elsewhere'")
    now[0] += 20
    assert ledger.renew(lock)
    now[0] += 20

    with pytest.raises(LockHeld) as refused:
        ledger.lock("users")
    now[0] += 20
    taken = ledger.lock("users")

    assert refused.value.where["lease_ends_in_s"] == 10
    assert not ledger.renew(lock)
    ledger.unlock(lock)
    assert ledger.lock_of("users") == taken


def test_a_process_is_told_from_a_later_one_with_its_number() -> None:
    """
    The same number with another birth is another process.
    """
    me = this_process()

    assert me.is_gone() is False
    assert replace(me, born="1").is_gone() is True
    assert replace(me, host="elsewhere").is_gone() is None
    assert isinstance(me, Holder)


def test_the_ledger_is_for_this_user_only(file: Place) -> None:
    """
    Rejects name people's keys: folder and file are closed to others.
    """
    ledger = file.open()
    path = Path(ledger.address.removeprefix("sqlite:///"))

    assert path.stat().st_mode & 0o077 == 0
    assert path.parent.stat().st_mode & 0o077 == 0


def test_a_file_that_is_no_ledger_is_refused(file: Place, tmp_path: Path) -> None:
    """
    A damaged file is said to be damaged and is never begun anew.
    """
    path = tmp_path / "state" / "ledger.db"
    path.parent.mkdir()
    path.write_bytes(b"this is no database, and long enough to be looked at" * 20)

    with pytest.raises(LedgerDamaged):
        file.open()

    assert path.read_bytes().startswith(b"this is no database")


def test_a_ledger_of_a_newer_version_is_refused(place: Place, opened: Open) -> None:
    """
    A layout that this version does not know is not touched.
    """
    opened()
    place.execute("UPDATE migrate_ledger SET layout = 99")

    with pytest.raises(LedgerDamaged):
        opened()


def test_a_ledger_that_cannot_be_made_says_so() -> None:
    """
    A folder that cannot exist is a missing right, with the path.
    """
    config = SourceConfig("sqlite", database="/proc/no/such/ledger.db")

    with pytest.raises(LedgerAccessDenied) as refused:
        Ledger(config, wall=time.time, sleep=time.sleep)

    assert "/proc/no/such/ledger.db" in str(refused.value.where)


# --- layouts -------------------------------------------------------------------------------------


def make_old(place: Place) -> None:
    """
    A ledger as the first version left it.
    """
    if place.config.dialect == "sqlite":
        Path(place.config.database or "").parent.mkdir(parents=True)
    text = (Path(__file__).parent / "old_ledger.sql").read_text(encoding="utf-8")
    for statement in text.partition("\n")[2].strip().split(";\n"):
        place.execute(statement.rstrip(";"))


def test_a_ledger_of_layout_1_is_brought_up_to_date(place: Place, opened: Open) -> None:
    """
    What it knew is still there, what is new begins at nothing, and it can be used at once.
    """
    make_old(place)

    first = opened()

    state, run = first.mapping("users"), first.last_run("users")
    assert state is not None
    assert run is not None
    assert (state.run, state.revision) == ("r1", 3)
    assert (run.id, run.rows, run.rejected, run.instant) == ("run-1", 10, 1, None)
    assert (run.outcomes[Outcome.WRITTEN], run.outcomes[Outcome.ADOPTED]) == (7, 0)
    assert first.shapes("users") == []
    again = opened()
    number = begin(again)
    part = again.claim(number, "w")
    assert part is not None
    again.save(number, "users", part, Progress((1,), 1, outcomes={Outcome.EXPIRED: 1}))
    newest = opened().last_run("users")
    assert newest is not None
    assert newest.outcomes[Outcome.EXPIRED] == 1


def test_a_ledger_of_layout_3_gets_a_recheck_list(place: Place, opened: Open) -> None:
    """
    A verification that an older version began is still there, and keys can be listed for it.
    """
    before = opened()
    run = begin_verification(before)
    before.close()
    place.execute("DROP TABLE migrate_recheck")
    place.execute("UPDATE migrate_ledger SET layout = 3")

    ledger = opened()

    list_keys(ledger, run, Recheck(b"k1", (1,)))
    assert ledger.rechecks_left(run) == 1


def test_many_that_open_an_old_ledger_at_once_all_can(place: Place, opened: Open) -> None:
    """
    One of them brings it up to date, and the others wait for it.
    """
    make_old(place)

    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda _: opened(), range(6)))

    assert [ledger.last_run("users") is not None for ledger in found] == [True] * 6


def test_an_upgrade_that_fails_changes_nothing(file: Place) -> None:
    """
    It is one transaction: a full disk leaves the old layout as it was.
    """
    make_old(file)

    with pytest.raises(LedgerFull):
        file.open(max_page_count="1")

    with closing(sqlite3.connect(file.config.database or "")) as raw:
        columns = {row[1] for row in raw.execute("PRAGMA table_info(migrate_partition)")}
        tables = {row[0] for row in raw.execute("SELECT name FROM sqlite_master")}
        assert raw.execute("SELECT layout FROM migrate_ledger").fetchall() == [(1,)]
    assert "expired" not in columns
    assert "migrate_journal" not in tables


def test_the_instant_of_a_run_is_kept(opened: Open) -> None:
    """
    A resume finds the source's clock as it was when the run began.
    """
    ledger = opened()
    ledger.begin_run(
        "users",
        kind="backfill",
        fingerprint="f",
        tool="0",
        source="s",
        target="t",
        ranges=RANGES,
        rows_estimated=20,
        workers=1,
        instant=1_763_700_000_123,
    )

    run = opened().last_run("users")

    assert run is not None
    assert run.instant == 1_763_700_000_123


# --- shapes --------------------------------------------------------------------------------------

SHAPE = RecordShape(
    "ab" * 16,
    "user:{id}",
    lookups=((LookupKind.UNIQUE, "user:mail:{mail}"),),
    expiry=Expiry.COLUMN,
    revision=2,
)


def test_shapes_are_kept_until_they_are_forgotten(opened: Open) -> None:
    """
    One a fingerprint; a revision is raised and never lowered; other mappings are not touched.
    """
    ledger = opened()
    older = replace(SHAPE, fingerprint="cd" * 16, revision=1)
    for shape in (SHAPE, older, replace(SHAPE, revision=5), SHAPE):
        ledger.keep_shape("users", shape)
    ledger.keep_shape("others", SHAPE)

    assert opened().shapes("users") == [older, replace(SHAPE, revision=5)]
    ledger.forget_shapes("users", keep=[SHAPE.fingerprint])
    assert ledger.shapes("users") == [replace(SHAPE, revision=5)]
    ledger.forget_shapes("users", keep=[])
    assert (ledger.shapes("users"), ledger.shapes("others")) == ([], [SHAPE])


def test_a_forgotten_mapping_leaves_its_runs(opened: Open) -> None:
    """
    State, shapes, rejects and partitions go; the runs say that they were purged, for good.
    """
    ledger = opened()
    ledger.keep_mapping(STATE)
    ledger.keep_shape("users", SHAPE)
    ledger.keep_shape("others", SHAPE)
    run = begin(ledger)
    part = ledger.claim(run, "w")
    assert part is not None
    ledger.save(run, "users", part, Progress((1,), 1, rejects=[reject(1)]))

    ledger.forget_mapping("users")

    assert ledger.mapping("users") is None
    assert (ledger.shapes("users"), ledger.count_rejects("users")) == ([], {})
    assert ledger.shapes("others") == [SHAPE]
    last = ledger.last_run("users")
    assert last is not None
    assert (last.id, last.status, last.partitions) == (run, "purged", 0)
    begin(ledger)
    place_of = opened().last_run("users")
    assert place_of is not None
    assert place_of.status == "running"


# --- the re-check list ---------------------------------------------------------------------------

EARLY, LATE = State("5", b"0123456789abcdef"), State("6", b"fedcba9876543210")


def begin_verification(ledger: Ledger, *, carry: bool = False) -> str:
    """
    A verification over two partitions.
    """
    run = ledger.begin_run(
        "users",
        kind="verify",
        fingerprint="f",
        tool="0",
        source="s",
        target="t",
        ranges=RANGES,
        rows_estimated=20,
        workers=1,
    )
    ledger.begin_verification(run, Kept("users", "full", "f", 1, time.time()), carry=carry)
    return run


def list_keys(ledger: Ledger, run: str, *listed: Recheck, due: float = 1.0) -> int:
    """
    Put keys on the list with a page of the next partition, and say which one that was.
    """
    part = ledger.claim(run, "w")
    assert part is not None
    ledger.save_checked(run, part, Checked((1,), 1, rechecks=listed, due=due), seconds=0)
    return part.number


def test_listed_keys_come_when_they_are_due(opened: Open) -> None:
    """
    With what is known of them, the longest waiting first, and no more than were asked for.
    """
    ledger = opened()
    run = begin_verification(ledger)
    list_keys(ledger, run, Recheck(b"k1", (1,), (EARLY,)), Recheck(b"k2", ("a", 2)), due=3.0)
    list_keys(ledger, run, Recheck(b"k3", (b"x",)), due=2.0)

    assert ledger.next_recheck(run) == 2.0
    assert ledger.rechecks(run, 1.9, 10) == []
    assert ledger.rechecks(run, 3.0, 2) == [
        Recheck(b"k3", (b"x",), (), 1, 0),
        Recheck(b"k1", (1,), (EARLY,), 0, 0),
    ]
    assert ledger.rechecks_left(run) == 3


def test_a_look_is_counted_once(opened: Open) -> None:
    """
    A reply that was lost lets the same look be kept again, and changes nothing.
    """
    ledger = opened()
    run = begin_verification(ledger)
    number = list_keys(ledger, run, Recheck(b"k1", (1,)), Recheck(b"k2", (2,)))
    first, second = ledger.rechecks(run, 9.0, 9)
    looked = [
        Looked(first, Checked(None, 0, {Verdict.OK: 1})),
        Looked(second, None, (EARLY, LATE), None),
    ]

    for _ in range(2):
        ledger.save_rechecked(run, looked)

    assert ledger.checked(run) == {(number, "OK"): 1}
    assert (ledger.rechecks_left(run), ledger.next_recheck(run)) == (1, None)


def test_the_next_pass_takes_the_list_over(opened: Open) -> None:
    """
    With the states that SQL was seen to have; what it lists itself has its own number again.
    """
    ledger = opened()
    first = begin_verification(ledger)
    list_keys(ledger, first, Recheck(b"k1", (1,), (EARLY,)), Recheck(b"k2", (2,)))

    second = begin_verification(ledger, carry=True)
    assert ledger.rechecks_left(second) == 0
    number = list_keys(ledger, second, Recheck(b"k1", (1,), (LATE,)))

    assert ledger.rechecks(second, 9.0, 9) == [
        Recheck(b"k2", (2,), (), CARRIED, 0),
        Recheck(b"k1", (1,), (EARLY, LATE), number, 0),
    ]
    third = begin_verification(ledger)
    assert ledger.rechecks(third, 9.0, 9) == []
    assert ledger.rechecks(second, 9.0, 9) == []


def test_a_verification_that_goes_round_fills_no_ledger(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Runs of passes long ago are forgotten; the newest are kept.
    """
    monkeypatch.setattr(verification, "PASSES", 3)
    ledger = opened()
    for number in range(6):
        run = begin_verification(ledger)
        kept = Kept("users", "full", "f", 1, time.time(), "PASS", "{}", run)
        ledger.keep_verification(run, kept)
        ledger.end_run(run, status=FINISHED, exit_code=0, error=None, seconds=1, throttled_s=0)
        assert len(ledger_runs(ledger)) == min(number + 1, 3)


def test_what_is_not_whole_takes_the_place_of_its_like(opened: Open) -> None:
    """
    A result that passed stays beside the newest one that came to no end.
    """
    ledger = opened()
    for verdict in ("PASS", "INCOMPLETE", "INCOMPLETE", "INCOMPLETE"):
        run = begin_verification(ledger)
        ledger.keep_verification(run, Kept("users", "full", "f", 1, time.time(), verdict, "{}"))

    table = tables.verification
    query = sa.select(table.c.verdict).order_by(table.c.kept_at)
    kept = ledger._transact(lambda connection: list(connection.scalars(query)))
    assert kept == ["PASS", "INCOMPLETE"]
    last = ledger.last_verification("users")
    assert last is not None
    assert last.run == run


def ledger_runs(ledger: Ledger) -> list[str]:
    """
    Ids of all verifications.
    """
    table = tables.run
    query = sa.select(table.c.id).where(table.c.kind == "verify")
    return ledger._transact(lambda connection: list(connection.scalars(query)))


def test_sums_of_pages_add_up_by_partition(opened: Open) -> None:
    """
    A page that is saved again, because its reply was lost, is added once.
    """
    ledger = opened()
    run = begin_verification(ledger)
    one, two = (n.to_bytes(32, "little") for n in (2**130 + 7, 2**96 - 1))
    first, second = ledger.claim(run, "w"), ledger.claim(run, "w")
    assert first is not None
    assert second is not None
    for _ in range(2):
        saved = ledger.save_checked(run, first, Checked((1,), 1, seen=one), seconds=0)
    ledger.save_checked(run, saved, Checked((2,), 1, seen=two), seconds=0)
    ledger.save_checked(run, second, Checked((12,), 1), seconds=0)

    [kept] = ledger.seen(run)

    assert int.from_bytes(kept, "little") == 2**130 + 7 + 2**96 - 1


def test_sums_go_once_the_way_back_is_done(opened: Open) -> None:
    """
    And with the verification that another one follows.
    """
    ledger = opened()
    run = begin_verification(ledger)
    part = ledger.claim(run, "w")
    assert part is not None
    ledger.save_checked(run, part, Checked((1,), 1, seen=b"\1" * 16), seconds=0)
    ledger.add_partition(run, BACK)
    back = ledger.claim(run, "w", but=(0, 1))
    assert back is not None
    back = ledger.save_checked(run, back, Checked(None, 1), seconds=0)
    assert ledger.seen(run)
    ledger.save_checked(run, back, Checked(None, 0, done=True), seconds=0)
    assert ledger.seen(run) == []

    other = begin_verification(ledger)
    part = ledger.claim(other, "w")
    assert part is not None
    ledger.save_checked(other, part, Checked((1,), 1, seen=b"\1" * 16), seconds=0)
    begin_verification(ledger)
    assert ledger.seen(other) == []


def test_a_ledger_of_layout_4_can_keep_sums(place: Place, opened: Open) -> None:
    """
    A verification that an older version began goes on; what it met before has no sums.
    """
    before = opened()
    run = begin_verification(before)
    before.close()
    place.execute("DROP TABLE migrate_seen")
    place.execute("UPDATE migrate_ledger SET layout = 4")

    ledger = opened()

    part = ledger.claim(run, "w")
    assert part is not None
    ledger.save_checked(run, part, Checked((1,), 1, seen=b"\1" * 16), seconds=0)
    assert ledger.seen(run) == [b"\1" * 16]
