"""
Runbooks hold: their form, their links with the errors, and what they promise, rehearsed for real.
"""

from __future__ import annotations

import re
import shutil
import signal
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from subprocess import Popen

import pytest
import redis

from migrate.errors import ExitCode
from tests import parity, profiles
from tests.project import SHIPPED, Project, kill_all, until_exit
from tests.rehearsal import UNMET, Walk, matches
from tests.runbook_files import Book, lint, parse, read
from tests.servers import RedisServer, wait_until
from tests.test_docs import codes, inline_commands
from tests.test_docs import parse as parse_call

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "runbooks"
INDEX = FOLDER / "README.md"
ERRORS = ROOT / "docs" / "errors.md"
BOOKS = {path.stem: read(path) for path in sorted(FOLDER.glob("*.md")) if path != INDEX}

ROWS = 1_500
"""Four partitions: a run that is held after the first has work left."""

each_book = pytest.mark.parametrize("book", BOOKS.values(), ids=BOOKS)


# --- form ----------------------------------------------------------------------------------------


@each_book
def test_a_book_has_its_form(book: Book) -> None:
    """
    Front matter, sections, attributes, variables and branches are as they must be.
    """
    assert [str(problem) for problem in lint(book)] == []


GOOD = (FOLDER / "redis-full.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("old", "new", "rule"),
    [
        ("severity: page\n", "", "front-matter"),
        ("severity: page", "severity: loud", "front-matter"),
        ("alerts: [", "alerts: [PmOom, ", "front-matter"),
        ("id: RB-02\n", "id: [RB-02\n", "front-matter"),
        ("# RB-02 Redis is full", "# RB-02 Redis is empty", "order"),
        ("## Verify\n", "## Check\n", "order"),
        ("## Appendix A: ", "## Extra: ", "order"),
        ("### 2. Stop the bleeding (1 min)", "### 2. Stop the bleeding", "steps"),
        ("est_minutes: 20", "est_minutes: 2", "steps"),
        ("{id=pause ", "{id=memory ", "ids"),
        ("{id=pause expect-exit=0", "{id=pause expect-exti=0", "known-attributes"),
        ("{id=pause expect-exit=0", "{id=pause expect-exit=none", "known-attributes"),
        ("{id=pause expect-exit=0", "{id=pause", "needed-attributes"),
        ("{id=pause expect-exit=0", "{expect-exit=0", "needed-attributes"),
        ("changes=true reversible=true}\n$ touch", "changes=true}\n$ touch", "needed-attributes"),
        (" test-reason=", ' test="skip" reason=', "attributes"),
        ("$ touch .profile", "$ true\n$ touch .profile", "one-command"),
        ("\n> **If `target.memory` fails**", "\n> Or else **", "branches"),
        ('maxmemory "$NEW_MAXMEMORY"', "maxmemory <bytes>", "words"),
        ('maxmemory "$NEW_MAXMEMORY"', "maxmemory $NEW_MAXMEMORY", "words"),
        ('maxmemory "$NEW_MAXMEMORY"', 'maxmemory "$LIMIT"', "variables"),
        ("=4gb", "=lots", "variables"),
        ('&& "$NEW_MAXMEMORY" =~ ^[0-9]+(mb|gb)$', "", "variables"),
        ("- `used_memory` is above 95 %", "- `used_memory` is too much", ""),
    ],
)
def test_each_mistake_in_a_book_is_found(old: str, new: str, rule: str) -> None:
    """
    A book with one mistake is told so by the rule that it breaks.
    """
    assert old in GOOD

    found = {problem.rule for problem in lint(parse(GOOD.replace(old, new, 1), "x.md"))}

    assert (rule in found) if rule else not found


def test_abort_criteria_without_a_number_are_found() -> None:
    """
    "If it looks bad" is no criterion.
    """
    before, _, rest = GOOD.partition("## Abort criteria\n")
    after = rest[rest.index("## Escalate") :]
    text = f"{before}## Abort criteria\n\nWhen it looks bad.\n\n{after}"

    assert [problem.rule for problem in lint(parse(text, "x.md"))] == ["content"]


def test_ids_are_used_once_and_listed() -> None:
    """
    Every book has an id of its own, and the index links to each book under its id and title.
    """
    titles = {f"{book.front['id']} {book.front['title']}": name for name, book in BOOKS.items()}

    listed = dict(re.findall(r"\[(RB-\d\d [^\]]+)\]\(([\w-]+)\.md\)", INDEX.read_text("utf-8")))

    assert len({book.front["id"] for book in BOOKS.values()}) == len(BOOKS)
    assert listed == titles


def test_books_are_named_by_their_own_ids() -> None:
    """
    A link called RB-NN leads to the book with that id.
    """
    ids = {f"{name}.md": book.front["id"] for name, book in BOOKS.items()}
    pages = [*FOLDER.glob("*.md"), ERRORS]
    links = [
        (page.name, label, Path(target).name)
        for page in pages
        for label, target in re.findall(
            r"\[(RB-\d\d)[^\]]*\]\(([^)#]+\.md)\)", page.read_text("utf-8")
        )
    ]

    assert links
    assert [link for link in links if ids[link[2]] != link[1]] == []


@pytest.mark.parametrize("name", [*BOOKS, "README"])
def test_commands_in_sentences_parse(name: str) -> None:
    """
    A call of the program within a sentence is one that it takes; a name alone may lack arguments.
    """
    import click

    for at, arguments in inline_commands(FOLDER / f"{name}.md"):
        try:
            parse_call(arguments)
        except click.MissingParameter:
            continue
        except click.ClickException as refused:
            pytest.fail(f"{at}: {' '.join(arguments)}: {refused.format_message()}")


# --- errors and books name each other ------------------------------------------------------------

WITHOUT_BOOK = {
    "refused": "a root: the codes below it are raised",
    "unreachable": "a root",
    "locked": "a root",
    "ambiguous": "a root",
    "checks-failed": "each failing check prints its own fix",
    "split-brain": "a person has to find out who wrote; there is no procedure yet",
}
"""Codes with exit 4 to 8 that send a person to no book, and why."""


def linked_books() -> dict[str, set[str]]:
    """
    For each code of docs/errors.md the books that its section links to.
    """
    sections = re.split(
        r"^## ", ERRORS.read_text("utf-8").partition("\n# Codes\n")[2], flags=re.MULTILINE
    )
    return {
        section.partition("\n")[0]: set(re.findall(r"\]\(\.\./runbooks/([\w-]+)\.md\)", section))
        for section in sections[1:]
    }


def test_errors_and_books_name_each_other() -> None:
    """
    The section of a code links to exactly the books that list the code.
    """
    listed: dict[str, set[str]] = {code: set() for code in codes()}
    for name, book in BOOKS.items():
        for code in book.front["errors"]:
            listed[code].add(name)

    assert linked_books() == listed


def test_every_code_for_a_person_at_night_has_a_book() -> None:
    """
    A code with an exit from 4 to 8 has a book, or a reason why not.
    """
    night = range(ExitCode.REFUSED, ExitCode.AMBIGUOUS + 1)
    linked = linked_books()

    without = {code for code, kind in codes().items() if kind.exit_code in night}
    without -= {code for code, books in linked.items() if books}

    assert without == set(WITHOUT_BOOK)


# --- rehearsals ----------------------------------------------------------------------------------

_BEGIN = "variables check-variables "
_END = " verify-complete verify-compare"

PATHS = {
    "killed": (
        "backfill-stuck-or-stopped",
        _BEGIN + "status doctor resume" + _END + " ledger-lock ledger-partitions",
    ),
    "paused": (
        "backfill-stuck-or-stopped",
        _BEGIN + "status doctor pause-look pause-remove" + _END,
    ),
    "frozen": (
        "backfill-stuck-or-stopped",
        _BEGIN + "status doctor holder holder-look holder-continue moves" + _END,
    ),
    "stopped": (
        "backfill-stuck-or-stopped",
        _BEGIN
        + "status doctor holder holder-look holder-continue moves stop stop-wait resume"
        + _END,
    ),
    "stopped-hard": (
        "backfill-stuck-or-stopped",
        _BEGIN + "status doctor holder holder-look stop stop-hard resume" + _END,
    ),
    "redis-away": (
        "backfill-stuck-or-stopped",
        _BEGIN + "status !doctor mend doctor resume" + _END,
    ),
    "other-host": (
        "backfill-stuck-or-stopped",
        _BEGIN + "status doctor fence-off resume" + _END,
    ),
    "full": (
        "redis-full",
        _BEGIN + "doctor pause memory raise plan unpause resume verify-room verify-evicted"
        " verify-compare ledger-rows",
    ),
    "emptied": (
        "redis-lost-its-data",
        _BEGIN + "readers size fence ledger-run plan again" + _END + " verify-fence server",
    ),
    "restarted": (
        "redis-lost-its-data",
        _BEGIN + "readers size fence ledger-run plan again" + _END + " verify-fence",
    ),
    "used-by-others": (
        "redis-lost-its-data",
        _BEGIN
        + "readers size fence ledger-run plan-refused names start-over"
        + _END
        + " verify-fence",
    ),
    "taken": (
        "redis-lost-its-data",
        _BEGIN
        + "readers size fence ledger-run plan-refused names start-over"
        + _END
        + " verify-fence",
    ),
    "wrong-mapping": (
        "bad-mapping-rolled-out",
        _BEGIN + "readers holder stop stop-wait show fields-before correct lint refused look-ahead"
        " first-hundred fields-after rest" + _END + " leftovers",
    ),
    "rejects": (
        "rejects-left",
        _BEGIN + "list export repair collision-type collision-idle collision-aside replay"
        " verify-list verify-compare tidy ledger-rejects",
    ),
    "ledger-full": (
        "ledger-lost-or-full",
        _BEGIN + "status disk make-room continue verify-complete !verify-compare continue"
        " verify-compare verify-ledger",
    ),
    "ledger-damaged": (
        "ledger-lost-or-full",
        _BEGIN + "!status !integrity aside restore taken fence start-over" + _END,
    ),
    "ledger-restored": (
        "ledger-lost-or-full",
        _BEGIN + "!status !integrity aside restore continue" + _END,
    ),
    "ledger-lost": (
        "ledger-lost-or-full",
        _BEGIN + "status taken fence start-over" + _END + " verify-ledger",
    ),
    "purged": (
        "purge-a-target",
        _BEGIN + "readers status look purge verify-gone verify-fence verify-journal",
    ),
    "purged-but-changed": (
        "purge-a-target",
        _BEGIN + "readers status !look !purge changed-look changed verify-gone verify-fence"
        " verify-journal",
    ),
    "differs": (
        "records-differ",
        _BEGIN + "status !verify what clients repair verify-again verify-status"
        " ledger-verifications ledger-findings",
    ),
    "behind": (
        "records-differ",
        _BEGIN + "status !verify !what refill verify verify-again verify-status",
    ),
    "newer": (
        "records-differ",
        _BEGIN + "status !verify what clients !repair type decide aside !verify what repair"
        " verify-again verify-status",
    ),
    "not-proved": (
        "records-differ",
        _BEGIN + "status verify verify-again verify-status",
    ),
}
"""The ways through the books that are rehearsed below, by the name of the bad state."""


def test_every_block_is_rehearsed() -> None:
    """
    Each block of each book is on one of the paths, unless it says why it cannot be.
    """
    walked = {
        (book, name.removeprefix(UNMET)) for book, path in PATHS.values() for name in path.split()
    }

    there = {
        (name, block.id)
        for name, book in BOOKS.items()
        for block in book.runnable
        if "test" not in block.attributes
    }

    assert walked == there


@pytest.mark.parametrize("state", PATHS)
def test_paths_go_downwards(state: str) -> None:
    """
    A way leads down the page; back only to a block that was done before, or out of an appendix.
    """
    name, path = PATHS[state]
    book = BOOKS[name]
    order = [block.id for block in book.runnable]
    names = [one.removeprefix(UNMET) for one in path.split()]

    for number, (here, there) in enumerate(pairwise(names), 1):
        again = there in names[:number]
        appendix = book.block(here).section.startswith("Appendix")
        back = name == "ledger-lost-or-full" and there == "continue"  # as `restore` says
        assert order.index(there) > order.index(here) or again or appendix or back, (here, there)


@pytest.mark.parametrize(
    ("expected", "shown", "fits"),
    [
        ("", "whatever", True),
        ("a b", "a\n   b\n", True),
        ("a b", "a c", False),
        ("...\na ...", "x\na b", True),
        ("...\na ...", "a b", True),
        ("... complete ...", "users incomplete 3", False),
        ("... complete ...", "users complete 3", True),
        ('{... "n": 0, ...}', '{"m": 1, "n": 0, "o": 2}', True),
        ('{... "n": 0, ...}', '{"m": 1, "n": 10, "o": 2}', False),
        ("ok", "not ok", False),
    ],
)
def test_outputs_are_compared_with_their_gaps(expected: str, shown: str, fits: bool) -> None:
    """
    What stands in the book must be there, in order; `...` stands for the rest.
    """
    assert matches(expected, shown) is fits


@dataclass(slots=True)
class Scene:
    """
    A system that a test brings into a bad state, and the book for it.
    """

    project: Project
    server: RedisServer
    database: Path

    def walk(
        self, state: str, by_hand: Mapping[str, Callable[[], object]] | None = None, **values: str
    ) -> Walk:
        """
        The way through the book, with the values of this system.
        """
        name, path = PATHS[state]
        ours = {"MAPPING": "user_profiles", "REDIS_URL": self.server.url, **values}
        return Walk(BOOKS[name], path.split(), self.project, ours, by_hand or {})

    def sql(self, statement: str) -> None:
        """
        What somebody does to the source.
        """
        with closing(sqlite3.connect(self.database)) as connection:
            connection.execute(statement)
            connection.commit()

    @property
    def differences(self) -> list[parity.Difference]:
        """
        What is not as SQL has it, by rules that the tool does not share.
        """
        rows = parity.sqlite_rows(self.database, profiles.QUERY)
        return parity.compare_hashes(
            rows, self.server.client(), profiles.key_of, profiles.TYPES, match="profile:*"
        )

    @property
    def pause_file(self) -> Path:
        """
        Holds every run still while it exists.
        """
        return self.project.folder / ".profile-migrate" / "pause"

    @contextmanager
    def held(self) -> Iterator[Popen[str]]:
        """
        A backfill that has saved its first rows and stands still until the pause file is gone.
        """
        self.pause_file.parent.mkdir(mode=0o700)
        self.pause_file.touch()
        with self.project.started("backfill", "user_profiles") as process:
            self.project.wait_for_rows(1)
            assert self.project.rows_done() < ROWS // 2
            yield process


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """
    Sample profiles on SQLite, made once; each test has its own copy.
    """
    database = tmp_path_factory.mktemp("sample") / "app.db"
    profiles.create_sqlite(database, ROWS)
    return database


def make_scene(folder: Path, sample: Path, server: RedisServer) -> Scene:
    """
    A copy of the sample, the shipped mapping, and this Redis.
    """
    database = Path(shutil.copy(sample, folder))
    project = Project(folder / "user", f"sqlite:///{database}", server.url, retry_for="300ms")
    project.shipped()
    return Scene(project, server, database)


@pytest.fixture
def scene(tmp_path: Path, sample: Path, redis_server: RedisServer) -> Scene:
    """
    A scene with an empty Redis that nobody stops.
    """
    return make_scene(tmp_path, sample, redis_server)


@pytest.fixture
def fragile(tmp_path: Path, sample: Path, redis_fresh: Callable[..., RedisServer]) -> Scene:
    """
    The same with a Redis that may be stopped.
    """
    return make_scene(tmp_path, sample, redis_fresh())


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("{id=status expect-exit=0}", "{id=status expect-exit=1}"),
        ("mapping state rows", "mapping state columns"),
    ],
)
def test_a_rehearsal_notices_a_book_that_is_wrong(scene: Scene, old: str, new: str) -> None:
    """
    Another exit code or other output than the book shows ends the walk.
    """
    text = (FOLDER / "backfill-stuck-or-stopped.md").read_text("utf-8")
    walk = scene.walk("killed")
    walk.book = parse(text.replace(old, new, 1), "x.md")

    with pytest.raises(AssertionError, match=r"x\.md:.* status: exit 0"):
        walk.to_the_end()


def test_a_killed_backfill_is_finished(scene: Scene) -> None:
    """
    After `kill -9` the book ends with every row in Redis.
    """
    with scene.held() as process:
        kill_all(process)
    scene.pause_file.unlink()

    scene.walk("killed").to_the_end()

    assert scene.differences == []


@pytest.mark.slow
def test_a_paused_backfill_goes_on(scene: Scene) -> None:
    """
    A run that waits for a pause file is found and ends by itself once the file is gone.
    """
    with scene.held() as process:
        walk = scene.walk("paused")
        walk.through("pause-remove")
        ended = until_exit(process)
        walk.to_the_end()

    assert ended.exit == 0
    assert scene.differences == []


@pytest.mark.slow
def test_a_frozen_backfill_goes_on(scene: Scene) -> None:
    """
    A process that somebody stopped with Ctrl-Z is found, woken, and finishes.
    """
    with scene.held() as process:
        process.send_signal(signal.SIGSTOP)
        scene.pause_file.unlink()
        walk = scene.walk("frozen")
        walk.through("moves")
        ended = until_exit(process)
        walk.to_the_end()

    assert ended.exit == 0
    assert scene.differences == []


@pytest.mark.slow
def test_a_backfill_that_does_not_move_is_stopped_and_finished(scene: Scene) -> None:
    """
    Asked to stop it saves its chunk and exits 143; the same command does the rest.
    """
    with scene.held() as process, ThreadPoolExecutor(1) as aside:
        ending = aside.submit(until_exit, process)
        walk = scene.walk("stopped")
        walk.through("stop-wait")
        scene.pause_file.unlink()
        walk.to_the_end()

    assert ending.result().exit == 143
    assert scene.differences == []


@pytest.mark.slow
def test_a_backfill_that_cannot_be_stopped_is_killed_and_finished(scene: Scene) -> None:
    """
    A process that answers nothing any more is killed, and nothing is lost.
    """
    with scene.held() as process:
        process.send_signal(signal.SIGSTOP)
        scene.pause_file.unlink()
        walk = scene.walk("stopped-hard")
        walk.through("stop-hard")
        ended = until_exit(process)
        walk.to_the_end()

    assert ended.exit == -signal.SIGKILL
    assert scene.differences == []


def test_a_backfill_that_lost_redis_is_finished_when_it_is_back(fragile: Scene) -> None:
    """
    Exit 6, the check that names the server, and the rest once it runs again.
    """
    fragile.project.run("backfill", "user_profiles", "--limit", "200")
    fragile.server.stop()

    assert fragile.project.run("backfill", "user_profiles").exit == 6
    fragile.walk("redis-away", {"mend": fragile.server.start}).to_the_end()

    assert fragile.differences == []


@pytest.mark.slow
def test_a_backfill_on_a_lost_host_writes_nothing_more(scene: Scene) -> None:
    """
    With the fence raised by hand the other run ends with 7, and this one does everything.
    """
    with scene.held() as process:
        walk = scene.walk("other-host")
        walk.through("fence-off")
        scene.pause_file.unlink()
        ended = until_exit(process)
        walk.to_the_end()

    assert (ended.exit, ended.error) == (7, "fenced")
    assert scene.differences == []


def test_a_full_redis_is_given_memory(
    tmp_path: Path, sample: Path, redis_fresh: Callable[..., RedisServer]
) -> None:
    """
    Exit 5 with OOM; after the book every row is there and Redis has room.
    """
    full = make_scene(tmp_path, sample, redis_fresh(maxmemory="3mb"))
    assert full.project.run("backfill", "user_profiles").error == "target-not-writable"

    full.walk("full", NEW_MAXMEMORY="64mb").to_the_end()

    assert full.differences == []


def test_an_emptied_redis_is_filled_again(scene: Scene) -> None:
    """
    After FLUSHALL the same command puts every record back.
    """
    scene.project.run("backfill", "user_profiles")
    scene.server.client().flushall()

    scene.walk("emptied", {"readers": lambda: None}).to_the_end()

    assert scene.differences == []


def test_a_redis_that_lost_the_last_minutes_gets_them_back(fragile: Scene) -> None:
    """
    Restarted in the middle of a run with a part of its records, it has all of them afterwards.
    """
    fragile.project.run("backfill", "user_profiles", "--limit", "300")
    client = fragile.server.client()
    lost = list(client.scan_iter("profile:-*", 1_000))
    client.delete(*lost)
    client.close()
    fragile.server.restart()

    fragile.walk("restarted", {"readers": lambda: None}).to_the_end()

    assert lost
    assert fragile.differences == []


def test_a_redis_that_others_use_now_is_shared_with_them(scene: Scene) -> None:
    """
    Refused until a second person agreed; then every row is there, and their key as it was.
    """
    scene.project.run("backfill", "user_profiles")
    client = scene.server.client()
    client.flushall()
    client.set("theirs", "1")

    scene.walk("used-by-others", {"readers": lambda: None}).to_the_end()

    assert client.get("theirs") == b"1"
    assert scene.differences == []


def test_records_of_another_ledger_are_taken_over(scene: Scene) -> None:
    """
    The fence is another run's: refused, then taken over with every record compared.
    """
    scene.project.run("backfill", "user_profiles")
    ours = scene.project.folder / ".profile-migrate"
    ours.rename(scene.project.folder / "kept")
    scene.project.run("backfill", "user_profiles", "--start-over")
    shutil.rmtree(ours)
    (scene.project.folder / "kept").rename(ours)
    assert scene.project.run("backfill", "user_profiles").error == "target-taken"

    scene.walk("taken", {"readers": lambda: None}).to_the_end()

    assert scene.differences == []


@pytest.mark.slow
def test_a_wrong_mapping_is_corrected_in_every_record(scene: Scene) -> None:
    """
    A run with the wrong column is stopped, the file corrected, and every record made again.
    """
    wrong = SHIPPED.read_text().replace(
        "email: {column: email_address}", "email: {column: display_name}"
    )
    wrong = wrong.replace("display_name: {}", "display_name: {column: email_address}")
    scene.project.mapping("user_profiles", wrong)
    hands = {"readers": lambda: None, "correct": scene.project.shipped}
    lowest = next(iter(parity.sqlite_rows(scene.database, f"{profiles.QUERY} ORDER BY id")))
    walk = scene.walk("wrong-mapping", hands, RECORD_KEY=profiles.key_of(lowest))

    with scene.held() as process, ThreadPoolExecutor(1) as aside:
        ending = aside.submit(until_exit, process)
        walk.through("stop-wait")
        scene.pause_file.unlink()
        assert scene.differences
        walk.to_the_end()

    assert ending.result().exit == 143
    assert scene.differences == []


def test_rows_that_were_left_are_moved(scene: Scene) -> None:
    """
    Bad values are corrected in SQL, a foreign key is moved aside with its bytes, and all is there.
    """
    [one, two, three] = [row["id"] for row in _some_rows(scene.database, 3)]
    scene.sql(f"UPDATE user_profiles SET follower_count = 'many' WHERE id IN ({one}, {two})")
    client = scene.server.client()
    client.set(f"profile:{three}", "theirs")
    before = client.dump(f"profile:{three}")
    assert scene.project.run("backfill", "user_profiles").exit == 3

    repair = f"UPDATE user_profiles SET follower_count = 7 WHERE id IN ({one}, {two})"
    hands = {"repair": lambda: scene.sql(repair)}
    scene.walk("rejects", hands, COLLISION_KEY=f"profile:{three}").to_the_end()

    assert client.dump(f"aside:profile:{three}") == before
    assert not (scene.project.folder / "rejects.jsonl").exists()
    assert scene.differences == []


def _some_rows(database: Path, count: int) -> list[parity.Row]:
    return list(parity.sqlite_rows(database, f"{profiles.QUERY} AND id > 0 LIMIT {count}"))


def test_a_full_ledger_is_given_room(scene: Scene) -> None:
    """
    Exit 5 with ledger-full; with room the same command finishes, rows that changed included.
    """
    scene.project.run("backfill", "user_profiles", "--limit", "100")
    scene.sql("UPDATE user_profiles SET follower_count = 'many'")
    ledger = f"sqlite:///{scene.project.folder}/.profile-migrate/ledger.db?max_page_count=1"
    scene.project.configure(extra=f'ledger: {{url: "{ledger}"}}')
    assert scene.project.run("backfill", "user_profiles").error == "ledger-full"
    scene.sql("UPDATE user_profiles SET follower_count = 7")

    room = {"make-room": lambda: scene.project.configure(extra="")}
    scene.walk("ledger-full", room).to_the_end()

    assert scene.differences == []


def test_a_damaged_ledger_is_replaced(scene: Scene) -> None:
    """
    Exit 8; put aside, and without a backup every record is compared again.
    """
    scene.project.run("backfill", "user_profiles")
    _damage(scene.project)

    scene.walk("ledger-damaged", {"restore": lambda: None}).to_the_end()

    assert scene.differences == []


def test_an_old_copy_of_the_ledger_is_safe(scene: Scene) -> None:
    """
    A backup from the middle of the run goes on from there, and rows changed since are seen.
    """
    folder = scene.project.folder / ".profile-migrate"
    scene.project.run("backfill", "user_profiles", "--limit", "200")
    shutil.copytree(folder, scene.project.folder / "backup")
    scene.project.run("backfill", "user_profiles")
    _damage(scene.project)

    hands = {"restore": lambda: shutil.copytree(scene.project.folder / "backup", folder)}
    scene.walk("ledger-restored", hands).to_the_end()

    assert scene.differences == []


def test_a_lost_ledger_is_made_again(scene: Scene) -> None:
    """
    The fence of the lost ledger refuses; then it is taken over, and nothing had to be written.
    """
    scene.project.run("backfill", "user_profiles")
    shutil.rmtree(scene.project.folder / ".profile-migrate")

    scene.walk("ledger-lost").to_the_end()

    last = scene.project.run("status", "user_profiles", "--json").json["mappings"][0]["run"]
    assert last["same"] == last["rows"] > 0
    assert scene.differences == []


def _damage(project: Project) -> None:
    """
    What a failing disk leaves of the ledger.
    """
    file = project.folder / ".profile-migrate" / "ledger.db"
    for extra in file.parent.glob("ledger.db-*"):
        extra.unlink()
    file.write_bytes(b"\xa5" * file.stat().st_size)


def test_our_records_go(scene: Scene) -> None:
    """
    Everything that was written is removed; the keys of others, neighbours by name, are not.
    """
    scene.project.run("backfill", "user_profiles")
    client = scene.server.client()
    others = {b"profile:1:settings": b"x", b"profile:*": b"y"}
    client.mset(others)

    scene.walk("purged", {"readers": lambda: None}).to_the_end()

    assert set(client.keys()) == {*others, b"profile-migrate:fence:user_profiles"}


def test_records_that_others_changed_are_looked_at_first(scene: Scene) -> None:
    """
    They stay until a person says that they may go.
    """
    scene.project.run("backfill", "user_profiles")
    client = scene.server.client()
    changed = next(client.scan_iter("profile:*"))
    client.hset(changed, "note", "mine")

    walk = scene.walk("purged-but-changed", {"readers": lambda: None})
    walk.through("changed-look")
    assert client.keys("profile:*") == [changed]
    walk.to_the_end()

    assert client.keys() == [b"profile-migrate:fence:user_profiles"]


def test_records_that_differ_are_repaired(scene: Scene) -> None:
    """
    What somebody removed, added and changed is as SQL has it; a key of others is as it was.
    """
    client = _filled(scene)
    [one, two, three, four] = [profiles.key_of(row) for row in list(_some_rows(scene.database, 4))]
    client.delete(one)
    client.hset(two, "display_name", "somebody else's")
    client.hset(three, "note", "mine")
    client.hset("profile:999999999", mapping=client.hgetall(four))
    client.set("theirs", "1")
    assert scene.differences

    scene.walk("differs").to_the_end()

    assert set(client.hkeys("profile:999999999")) == {b"_v", b"_t"}, "not a tombstone"
    client.delete("profile:999999999")
    assert scene.differences == []
    assert client.get("theirs") == b"1"


@pytest.mark.slow
def test_a_redis_that_is_behind_is_filled_not_repaired(scene: Scene) -> None:
    """
    More keys than a repair takes, because SQL went on: a backfill brings them.
    """
    _filled(scene)
    scene.sql("UPDATE user_profiles SET display_name = 'later' WHERE id > 0")
    assert len(scene.differences) > 100

    scene.walk("behind").to_the_end()

    assert scene.differences == []


@pytest.mark.slow
def test_a_record_newer_than_sql_is_decided_by_a_person(scene: Scene) -> None:
    """
    No repair touches it; put aside, with its bytes, its row is written again.
    """
    client = _filled(scene)
    key = profiles.key_of(_some_rows(scene.database, 1)[0])
    client.hset(key, "_v", "99999999999")
    before = client.dump(key)

    scene.walk("newer", {"decide": lambda: None}, RECORD_KEY=key).to_the_end()

    assert client.dump(f"aside:{key}") == before
    assert scene.differences == []


@pytest.mark.slow
def test_a_mapping_that_nothing_proves_is_verified(scene: Scene) -> None:
    """
    Stale after a backfill, with a verification that was killed: the book ends verified.
    """
    _filled(scene)
    assert scene.project.run("verify", "user_profiles").exit == 0
    scene.project.run("backfill", "user_profiles")
    scene.pause_file.touch()
    with scene.project.started("verify", "user_profiles", "--level", "deep") as process:
        wait_until(lambda: _is_held(scene.project), "the verification", timeout_s=60)
        kill_all(process)
    scene.pause_file.unlink()
    [told] = scene.project.run("status", "user_profiles", "--json").json["mappings"]
    assert (told["state"], told["verified"]) == ("complete", "stale")

    scene.walk("not-proved").to_the_end()

    assert scene.differences == []


def _filled(scene: Scene) -> redis.Redis:
    assert scene.project.run("backfill", "user_profiles").exit == 0
    assert scene.differences == []
    return scene.server.client()


def _is_held(project: Project) -> bool:
    [told] = project.run("status", "user_profiles", "--json").json["mappings"]
    return told["holder"] is not None
