"""
The whole demo, run as a user would run it.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner

from migrate.cli.demo import command as command_module
from migrate.cli.demo.command import WORKERS, Step, demo
from migrate.cli.demo.resp import Connection
from migrate.cli.main import cli
from tests.servers import wait_until

ROOT = Path(__file__).parent.parent

MOVED = "profile:9007199254740991"
"""The key of a row that every sample has and that moves."""

LIMIT_S = 180.0
"""Far above what a demo takes, for machines that do much else."""


def environment(**changes: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), **changes}


def run_demo(*arguments: str, folder: Path, **changes: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "migrate", "demo", *arguments],
        cwd=folder,
        env=environment(**changes),
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )


@dataclass(frozen=True)
class Traces:
    """
    What a demo says that it has started and written.
    """

    pid: int
    folder: Path

    @classmethod
    def in_text(cls, text: str) -> Traces:
        pid = re.search(r"process (\d+)", text)
        folder = re.search(r"Files in (.+)\.", text)
        assert pid is not None and folder is not None, text
        return cls(int(pid[1]), Path(folder[1]))

    def is_running(self) -> bool:
        return Path(f"/proc/{self.pid}").exists()


def processes_in(folder: Path) -> list[str]:
    """
    Command lines of the processes whose working directory is there.
    """
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if (entry / "cwd").resolve() == folder.resolve():
                    found.append((entry / "cmdline").read_text())
            except OSError:
                # Ended while we looked, or not ours to look at.
                continue
    return found


def test_the_demo_moves_ten_thousand_profiles_and_finds_them_equal(tmp_path: Path) -> None:
    """
    As typed by a newcomer: exit 0, every command shown, every record equal, nothing left.
    """
    ended = run_demo(folder=tmp_path)

    said = ended.stdout
    assert ended.returncode == 0, said + ended.stderr
    assert "10,000 made-up profiles" in said
    assert "EQUAL: no record is missing, too much, or different." in said
    assert [line.split()[2] for line in said.splitlines() if line.startswith("$ ")] == [
        "mapping", "doctor", "plan", "backfill", "status", "rejects",
    ]  # fmt: skip
    traces = Traces.in_text(said)
    assert not traces.is_running()
    assert not traces.folder.exists()
    assert processes_in(traces.folder) == []
    assert list(tmp_path.iterdir()) == []


def test_the_demo_names_the_rows_that_cannot_move(tmp_path: Path) -> None:
    """
    Each planted row is announced with its reason and is listed among the rejects by its key.
    """
    ended = run_demo("--rows", "500", folder=tmp_path)

    assert ended.returncode == 0, ended.stdout + ended.stderr
    planted = re.findall(r"  id=(-?\d+): .* \((\w+)\)", ended.stdout)
    _, _, listed = ended.stdout.partition("rejects list")
    assert len(planted) == 3
    for identity, column in planted:
        assert re.search(rf"{identity}\b.*{column}", listed), ended.stdout


@pytest.mark.slow
def test_the_demo_without_rejects_moves_every_row(tmp_path: Path) -> None:
    """
    With nothing planted, the backfill exits 0 and no row is left behind.
    """
    ended = run_demo("--rows", "500", "--without-rejects", "--seed", "7", folder=tmp_path)

    assert ended.returncode == 0, ended.stdout + ended.stderr
    counted = re.search(r"([\d,]+) rows that the mapping lets through, ([\d,]+) rec", ended.stdout)
    assert counted is not None
    assert counted[1] == counted[2]


@pytest.mark.slow
def test_the_demo_looks_at_nothing_of_the_users(tmp_path: Path) -> None:
    """
    Neither the user's variables nor a migrate.yaml beside it reach the demo's commands.
    """
    (tmp_path / "migrate.yaml").write_text("version: 99\n")

    ended = run_demo(
        "--rows",
        "300",
        folder=tmp_path,
        PROFILE_MIGRATE_SOURCE_URL="postgresql://production/",
        PROFILE_MIGRATE_CONFIG=str(tmp_path / "migrate.yaml"),
    )

    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.slow
def test_kept_files_stay_and_the_server_does_not(tmp_path: Path) -> None:
    """
    With --keep the database, the configuration and the ledger are there to look at.
    """
    ended = run_demo("--rows", "300", "--keep", "kept/here", folder=tmp_path)

    assert ended.returncode == 0, ended.stdout + ended.stderr
    kept = tmp_path / "kept" / "here"
    assert (kept / "profiles.db").exists()
    assert (kept / "migrate.yaml").exists()
    assert (kept / "mappings" / "user_profiles.yaml").exists()
    assert (kept / ".profile-migrate" / "ledger.db").exists()
    assert not Traces.in_text(ended.stdout).is_running()


def test_a_folder_with_files_is_refused(tmp_path: Path) -> None:
    """
    The demo writes into no folder that holds something.
    """
    (tmp_path / "mine.txt").write_text("mine")

    ended = run_demo("--keep", ".", folder=tmp_path)

    assert ended.returncode == 2
    assert "error[usage]" in ended.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "exit_code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 143)],
    ids=lambda value: getattr(value, "name", ""),
)
def test_an_interrupted_demo_leaves_nothing(
    tmp_path: Path, number: signal.Signals, exit_code: int
) -> None:
    """
    Ctrl-C, SIGTERM and a closed terminal end the server and delete the files all the same.
    """
    output = tmp_path / "output"
    with output.open("wb") as stream:
        child = subprocess.Popen(
            [sys.executable, "-m", "migrate", "demo", "--rows", "20000"],
            cwd=tmp_path,
            env=environment(),
            stdout=stream,
            stderr=stream,
        )
    wait_until(lambda: "$ profile-migrate backfill" in output.read_text(), "a step", timeout_s=60)
    traces = Traces.in_text(output.read_text())
    wait_until(lambda: len(processes_in(traces.folder)) > WORKERS, "its workers", timeout_s=60)
    assert traces.is_running()

    child.send_signal(number)
    code = child.wait(timeout=60)

    assert code == exit_code, output.read_text()
    assert not traces.is_running()
    assert not traces.folder.exists()
    wait_until(lambda: not processes_in(traces.folder), "its commands to end")


@pytest.fixture
def tampering(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """
    Redis commands that are run behind the demo's back, after its backfill.

    The demo itself has no way in for that, so the step that runs a command is wrapped.
    """
    planted: list[tuple[str, ...]] = []
    run = command_module._run

    def run_then_tamper(step: Step, folder: Path) -> None:
        run(step, folder)
        if step.words[0] == "backfill":
            configuration = (folder / "migrate.yaml").read_text()
            address = re.search(r"redis://([\d.]+):(\d+)/", configuration)
            assert address is not None
            password = (folder / "redis-password").read_text()
            with Connection(address[1], int(address[2]), password) as connection:
                for words in planted:
                    connection.call(*words)

    monkeypatch.setattr(command_module, "_run", run_then_tamper)
    return planted


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ("HSET", MOVED, "email", "someone-else@example.org"),
        ("HSET", "profile:123456789", "email", "nobody@example.org"),
    ],
    ids=" ".join,
)
def test_the_demo_fails_when_a_record_is_wrong(
    tampering: list[tuple[str, ...]], words: tuple[str, ...]
) -> None:
    """
    One record that is not as SQL has it, and the demo says which and exits 3.
    """
    tampering.append(words)

    ended = CliRunner().invoke(cli, ["demo", "--rows", "300"])

    assert ended.exit_code == 3
    assert "DIFFERENT: 1 difference." in ended.stdout
    assert f"  {words[1]}" in ended.stdout


def test_a_command_that_ends_otherwise_fails_the_demo(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """
    The demo does not go on after a command that failed; it says which and exits 1.
    """
    steps = (Step(("mapping", "lint", "no-such-mapping"), "A wrong name"),)
    # Nothing that a user can pass makes a step of the demo fail.
    monkeypatch.setattr(command_module, "_steps", lambda sample: steps)

    ended = CliRunner().invoke(cli, ["demo", "--rows", "300"])

    assert ended.exit_code == 1
    assert 'command="profile-migrate mapping lint no-such-mapping"' in ended.stderr


def test_help_names_what_the_demo_needs() -> None:
    """
    The help says that nothing of the user's is touched.
    """
    ended = CliRunner().invoke(demo, ["--help"])

    assert ended.exit_code == 0
    assert "nothing of yours is read or written" in " ".join(ended.stdout.split())
