"""
The journal is only ever added to, and a line that was tampered with shows.
"""

from __future__ import annotations

import json
import sqlite3
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from migrate.errors import ExitCode
from migrate.ledger.journal import START, Broken, JournalEntry, Note, actor, check
from migrate.ledger.store import Ledger
from tests.project import Project
from tests.test_ledger import Place, file, opened, place, server

__all__ = ["file", "opened", "place", "server"]

Open = Callable[..., Ledger]


def note(number: int = 1, mapping: str = "users") -> Note:
    """
    Something to write down.
    """
    return Note(mapping, "purge", "intent", "run-1", number, {"count": number, "name": "é\n"})


def test_each_line_vouches_for_the_one_before(opened: Open) -> None:
    """
    Numbers without gaps, hashes in a chain, and it reads back as it was written.
    """
    ledger = opened(wall=lambda: 1_763_700_000.123456)
    written = [ledger.note(note(number)) for number in range(3)]

    found = list(opened().journal())

    assert found == written
    assert [entry.seq for entry in found] == [1, 2, 3]
    assert [entry.prev_hash for entry in found] == [START, found[0].hash, found[1].hash]
    assert found[0].at == 1_763_700_000.123
    assert found[0].actor == actor()
    assert "@" in actor()
    assert found[2].to_dict()["payload"] == {"count": 2, "name": "é\n"}
    assert list(check(found)) == found


def test_it_is_read_by_mapping_and_page_by_page(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    More lines than one page; those of one mapping, and the newest of it.
    """
    monkeypatch.setattr("migrate.ledger.journal.PAGE", 50)
    ledger = opened()
    for number in range(102):
        ledger.note(note(number, "users" if number % 2 else "others"))

    assert [entry.seq for entry in ledger.journal()] == list(range(1, 103))
    assert [entry.epoch for entry in ledger.journal("users")] == list(range(1, 102, 2))
    last = ledger.last_entry("others")
    assert last is not None
    assert last.epoch == 100
    assert ledger.last_entry("nobody") is None


def test_two_that_write_at_once_make_one_chain(place: Place) -> None:
    """
    Neither a number nor a hash is used twice, also for the very first line.
    """
    ledgers = [place.open() for _ in range(4)]

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: ledgers[n % 4].note(note(n)), range(40)))

    found = list(ledgers[0].journal())
    assert len(found) == 40
    assert not any(isinstance(entry, Broken) for entry in check(found))


@pytest.mark.parametrize(
    "statement",
    ["UPDATE migrate_journal SET actor = 'nobody'", "DELETE FROM migrate_journal"],
)
def test_sql_may_not_change_a_line(place: Place, opened: Open, statement: str) -> None:
    """
    A slip of the hand is refused by the database itself.
    """
    ledger = opened()
    before = [ledger.note(note())]

    with pytest.raises(Exception, match="only ever added to"):
        place.execute(statement)

    assert list(ledger.journal()) == before


def lines(count: int = 4) -> list[JournalEntry]:
    """
    A sound chain.
    """
    found: list[JournalEntry] = []
    for number in range(1, count + 1):
        entry = JournalEntry(
            number, 1.5, "a@b", "users", None, number, "purge", "done", "{}",
            found[-1].hash if found else START, "",
        )  # fmt: skip
        found.append(replace(entry, hash=entry.digest()))
    return found


def test_every_kind_of_tampering_is_found_where_it_is() -> None:
    """
    Changed in any part, left out, put in, swapped, begun elsewhere: the first broken line is named.
    """
    sound = lines()
    for name in ("at", "actor", "mapping", "run", "epoch", "step", "phase", "payload"):
        changed = [*sound]
        changed[1] = replace(sound[1], **{name: 7 if name in ("at", "epoch") else "x"})
        assert list(check(changed))[-1] == Broken(2, "it was changed")
    rehashed = replace(sound[1], actor="x", hash="")
    rehashed = replace(rehashed, hash=rehashed.digest())

    assert list(check([sound[0], rehashed, *sound[2:]]))[-1] == Broken(
        3, "it does not follow the line before it"
    )
    assert list(check([sound[0], *sound[2:]]))[-1] == Broken(3, "line 2 is missing")
    assert list(check(sound[1:])) == [Broken(2, "line 1 is missing")]
    assert list(check([sound[0], sound[2], sound[1], sound[3]]))[-1] == Broken(
        3, "line 2 is missing"
    )
    assert list(check(sound[:2])) == sound[:2], "a tail that was cut off cannot be seen alone"


# --- commands ------------------------------------------------------------------------------------


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """
    A folder whose ledger has a journal of three lines.
    """
    made = Project(tmp_path / "project", "sqlite:///none.db", "redis://127.0.0.1:1/0")
    path = made.folder / ".profile-migrate" / "ledger.db"
    from migrate.model.settings import SourceConfig

    with closing(
        Ledger(SourceConfig("sqlite", database=str(path)), wall=lambda: 1.0, sleep=lambda _: None)
    ) as ledger:
        for number in (1, 2, 3):
            ledger.note(note(number))
    return made


def tamper(project: Project, statement: str) -> None:
    """
    Somebody who may write the file takes the guards away first.
    """
    path = project.folder / ".profile-migrate" / "ledger.db"
    with closing(sqlite3.connect(path)) as raw, raw:
        for name in ("update", "delete"):
            raw.execute(f"DROP TRIGGER migrate_journal_no_{name}")
        raw.execute(statement)


def test_it_is_shown_checked_and_exported(project: Project) -> None:
    """
    Neither source nor Redis is asked; the export is new and for this user only.
    """
    shown = project.run("journal", "show", "users", "--json")
    text = project.run("journal", "show")
    checked = project.run("journal", "verify", "--json")
    exported = project.run("journal", "export", "copy.jsonl")

    assert [entry["seq"] for entry in shown.json["entries"]] == [1, 2, 3]
    assert "1970-01-01 00:00:01Z" in text.out
    assert project.run("journal", "show", "others", "--json").json["entries"] == []
    assert (checked.exit, checked.json["entries"], checked.json["broken"]) == (0, 3, None)
    assert checked.json["last_hash"] == shown.json["entries"][-1]["hash"]
    copy = project.folder / "copy.jsonl"
    assert exported.exit == ExitCode.DONE
    assert [json.loads(line) for line in copy.read_text().splitlines()] == shown.json["entries"]
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert project.run("journal", "export", "copy.jsonl").error == "usage"


@pytest.mark.parametrize(
    ("statement", "seq"),
    [
        ("UPDATE migrate_journal SET payload = '{}' WHERE seq = 2", 2),
        ("DELETE FROM migrate_journal WHERE seq = 1", 2),
        ("UPDATE migrate_journal SET payload = 'not json' WHERE seq = 3", 3),
    ],
)
def test_a_broken_chain_ends_with_3(project: Project, statement: str, seq: int) -> None:
    """
    The first broken line is named, and the journal is still shown.
    """
    tamper(project, statement)

    ran = project.run("journal", "verify", "--json")

    assert (ran.exit, ran.json["broken"]["seq"]) == (ExitCode.DIFFERENCES, seq)
    assert project.run("journal", "verify").exit == ExitCode.DIFFERENCES
    assert project.run("journal", "show", "--json").exit == ExitCode.DONE


def test_looking_makes_no_ledger(tmp_path: Path) -> None:
    """
    Without a ledger the journal is empty, and there is none afterwards.
    """
    project = Project(tmp_path / "project", "sqlite:///none.db", "redis://127.0.0.1:1/0")

    assert project.run("journal", "show", "--json").json["entries"] == []
    assert project.run("journal", "verify").exit == ExitCode.DONE
    assert project.run("journal", "export", "empty.jsonl").exit == ExitCode.DONE

    assert not (project.folder / ".profile-migrate").exists()
