"""
The parts of `make bench` that are values: statistics, the chart, and the comparison of records.

No time is asserted here or there.
"""

from __future__ import annotations

import re
import socket
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from migrate.mapping.files import load
from tests.benchmarks import chart, processes, resp
from tests.benchmarks.chart import Bar, bars
from tests.benchmarks.data import PROFILE, WIDE, Table, create, key_of, sizes, tables
from tests.benchmarks.figures import median, net, percentile, spread, with_unsent
from tests.benchmarks.measured import Measured, Watched
from tests.benchmarks.ours import FLAT, NESTED
from tests.benchmarks.parts import alternating
from tests.benchmarks.processes import Failed, Took
from tests.benchmarks.ratios import ratios
from tests.benchmarks.records import Different, expected, write_ready
from tests.benchmarks.report import charted
from tests.benchmarks.servers import version_of
from tests.servers import RedisServer, SqliteDatabase

SVG = "{http://www.w3.org/2000/svg}"


def test_percentiles_are_by_nearest_rank():
    """
    The p99 of a hundred values is the ninety-ninth, and one value is every percentile.
    """
    assert percentile(range(1, 101), 0.99) == 99
    assert percentile(range(1, 101), 0.5) == 50
    assert percentile([7.0], 0.99) == 7.0
    with pytest.raises(ValueError, match="nothing"):
        percentile([], 0.5)


def test_an_answer_that_holds_up_the_client_counts_for_the_requests_it_held_up():
    """
    One answer of 10 ms at a request every 3 ms is seen as 10, 7, 4 and 1 ms.
    """
    assert with_unsent([0.010], 0.003) == pytest.approx([0.010, 0.007, 0.004, 0.001])
    assert with_unsent([0.001, 0.002], 0.003) == [0.001, 0.002]


def test_start_up_is_taken_off_and_never_leaves_nothing():
    """
    Ten seconds with one of start-up are nine, and one with two is a hundredth, not less than zero.
    """
    assert net(10.0, 1.0) == 9.0
    assert net(1.0, 2.0) == 0.01
    assert spread([9.0, 10.0, 12.0]) == pytest.approx(0.3)
    assert median([3.0, 1.0, 2.0]) == 2.0


def test_figures_of_a_contender_are_medians_of_its_rounds():
    """
    Rates are taken without the median start-up, and with it, and the highest peak is kept.
    """
    one = Measured("x", "X", 1_000)
    one.start_ups = [Took(seconds, 0.0, None, "") for seconds in (1.0, 1.0, 7.0)]
    one.rounds = [Took(s, 0.5, peak, "") for s, peak in ((2.0, 10), (3.0, 30), (11.0, None))]
    told = one.as_json()
    assert one.counts
    assert told["rows_per_second"] == 500
    assert told["rows_per_second_with_start_up"] == 333
    assert told["start_up_s"] == 1.0
    assert not told["is_mostly_start_up"]
    assert told["peak_kb"] == 30
    assert [taken["seconds"] for taken in told["rounds"]] == [2.0, 3.0, 11.0]


def test_who_fails_has_no_figures():
    """
    A contender that loaded something else keeps its rounds in the JSON, and counts no more.
    """
    one = Measured("x", "X", 10, rounds=[Took(1.0, 0.0, None, "")])
    one.fail(Different("left 9 keys where 10 are expected"))
    assert not one.counts
    assert one.as_json()["failed"] == "left 9 keys where 10 are expected"
    assert "rows_per_second" not in one.as_json()


def test_the_second_client_keeps_each_rounds_p99():
    """
    Milliseconds, a value a round, and the median of them.
    """
    seen = Watched("idle", "nothing else runs")
    for slow in (0.002, 0.004, 0.003):
        seen.add([0.001] * 50 + [slow] * 50, 1.0, None)
    assert seen.p99_ms == pytest.approx([2.0, 4.0, 3.0])
    assert seen.p99 == pytest.approx(3.0)
    assert seen.rate is None


def _at(name: str, rate: float, peak_kb: int | None = None) -> Measured:
    took = Took(1_000 / rate, 0.0, peak_kb, "")
    return Measured(name, name, 1_000, [took], [Took(0.0, 0.0, None, "")])


def test_ratios_are_drawn_from_what_ran():
    """
    The fastest number of workers counts, the plain path does not, and what is absent has no ratio.
    """
    found = {
        "loads": [
            _at("ready", 100.0), _at("ours-postgresql-1", 110.0), _at("ours-postgresql-2", 150.0),
            _at("ours-postgresql-2-plain", 999.0), _at("ours-sqlite-1", 75.0),
            _at("verify-full-ours-postgresql-2", 300.0),
        ],
        "sizes": [_at("profiles_small", 100.0, 10), _at("profiles_large", 80.0, 11)],
    }  # fmt: skip
    compared = "at 1,000 rows : at 1,000"
    assert dict(ratios(found)) == pytest.approx(
        {
            "backfill from PostgreSQL : redis-cli --pipe, ready file": 1.5,
            "backfill from SQLite : from PostgreSQL": 0.5,
            "verify full : backfill, PostgreSQL": 2.0,
            f"cost a row {compared}": 1.25,
            f"peak memory {compared}": 1.1,
        }
    )


def test_the_chart_shows_all_others_and_the_best_of_ours():
    """
    One bar a database, one for the plain path, one for each level of verification, fastest first.
    """
    found = [
        _at("ready", 100.0), _at("psql", 50.0),
        _at("ours-postgresql-1", 110.0), _at("ours-postgresql-2", 150.0),
        _at("ours-postgresql-2-plain", 20.0), _at("ours-sqlite-1", 75.0),
        _at("ours-sqlite-2-plain", 10.0), _at("verify-full-ours-postgresql-2", 300.0),
        _at("verify-full-ours-sqlite-2", 200.0), Measured("datayoga", "datayoga", 10),
    ]  # fmt: skip
    assert [one.name for one in charted(found)] == [
        "verify-full-ours-postgresql-2", "ours-postgresql-2", "ready", "ours-sqlite-1", "psql",
        "ours-postgresql-2-plain",
    ]  # fmt: skip


def test_ratios_of_the_second_client_are_those_to_idle():
    """
    Each p99 against idle, and each throttled rate against the unthrottled.
    """
    found = []
    for where, calm in (("apart", 0.001), ("shared", 0.002)):
        idle, full, slow = (Watched(name, name, where) for name in ("idle", "full", "slow"))
        idle.add([calm], 1.0, None)
        full.add([0.004], 1.0, 100.0)
        slow.add([0.002], 1.0, 30.0)
        found += [idle, full, slow]
    assert dict(ratios({"client": found})) == pytest.approx(
        {
            "second client's p99, cores one for Redis, full : idle": 4.0,
            "second client's p99, cores one for Redis, slow : idle": 2.0,
            "backfill, cores one for Redis, slow : unthrottled": 0.3,
            "second client's p99, cores shared, full : idle": 2.0,
            "second client's p99, cores shared, slow : idle": 1.0,
            "backfill, cores shared, slow : unthrottled": 0.3,
        }
    )


def test_rounds_alternate():
    """
    Every second round goes backwards, so that nobody is always first.
    """
    assert list(alternating("abc", 2)) == [*((0, c) for c in "abc"), *((1, c) for c in "cba")]


def test_the_chart_is_one_inert_file_with_every_figure_in_words():
    """
    Well-formed, with title and description, no script, nothing from elsewhere, colours for both.
    """
    text = bars(
        "Rows <a second>", "2 cores & more", [Bar("ready", 100_000), Bar("ours", 130_000, True)],
        100_000,
    )  # fmt: skip
    root = ET.fromstring(text)  # noqa: S314 - we have just written it
    assert root.get("role") == "img"
    labels = str(root.get("aria-labelledby")).split()
    assert labels == [root.find(f"{SVG}title").get("id"), root.find(f"{SVG}desc").get("id")]
    assert root.findtext(f"{SVG}title") == "Rows <a second>"
    told = root.findtext(f"{SVG}desc")
    assert "ready: 100,000/s · 1.00" in told
    assert "ours: 130,000/s · 1.30" in told
    assert "prefers-color-scheme: dark" in text
    assert not re.search(r"<script|href|url\(|@import|on\w+=", text)


def test_bars_are_as_long_as_their_values_and_stay_inside():
    """
    Lengths are in the ratio of the values, and the longest leaves room for its figure.
    """
    text = bars("t", "n", [Bar("a", 50.0), Bar("b", 200.0)])
    found = ET.fromstring(text).findall(f"{SVG}rect")  # noqa: S314
    widths = [float(rect.get("width")) for rect in found]
    assert widths[1] == pytest.approx(4 * widths[0])
    assert chart.LABELS + widths[1] + chart.FIGURES <= chart.WIDTH
    assert "stroke-dasharray" not in text.split("</style>")[1]


def test_small_ratios_keep_two_digits():
    """
    0.013 is not told as 0.01.
    """
    assert chart.ratio(13, 1_000) == "0.013"
    assert chart.ratio(1_234, 1_000) == "1.23"


def test_the_tables_are_as_wide_as_they_are_called():
    """
    Eleven columns, sixty and three; sizes are three tenths, once and three times the rows.
    """
    made = {table.name: table for table in (*tables(1_000), *sizes(1_000))}
    assert len(PROFILE) == 11
    assert len(WIDE) == 60
    assert len(made["narrow"].columns) == 3
    assert [made[n].rows for n in ("profiles_small", "profiles", "profiles_large", "wide")] == [
        300, 1_000, 3_000, 100,
    ]  # fmt: skip


def test_rows_are_the_same_whatever_their_number(tmp_path: Path):
    """
    The first rows of a large table are those of a small one, and ids follow from their number.
    """
    database = SqliteDatabase(tmp_path / "bench.sqlite")
    create(database, Table("few", PROFILE, 10))
    create(database, Table("more", PROFILE, 100))
    for table in (*tables(20), *sizes(20)[::2]):
        create(database, table)
    few = database.query("SELECT * FROM few ORDER BY id")
    assert few == database.query("SELECT * FROM more ORDER BY id LIMIT 10")
    assert [row[0] for row in few] == [key_of(number) for number in range(1, 11)]
    size = sum(len(str(value).encode()) for row in few for value in row if value is not None)
    assert 250 < size / len(few) < 350


def test_both_mappings_are_accepted(tmp_path: Path):
    """
    The flat mapping and the one with two child tables are mappings of this version.
    """
    for name, text in (("flat", FLAT), ("nested", NESTED)):
        path = tmp_path / f"{name}.yaml"
        path.write_text(text.format(name=name, table="profiles"))
        assert set(load(path)) == {name}


def test_psql_prints_every_column_in_one_statement():
    """
    The recipe names each column once, counts bytes rather than letters, and skips a NULL.
    """
    usual, lean = resp.usual("profiles"), resp.lean("profiles")
    for name in PROFILE:
        assert usual.count(f"'$' || octet_length('{name}')") == 1
        assert lean.count(rf"\r\n${len(name)}\r\n{name}\r\n$") == 1
    for query in (usual, lean):
        assert query.count(";") == 1
        assert "octet_length" in query
        assert " length(" not in query
        assert "WHEN bio IS NULL THEN 22 ELSE 24" in query


def test_a_ready_file_makes_the_same_records_again(redis_server: RedisServer, tmp_path: Path):
    """
    What was written, wiped and sent again is found equal, and a changed field or key is not.
    """
    client = redis_server.client()
    for number in range(1, 6):
        fields = {"_v": "1", "_h": "ab", "name": f"Zoë {number}", "id": str(key_of(number))}
        client.hset(f"profile:{key_of(number)}", mapping=fields)
    client.set("profile-migrate:fence:profiles", "x")
    wanted = expected(client, 5)
    path = tmp_path / "ready.resp"
    write_ready(client, 5, path)
    client.flushall()
    with socket.create_connection((redis_server.host, redis_server.port)) as connection:
        connection.sendall(path.read_bytes())
        assert connection.makefile("rb").read(5 * len(b":4\r\n")) == b":4\r\n" * 5
    wanted.check(client, marked=True)

    client.hset("profile:3", "name", "someone else")
    with pytest.raises(Different, match="profile:3 differs in name"):
        wanted.check(client, marked=False)
    client.hset("profile:3", "name", "Zoë 1")
    client.hdel("profile:3", "_h")
    wanted.check(client, marked=False)
    with pytest.raises(Different, match="has no"):
        wanted.check(client, marked=True)
    client.delete("profile:6")
    with pytest.raises(Different, match="left 4 keys where 5 are expected"):
        wanted.check(client, marked=False)


def test_a_pipe_of_programs_is_run_to_its_end(tmp_path: Path):
    """
    What the last one prints is kept, and one that fails is told with what it said.
    """
    (tmp_path / "in").write_text("one\ntwo\n")
    python = sys.executable
    upper = [python, "-c", "import sys; print(sys.stdin.read().upper(), end='')"]
    took = processes.run(upper, upper, stdin=tmp_path / "in")
    assert took.out == "ONE\nTWO\n"
    assert took.seconds > 0
    with pytest.raises(Failed, match="no such thing"):
        processes.run([python, "-c", "raise SystemExit('no such thing')"])


def test_a_version_holds_no_path(tmp_path: Path) -> None:
    """
    A path may hold the name of a person, and results are handed on.
    """
    wrapper = tmp_path / "mariadbd"
    wrapper.write_text("#!/bin/sh\necho '/home/somebody/bin/mariadbd  Ver 10.11.18 for Linux'\n")
    wrapper.chmod(0o755)

    assert version_of(wrapper) == "mariadbd Ver 10.11.18 for Linux"
