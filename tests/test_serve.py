"""
What `serve` answers: a real server on a free port, over the ledger of a real backfill.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import redis

from migrate import __version__
from migrate.cli.serve import parse_bind
from migrate.errors import LedgerUnavailable, UsageProblem
from migrate.ledger.access import open_ledger
from migrate.ledger.lock import Holder
from migrate.ledger.store import Ledger, Lock
from migrate.ledger.verification import Kept
from migrate.model.settings import SourceConfig
from migrate.model.values import Outcome
from migrate.ops import serving as serving_module
from migrate.ops.collector import PARTITION_STATES, SERVED, STATES
from migrate.ops.looks import DEADLINE_S, FRESH_S, TIMEOUT, Absent, Look, Seen
from migrate.ops.pages import OLD_S, status_page
from migrate.ops.serving import Answer, LoopbackServer
from migrate.ops.standing import Standing
from tests import profiles
from tests.project import SHIPPED, Project, kill_all, until_exit
from tests.servers import PostgresDatabase, RedisServer, wait_until
from tests.topologies import RedisCluster, SentinelGroup

parser = pytest.importorskip("prometheus_client.parser", reason="pip install prometheus-client")

ROWS = 1_500
"""Four partitions."""

CANARY = "PII-CANARY-7f3a"

Series = dict[tuple[str, frozenset[tuple[str, str]]], float]


@dataclass(frozen=True, slots=True)
class Answered:
    """
    What came back.
    """

    status: int
    headers: dict[str, str]
    body: str


@dataclass(slots=True)
class Served:
    """
    A `serve` that runs, and the project that it serves.
    """

    project: Project
    process: subprocess.Popen[str]
    port: int
    url: str = field(default="")

    def ask(self, path: str, method: str = "GET", **headers: str) -> Answered:
        """
        One request.
        """
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, headers=headers)
            reply = connection.getresponse()
            return Answered(reply.status, dict(reply.headers), reply.read().decode())
        finally:
            connection.close()

    def raw(self, request: bytes) -> bytes:
        """
        Whatever comes back on a connection that sends exactly this.
        """
        with socket.create_connection(("127.0.0.1", self.port), timeout=30) as connection:
            connection.sendall(request)
            connection.shutdown(socket.SHUT_WR)
            parts = []
            while part := connection.recv(65536):
                parts.append(part)
        return b"".join(parts)

    def series(self) -> Series:
        """
        One scrape, read by Prometheus' own parser.
        """
        return series(self.ask("/metrics").body)


def series(text: str) -> Series:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in parser.text_string_to_metric_families(text)
        for sample in family.samples
    }


def key(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    return f"profile_migrate_{name}", frozenset(labels.items())


def of(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    return key(name, mapping="user_profiles", **labels)


def states(found: Series) -> set[str]:
    return {
        dict(labels)["state"]
        for (name, labels), value in found.items()
        if name == "profile_migrate_run_state" and value == 1
    }


@contextmanager
def serving(project: Project) -> Iterator[Served]:
    """
    The command on a free port, until the block ends.
    """
    with project.started("serve", "--bind", "127.0.0.1:0") as process:
        assert process.stderr is not None
        said = process.stderr.readline()
        match = re.fullmatch(r"Serving (http://127\.0\.0\.1:(\d+)/) .*\n", said)
        assert match is not None, said + process.stderr.read()
        yield Served(project, process, int(match[2]), match[1])


def ledger_of(project: Project) -> Ledger:
    path = project.folder / ".profile-migrate" / "ledger.db"
    return open_ledger(SourceConfig("sqlite", database=str(path)), wall=time.time)


@pytest.fixture
def project(tmp_path: Path, redis_server: RedisServer) -> Project:
    """
    A folder with rows to move, some of which cannot be.
    """
    return project_of(tmp_path, redis_server.url)


def project_of(folder: Path, redis_url: str) -> Project:
    profiles.create_sqlite(folder / "shop.db", ROWS, with_rejects=True)
    made = Project(folder / "project", f"sqlite:///{folder / 'shop.db'}", redis_url)
    made.shipped()
    return made


@pytest.fixture
def served(project: Project) -> Iterator[Served]:
    """
    `serve` over the ledger of a finished backfill.
    """
    assert project.run("backfill", "user_profiles").exit == 3
    with serving(project) as served:
        yield served


# --- metrics -------------------------------------------------------------------------------------


def test_metrics_say_what_status_says(served: Served) -> None:
    """
    Rows, outcomes, partitions, open rejects and the end of the run are those of `status --json`.
    """
    [told] = served.project.run("status", "user_profiles", "--json").json["mappings"]
    run = told["run"]

    found = served.series()

    assert found[key("build_info", version=__version__)] == 1
    assert found[key("ledger_up")] == 1
    assert states(found) == {"complete"}
    assert found[of("rows_done")] == run["rows"]
    assert found[of("rows_estimated")] == run["rows_estimated"]
    for outcome in Outcome:
        word = outcome.name.lower()
        assert found[of("run_rows", result=word)] == run[word]
    assert found[of("run_rows", result="rejected")] == run["rejected"] > 0
    assert found[of("partitions", status="done")] == run["partitions"]
    assert found[of("partitions", status="pending")] == 0
    for reason, count in told["open_rejects"].items():
        assert found[of("open_rejects", reason=reason)] == count
    assert found[of("run_exit_code")] == run["exit_code"] == 3
    assert "the last run ended with exit code 3" in served.ask("/").body
    assert found[of("run_duration_seconds")] == pytest.approx(run["seconds"], abs=0.01)
    assert found[of("run_finished_timestamp_seconds")] == pytest.approx(run["finished_at"])
    assert of("checkpoint_age_seconds") not in found
    assert found[key("redis_up", redis="target")] == 1
    assert found[key("redis_memory_used_bytes", redis="target")] > 0
    assert found[key("throttle_redis_memory_ratio")] == 0.8


def test_every_series_is_declared(served: Served) -> None:
    """
    What is served is what is declared: names, types, help texts and labels.
    """
    reply = served.ask("/metrics")

    assert reply.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    families = {family.name: family for family in parser.text_string_to_metric_families(reply.body)}
    assert {
        name.removesuffix("_total") if declared.kind == "counter" else name
        for name, declared in SERVED.items()
    } == set(families)
    for name, declared in SERVED.items():
        found = families[name.removesuffix("_total") if declared.kind == "counter" else name]
        assert (found.type, found.documentation) == (declared.kind, declared.explanation)
        for sample in found.samples:
            assert (sample.name, set(sample.labels)) == (name, set(declared.labels))


@pytest.mark.slow
def test_a_run_is_followed_until_it_is_killed(project: Project) -> None:
    """
    A running run tells the age of its last checkpoint; a killed one is interrupted, without a code.
    """
    pause = project.folder / ".profile-migrate" / "pause"
    pause.parent.mkdir(mode=0o700)
    pause.touch()
    with serving(project) as served:
        with project.started("backfill", "user_profiles") as process:
            project.wait_for_rows(1)
            wait_until(lambda: states(served.series()) == {"running"}, "a run", timeout_s=30)

            found = served.series()
            assert 0 <= found[of("checkpoint_age_seconds")] < 60
            assert 0 < found[of("rows_done")] < ROWS
            assert sum(found[of("partitions", status=one)] for one in PARTITION_STATES) == 4
            assert of("run_exit_code") not in found
            assert "held by process" in served.ask("/").body
            kill_all(process)

        wait_until(lambda: states(served.series()) == {"interrupted"}, "its end", timeout_s=30)
        found = served.series()
        assert of("checkpoint_age_seconds") not in found
        assert of("run_exit_code") not in found


def test_all_states_of_status_are_known(project: Project) -> None:
    """
    A mapping is in exactly one of the declared states, before its first run too.
    """
    with serving(project) as served:
        assert project.run("plan", "user_profiles").exit in (0, 3, 4)
        assert served.ask("/healthz").body in ("ledger-missing\n", "ok\n")
    assert project.run("backfill", "user_profiles").exit == 3
    with serving(project) as served:
        found = served.series()
    words = {dict(labels)["state"] for name, labels in found if name == "profile_migrate_run_state"}
    assert words == {state.replace(" ", "_") for state in STATES}


def test_a_verification_is_told_by_level(served: Served) -> None:
    """
    Verdict, mismatches, what was compared and when, of the newest verification of each level.
    """
    with closing(ledger_of(served.project)) as ledger:
        run = ledger.last_run("user_profiles")
        assert run is not None
        result = {
            "complete": True,
            "scope": {"compared": 1_400},
            "counts": {"OK": 1_398, "MISSING": 1, "DIFFERENT": 1},
        }
        for kept in (
            Kept("user_profiles", "full", "f", 1, 1_000.0, "MISMATCH", json.dumps(result)),
            Kept("user_profiles", "deep", "f", 1, 2_000.0),
        ):
            ledger.keep_verification(f"{run.id[:-4]}{kept.level}", kept)

    found = served.series()
    page = served.ask("/").body

    def at(name: str, level: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
        return of(f"verify_{name}", level=level, **labels)

    assert found[at("passed", "full")] == 0
    assert found[at("running", "full")] == 0
    assert found[at("finished_timestamp_seconds", "full")] == 1_000
    assert found[at("rows_compared", "full")] == 1_400
    assert found[at("mismatches", "full", verdict="missing")] == 1
    assert found[at("mismatches", "full", verdict="different")] == 1
    assert found[at("mismatches", "full", verdict="orphan")] == 0
    assert found[at("running", "deep")] == 1
    assert at("passed", "deep") not in found
    assert "user_profiles: verification at level full, " in page
    assert "MISMATCH" in page


@pytest.mark.slow
def test_status_and_metrics_have_one_word_for_proof(project: Project) -> None:
    """
    Not verified, verified, stale after a backfill, and what differs: one word on all faces.
    """
    folder = project.folder
    profiles.create_sqlite(folder / "clean.db", ROWS)
    project.configure(source_url=f"sqlite:///{folder / 'clean.db'}")

    def faces() -> tuple[str, str]:
        [told] = project.run("status", "user_profiles", "--json").json["mappings"]
        shown = project.run("status", "user_profiles")
        with serving(project) as served:
            found, page = served.series(), served.ask("/").body
        [metric] = [
            dict(labels)["state"].replace("_", " ")
            for (name, labels), value in found.items()
            if name == "profile_migrate_verify_state" and value
        ]
        word = str(told["verified"])
        assert metric == word
        assert f"user_profiles: {word}" in shown.out
        assert f"<td>{word}</td>" in page
        assert f"user_profiles: {word}" in page
        assert f"<code>{told['next']}</code>" in page
        assert shown.err == f"next: {told['next']}\n"
        proof = told["verification"]
        differ = {
            dict(labels)["verdict"]: value
            for (name, labels), value in found.items()
            if name == "profile_migrate_open_mismatches"
        }
        assert sum(differ.values()) == (proof["differences"] if proof else 0)
        passed = proof is not None and proof["verdict"] == "PASS"
        assert found.get(of("verify_last_success_timestamp_seconds")) == pytest.approx(
            proof["finished_at"] if passed else None
        )
        assert found[key("verify_max_age_seconds")] == 24 * 3600
        return word, told["next"].removeprefix("profile-migrate ")

    verify, deep = "verify user_profiles", "verify user_profiles --level deep"
    assert project.run("backfill", "user_profiles").exit == 0
    assert faces() == ("not verified", verify)
    assert project.run(*verify.split()).exit == 0
    assert faces() == ("verified", "backfill user_profiles")
    assert project.run("backfill", "user_profiles").exit == 0
    assert faces() == ("stale", verify)
    assert project.run(*deep.split()).exit == 0
    client = redis.Redis.from_url(project.redis_url)
    client.delete(next(client.scan_iter("profile:*")))
    client.close()
    assert project.run(*deep.split()).exit == 3
    assert faces() == ("not verified", "repair user_profiles --dry-run")
    assert project.run("verify", "user_profiles", "--level", "sample", "--sample", "1").exit in (
        0,
        3,
    )
    assert project.run("repair", "user_profiles", "--dry-run").exit in (0, 4)
    assert project.run(*deep.split()).exit == 3
    assert project.run("repair", "user_profiles", "--yes").exit == 0
    assert faces() == ("not verified", deep)
    assert project.run(*deep.split()).exit == 0
    assert faces() == ("verified", "backfill user_profiles")


def test_each_mapping_is_told_its_next_command(project: Project) -> None:
    """
    Where `status` shows several mappings, each has a line with what to run next.
    """
    text = SHIPPED.read_text().replace("name: user_profiles", "name: others", 1)
    project.mapping("others", text.replace("profile:{", "other:{"))
    assert project.run("backfill", "user_profiles").exit == 3

    shown = project.run("status")

    assert "others: next is profile-migrate plan others" in shown.out
    assert "user_profiles: next is profile-migrate rejects list user_profiles" in shown.out


def test_a_replay_makes_a_verification_one_of_the_past(project: Project) -> None:
    """
    What a replay wrote, no verification has seen: verify comes next, and the journal says why.
    """
    assert project.run("backfill", "user_profiles").exit == 3
    assert project.run("verify", "user_profiles").exit == 3

    def told() -> dict[str, Any]:
        [one] = project.run("status", "user_profiles", "--json").json["mappings"]
        found: dict[str, Any] = one
        return found

    assert told()["verification"]["written_since"] is False
    assert told()["next"] == "profile-migrate rejects list user_profiles"
    assert project.run("rejects", "replay", "user_profiles").exit == 3
    assert told()["verification"]["written_since"] is True
    lines = project.run("journal", "show", "user_profiles", "--json").json["entries"]
    assert [(line["step"], line["phase"]) for line in lines] == [
        ("replay", "intent"),
        ("replay", "done"),
    ]


@pytest.mark.slow
def test_a_verification_is_no_backfill_that_stands_still(project: Project) -> None:
    """
    While one verifies, the mapping is complete and held, and no checkpoint of a backfill grows old.
    """
    assert project.run("backfill", "user_profiles").exit == 3
    pause = project.folder / ".profile-migrate" / "pause"
    pause.touch()
    with serving(project) as served, project.started("verify", "user_profiles") as process:
        wait_until(lambda: "held by" in served.ask("/").body, "the verification", timeout_s=60)
        found = served.series()
        kill_all(process)
        wait_until(lambda: "held by" not in served.ask("/").body, "its end", timeout_s=60)
        after = served.series()

    assert states(found) == states(after) == {"complete"}
    assert of("checkpoint_age_seconds") not in found
    assert after[of("verify_running", level="full")] == 1
    assert after[of("verify_saved_timestamp_seconds", level="full")] <= time.time()


def test_many_scrapes_at_once_are_all_answered(served: Served) -> None:
    """
    Fifty scrapes at the same moment get the same whole answer.
    """
    with ThreadPoolExecutor(50) as pool:
        replies = list(pool.map(lambda _: served.ask("/metrics"), range(50)))

    assert {reply.status for reply in replies} == {200}
    assert {series(reply.body)[of("rows_done")] for reply in replies} == {
        served.series()[of("rows_done")]
    }


# --- stores that are away ------------------------------------------------------------------------


@pytest.mark.slow
def test_a_ledger_that_is_gone_is_told(served: Served) -> None:
    """
    Without its ledger the health check fails with a word, metrics say so, and both recover.
    """
    assert served.ask("/healthz") == Answered(200, served.ask("/healthz").headers, "ok\n")
    ledger = served.project.folder / ".profile-migrate" / "ledger.db"
    aside = ledger.with_name("aside")
    ledger.rename(aside)

    wait_until(lambda: served.ask("/healthz").status == 503, "bad health", timeout_s=30)
    found, page = served.series(), served.ask("/").body
    assert served.ask("/healthz").body == "ledger-missing\n"
    assert found[key("ledger_up")] == 0
    assert found[key("collector_errors_total", store="ledger")] >= 1
    assert of("rows_done") not in found
    assert "The ledger cannot be read: ledger-missing." in page
    assert "user_profiles" in page
    assert not ledger.exists()

    aside.rename(ledger)
    wait_until(lambda: served.ask("/healthz").status == 200, "good health", timeout_s=30)
    assert served.series()[key("ledger_up")] == 1


def test_a_damaged_ledger_is_told(project: Project) -> None:
    """
    A file that is no ledger is a reason of its own.
    """
    folder = project.folder / ".profile-migrate"
    folder.mkdir(mode=0o700)
    (folder / "ledger.db").write_text("no database, whatever its name says" * 100)

    with serving(project) as served:
        assert served.ask("/healthz").body == "ledger-damaged\n"


def test_serving_makes_no_ledger(project: Project) -> None:
    """
    Where nothing has run there is nothing to read, and nothing is written.
    """
    before = sorted(project.folder.rglob("*"))

    with serving(project) as served:
        assert served.ask("/healthz").body == "ledger-missing\n"
        assert served.series()[key("ledger_up")] == 0
        assert "The ledger was not read yet." in served.ask("/").body

    assert sorted(project.folder.rglob("*")) == before


@pytest.mark.slow
@pytest.mark.parametrize("how", ["stopped", "frozen"])
def test_redis_away_holds_no_scrape_up(
    tmp_path: Path, redis_fresh: Callable[..., RedisServer], how: str
) -> None:
    """
    Where Redis has gone or hangs, a scrape takes little over two seconds and leaves its memory out.
    """
    server = redis_fresh()
    project = project_of(tmp_path, server.url)
    assert project.run("backfill", "user_profiles").exit == 3
    pid = int(server.client().info("server")["process_id"])
    if how == "stopped":
        server.stop()
    else:
        os.kill(pid, signal.SIGSTOP)
    try:
        with serving(project) as served:
            started = time.monotonic()
            found = served.series()
            took = time.monotonic() - started
            assert served.ask("/healthz").status == 200
    finally:
        if how == "frozen":
            os.kill(pid, signal.SIGCONT)

    assert took < DEADLINE_S + 1
    assert found[key("redis_up", redis="target")] == 0
    assert key("redis_memory_used_bytes", redis="target") not in found
    assert found[key("collector_errors_total", store="target")] == 1
    assert found[key("ledger_up")] == 1
    assert found[of("rows_done")] > 0


@pytest.fixture
def on_postgres(tmp_path: Path, redis_server: RedisServer, postgres: PostgresDatabase) -> Project:
    """
    A project whose ledger is a database of its own on a server.
    """
    project = project_of(tmp_path, redis_server.url)
    project.configure(extra=f'ledger: {{url: "{postgres.url}", retry_for: 2s}}')
    return project


@pytest.mark.slow
def test_a_ledger_on_a_server_is_served(on_postgres: Project, postgres: PostgresDatabase) -> None:
    """
    The same as from a file; a ledger that lets askers wait is a timeout, and both faces agree.
    """
    with serving(on_postgres) as served:
        assert served.ask("/healthz").body == "ledger-missing\n"
        assert on_postgres.run("backfill", "user_profiles").exit == 3
        wait_until(lambda: served.ask("/healthz").status == 200, "good health", timeout_s=30)
        assert states(served.series()) == {"complete"}
        assert served.series()[of("run_exit_code")] == 3

        with postgres.connect() as other, other.transaction():
            other.execute("LOCK TABLE migrate_run IN ACCESS EXCLUSIVE MODE")
            wait_until(lambda: served.ask("/healthz").status == 503, "bad health", timeout_s=30)
            started = time.monotonic()
            reply = served.ask("/healthz")
            assert (reply.status, reply.body) == (503, "timeout\n")
            assert time.monotonic() - started < DEADLINE_S + 1
        wait_until(lambda: served.ask("/healthz").status == 200, "good health", timeout_s=30)


@pytest.mark.slow
def test_a_ledger_server_that_is_gone_is_told(
    on_postgres: Project, postgres: PostgresDatabase
) -> None:
    """
    A server that was stopped is one word; started again, all is served again.
    """
    assert on_postgres.run("backfill", "user_profiles").exit == 3
    with serving(on_postgres) as served:
        assert served.ask("/healthz").status == 200
        postgres.server.stop()
        try:
            wait_until(lambda: served.ask("/healthz").status == 503, "bad health", timeout_s=30)
            assert served.ask("/healthz").body == "ledger-unavailable\n"
            assert served.series()[key("ledger_up")] == 0
            assert postgres.server.password not in served.ask("/").body
        finally:
            postgres.server.start()
        wait_until(lambda: served.ask("/healthz").status == 200, "good health", timeout_s=30)
        assert states(served.series()) == {"complete"}


@pytest.mark.containers
def test_a_cluster_is_served(tmp_path: Path, redis_cluster: RedisCluster) -> None:
    """
    The memory is that of the fullest master; after a failover it is found again.
    """
    project = project_of(tmp_path, "")
    project.configure(redis_keys=redis_cluster.yaml, retry_for="60s")
    assert project.run("backfill", "user_profiles").exit == 3
    with serving(project) as served:
        found = served.series()
        assert found[key("redis_up", redis="target")] == 1
        assert found[key("redis_memory_used_bytes", redis="target")] > 0

        redis_cluster.wait_until_replicated()
        redis_cluster.fail_over(redis_cluster.masters[0])
        wait_until(lambda: _redis_is_up(served), "Redis to be found again", timeout_s=60)
        assert served.ask("/healthz").status == 200


@pytest.mark.containers
def test_a_master_behind_sentinels_is_served(tmp_path: Path, redis_sentinel: SentinelGroup) -> None:
    """
    The master is found through its sentinels, before a failover and after it.
    """
    project = project_of(tmp_path, "")
    project.configure(redis_keys=redis_sentinel.yaml, retry_for="60s")
    assert project.run("backfill", "user_profiles").exit == 3
    with serving(project) as served:
        found = served.series()
        assert found[key("redis_up", redis="target")] == 1
        assert found[key("redis_memory_used_bytes", redis="target")] > 0

        redis_sentinel.fail_over("main")
        wait_until(lambda: _redis_is_up(served), "Redis to be found again", timeout_s=60)
        assert served.ask("/healthz").status == 200


def _redis_is_up(served: Served) -> bool:
    return served.series()[key("redis_up", redis="target")] == 1


# --- requests ------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/metrics", "/healthz"])
def test_head_is_get_without_a_body(served: Served, path: str) -> None:
    """
    HEAD has the status and the headers of GET, and no body.
    """
    whole, head = served.ask(path), served.ask(path, "HEAD")

    assert (head.status, head.body) == (200, "")
    assert head.headers["Content-Type"] == whole.headers["Content-Type"]
    assert int(head.headers["Content-Length"]) > 0
    assert whole.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PURGE"])
def test_other_methods_are_refused(served: Served, method: str) -> None:
    """
    Nothing but GET and HEAD is taken, on no path.
    """
    for path in ("/", "/metrics", "/nowhere"):
        reply = served.ask(path, method)

        assert (reply.status, reply.headers["Allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize(
    "path",
    [
        "/nowhere",
        "/metrics/",
        "/metrics/../healthz",
        "/../../../../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/migrate.yaml",
        "/.profile-migrate/ledger.db",
        "/metrics%00",
        "/<script>alert(1)</script>",
        f"/{CANARY}",
        "http://example.com/metrics",
        "*",
    ],
)
def test_other_paths_are_not_there(served: Served, path: str) -> None:
    """
    Only the three paths exist, and an answer repeats nothing of a request.
    """
    reply = served.raw(f"GET {path} HTTP/1.0\r\n\r\n".encode())

    assert b" 404 " in reply.splitlines()[0]
    assert reply.endswith(b"\r\n\r\nThere is nothing here.\n")


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /" + b"a" * 70_000 + b" HTTP/1.0\r\n\r\n", b"414"),
        (b"GET /metrics HTTP/1.0\r\nA: " + b"a" * 70_000 + b"\r\n\r\n", b"431"),
        (b"GET /metrics HTTP/9.9\r\n\r\n", b"505"),
        (b"GET /metrics nonsense\r\n\r\n", b"400"),
        (CANARY.encode() + b"\x00\xff / HTTP/1.0\r\n\r\n", b"405"),
    ],
)
def test_broken_requests_are_refused(served: Served, request_: bytes, status: bytes) -> None:
    """
    A request that is none gets a short refusal in our words, and the server goes on.
    """
    reply = served.raw(request_)

    assert status in reply.splitlines()[0]
    assert CANARY.encode() not in reply
    assert served.ask("/healthz").status == 200


HOSTS = {
    "localhost:8765": 200,
    "LOCALHOST": 200,
    "127.0.0.1": 200,
    "[::1]:1": 200,
    "evil.example": 421,
    "127.0.0.1.evil.example": 421,
    "evil.example@127.0.0.1": 421,
    "127.0.0.1, evil.example": 421,
    "10.0.0.1:8765": 421,
    "2130706433": 421,
    "[::1": 421,
    "": 421,
}
"""Names that a request may ask for, and how it is answered."""


def test_a_foreign_name_gets_no_answer(served: Served) -> None:
    """
    A web page that gives its own name our address reads nothing.
    """
    for host, status in HOSTS.items():
        reply = served.ask("/metrics", Host=host)

        assert reply.status == status, host
        assert ("rows_done" in reply.body) == (status == 200), host


def test_two_names_get_no_answer(served: Served) -> None:
    """
    Of two names both must be ours, whichever comes first.
    """
    for first, second in (("127.0.0.1", "evil.example"), ("evil.example", "127.0.0.1")):
        lines = f"GET /metrics HTTP/1.1\r\nHost: {first}\r\nHost: {second}\r\n\r\n"
        assert b" 421 " in served.raw(lines.encode()).splitlines()[0]


def test_a_silent_client_holds_nobody_up(served: Served) -> None:
    """
    Connections that say nothing leave the others their answers.
    """
    silent = [socket.create_connection(("127.0.0.1", served.port)) for _ in range(20)]
    try:
        assert served.ask("/healthz").status == 200
    finally:
        for connection in silent:
            connection.close()


@contextmanager
def answering(monkeypatch: pytest.MonkeyPatch, **limits: float) -> Iterator[LoopbackServer]:
    """
    A server of one path in this process, with other limits than the real ones.
    """
    for name, value in limits.items():
        monkeypatch.setattr(serving_module, name, value)
    ended = threading.Event()

    def between() -> None:
        if ended.is_set():
            raise InterruptedError

    server = LoopbackServer(("127.0.0.1", 0), {"/": lambda: Answer("ok\n")}, between)

    def run() -> None:
        with suppress(InterruptedError):
            server.serve_forever(poll_interval=0.05)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield server
    finally:
        ended.set()
        thread.join(30)
        server.server_close()


def test_clients_that_drip_bytes_hold_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A connection ends after its time, however busy, and whoever waited for its turn is answered.
    """
    drippers = 6
    with answering(monkeypatch, AT_ONCE=drippers, LIMIT_S=0.5, PATIENCE_S=30) as server:
        ended = threading.Event()

        def drip() -> None:
            with socket.create_connection(("127.0.0.1", server.server_port)) as connection:
                connection.sendall(b"GET / HTTP/1.0\r\nA: ")
                with suppress(OSError):
                    while not ended.wait(0.02):
                        connection.sendall(b"a")

        with ThreadPoolExecutor(drippers) as pool:
            busy = [pool.submit(drip) for _ in range(drippers)]
            try:
                wait_until(lambda: server.connections == drippers, "all turns to be taken")
                late = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=20)
                with closing(late):
                    late.request("GET", "/")
                    assert late.getresponse().read() == b"ok\n"
                assert [one.result(30) for one in busy] == [None] * drippers
            finally:
                ended.set()


def test_a_client_without_a_turn_is_hung_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Where all turns are taken for longer than a client is asked to wait, it is sent away.
    """
    with answering(monkeypatch, AT_ONCE=1, LIMIT_S=60, PATIENCE_S=0.3) as server:
        monkeypatch.setattr(serving_module._Handler, "timeout", 60)
        with socket.create_connection(("127.0.0.1", server.server_port)):
            wait_until(lambda: server.connections == 1, "the turn to be taken")
            with socket.create_connection(("127.0.0.1", server.server_port), timeout=20) as late:
                assert late.recv(100) == b""


# --- the command ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["INT", "TERM"]
)
def test_signals_end_it(served: Served, number: signal.Signals, code: int) -> None:
    """
    Ctrl-C and SIGTERM end it as they end every command, whoever is connected, and free the port.
    """
    with socket.create_connection(("127.0.0.1", served.port)):
        served.process.send_signal(number)
        ended = until_exit(served.process, 30)

    assert (ended.exit, ended.out) == (code, "")
    assert ended.err.startswith("Stopped.")
    with socket.socket() as again:
        again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        again.bind(("127.0.0.1", served.port))


@pytest.mark.parametrize(
    "bind", ["0.0.0.0:8765", "[::]:8765", "192.0.2.1:80", "example.com:8765", "[::ffff:7f00:1]:1"]
)
def test_an_address_that_others_reach_is_refused(project: Project, bind: str) -> None:
    """
    Only loopback is served; the message says how others get there.
    """
    ended = project.run("serve", "--bind", bind)

    assert (ended.exit, ended.error) == (2, "usage")
    assert "reverse proxy" in ended.err
    assert "ssh -L" in ended.err


@pytest.mark.parametrize("bind", ["", "8765", "127.0.0.1", "127.0.0.1:", "127.0.0.1:99999", ":80"])
def test_an_address_that_is_none_is_refused(bind: str) -> None:
    """
    Half an address is not completed by guesses.
    """
    with pytest.raises(UsageProblem):
        parse_bind(bind)


@pytest.mark.parametrize(
    ("bind", "address"),
    [
        ("127.0.0.1:8765", ("127.0.0.1", 8765)),
        ("127.8.9.1:0", ("127.8.9.1", 0)),
        ("localhost:80", ("127.0.0.1", 80)),
        ("[::1]:8765", ("::1", 8765)),
    ],
)
def test_loopback_addresses_are_taken(bind: str, address: tuple[str, int]) -> None:
    """
    IPv4, IPv6 and the usual name.
    """
    assert parse_bind(bind) == address


def test_a_port_in_use_is_named(project: Project) -> None:
    """
    Where another program listens, the command says so and what to do.
    """
    with socket.create_server(("127.0.0.1", 0)) as other:
        ended = project.run("serve", "--bind", f"127.0.0.1:{other.getsockname()[1]}")

    assert (ended.exit, ended.error) == (2, "usage")
    assert "Another program listens at this address." in ended.err
    assert "EADDRINUSE" in ended.err


def test_secrets_stay_where_they_are(
    tmp_path: Path, redis_fresh: Callable[..., RedisServer]
) -> None:
    """
    No answer and no message holds a password, with Redis there and gone.
    """
    server = redis_fresh(requirepass=CANARY)
    project = project_of(tmp_path, server.url)
    assert CANARY in server.url
    assert project.run("backfill", "user_profiles").exit == 3
    with serving(project) as served:
        answers = [served.ask(path) for path in ("/", "/metrics", "/healthz", "/nowhere")]
        server.stop()
        answers += [served.ask(path) for path in ("/", "/metrics")]
        served.process.send_signal(signal.SIGTERM)
        ended = until_exit(served.process, 30)

    assert {answer.status for answer in answers} == {200, 404}
    assert CANARY not in "".join(f"{answer.body}{answer.headers}" for answer in answers)
    assert CANARY not in ended.err


# --- the page ------------------------------------------------------------------------------------


def test_the_page_shows_the_status(served: Served) -> None:
    """
    The page has what `status` shows, says how old it is, and loads nothing from anywhere.
    """
    [told] = served.project.run("status", "user_profiles", "--json").json["mappings"]

    reply = served.ask("/")

    assert reply.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in reply.headers["Content-Security-Policy"]
    for part in ("user_profiles", "complete", f"{told['run']['rows']:,} of", told["next"]):
        assert part in reply.body
    assert re.search(r"Read from the ledger \d+\.\d s ago \(<time>\d{4}-", reply.body)
    assert 'http-equiv="refresh"' in reply.body
    assert "color-scheme: light dark" in reply.body
    assert re.findall(r'(?:src|href)="?([^" >]+)', reply.body) == ["metrics", "healthz"]
    assert re.findall(r"<script|url\(|@import|https?://", reply.body) == []


def test_text_cannot_become_markup() -> None:
    """
    Whatever a name or a holder's command says is shown as text.
    """
    bad = "<img src=x onerror=alert(1)>\"'&\x1b[31m"
    holder = Holder(bad, bad, 1, bad, bad)
    look = Standing(bad, lock=Lock(bad, bad, holder, 0.0, 0.0), open_rejects={bad: 1})

    page = status_page(Seen([look], 100.0), version="1", now=101.0)

    assert "<img" not in page
    assert "\x1b" not in page
    assert "&lt;img src=x onerror=alert(1)&gt;" in page


def test_old_data_is_shown_as_old() -> None:
    """
    The page turns pale when what it shows is old, even where nothing else is wrong.
    """
    young = status_page(Seen([], 100.0), version="1", now=100.0 + OLD_S)
    old = status_page(Seen([], 100.0), version="1", now=101.0 + OLD_S)

    assert "class=old" not in young
    assert "class=old" in old
    assert "31 s ago" in old


# --- looks ---------------------------------------------------------------------------------------


def test_one_look_answers_many() -> None:
    """
    Askers of the same moment share one look, and later ones its result while it is fresh.
    """
    begun: list[int] = []
    go = threading.Event()

    def read() -> int:
        begun.append(1)
        go.wait(30)
        return len(begun)

    look = Look(read, wall=lambda: 7.0, deadline_s=30)
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(look.take) for _ in range(8)]
        go.set()
        assert {one.result() for one in asked} == {Seen(1, 7.0)}

    assert look.take() == Seen(1, 7.0)
    assert FRESH_S == 5.0


def test_a_look_that_hangs_is_not_waited_for() -> None:
    """
    An asker is told the past value after the deadline, and no second look begins beside the first.
    """
    begun: list[int] = []
    go = threading.Event()

    def read() -> int:
        begun.append(1)
        if len(begun) > 1:
            go.wait(30)
        return len(begun)

    look = Look(read, wall=lambda: 7.0, fresh_s=0, deadline_s=0.05)
    first = look.take()
    late = [look.take(), look.take()]
    go.set()

    assert first == Seen(1, 7.0)
    assert late == [Seen(1, 7.0, TIMEOUT)] * 2
    assert late[0].current is None
    assert (len(begun), look.errors) == (2, 1)


@pytest.mark.parametrize(
    ("error", "word"),
    [
        (Absent("ledger-missing"), "ledger-missing"),
        (LedgerUnavailable("gone"), "ledger-unavailable"),
        (ValueError(CANARY), "unexpected"),
    ],
)
def test_a_look_that_fails_is_one_word(error: Exception, word: str) -> None:
    """
    What is told of an error is a word of ours, never its text.
    """

    def read() -> int:
        raise error

    look = Look(read, wall=lambda: 7.0)

    assert look.take() == Seen(None, 0.0, word)
    assert look.errors == 1
