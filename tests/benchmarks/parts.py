"""
The parts of a measurement: loads side by side, other shapes, other sizes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from tests.benchmarks import data
from tests.benchmarks.contenders import (
    PROFILES,
    TITLES,
    Contender,
    all_contenders,
    ready_file,
)
from tests.benchmarks.data import ONE, create, tables, warm
from tests.benchmarks.measured import Measured
from tests.benchmarks.ours import FLAT, NESTED, Ours
from tests.benchmarks.processes import Failed, Took
from tests.benchmarks.records import Different, Expected, expected, write_ready
from tests.benchmarks.servers import Servers

LEVELS = ("full", "deep")

ONCE_ABOVE_S = 30.0
"""A load that took longer is not repeated in further rounds."""

WORKERS = 2
"""Of what does not compare numbers of workers."""

Say = Callable[[str], None]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Bench:
    """
    What all parts work with.

    Args:
        rows: Of the profiles; the other tables follow from it.

        chosen: Whether a contender of this name is wanted.
    """

    servers: Servers
    folder: Path
    venvs: Path
    rows: int
    rounds: int
    chosen: Callable[[str], bool]
    say: Say

    def ours(self, name: str, dialect: str, *, workers: int = WORKERS, mapping: str = FLAT) -> Ours:
        """
        profile-migrate from this database, in a folder of this name.
        """
        database = self.servers.databases[dialect]
        url = self.servers.redis.url
        return Ours(self.folder / name, database, url, workers, mapping=mapping)


def alternating(values: Sequence[T], rounds: int) -> Iterator[tuple[int, T]]:
    """
    All of them in each round; every second round goes backwards, so that nobody is always first.
    """
    for number in range(rounds):
        for value in values if number % 2 == 0 else reversed(values):
            yield number, value


def make_data(bench: Bench) -> None:
    """
    Make and read every table on every server.
    """
    wanted = {table.name: table for table in tables(bench.rows)}
    for number, (dialect, database) in enumerate(bench.servers.databases.items()):
        began = time.perf_counter()
        # Other sizes are measured from one database.
        more = {} if number else {table.name: table for table in data.sizes(bench.rows)}
        for table in {**wanted, **more}.values():
            create(database, table)
        for name in (PROFILES, "narrow", *more):
            warm(database, name)
        bench.say(f"  {dialect}: made in {time.perf_counter() - began:.0f} s")


def loads(bench: Bench) -> list[Measured]:
    """
    Every contender in every round, and verifications of what ours have loaded.
    """
    contenders = all_contenders(bench.servers, bench.folder, bench.venvs)
    wanted = _prepare(bench, next(c.ours for c in contenders if c.ours))
    chosen = [contender for contender in contenders if bench.chosen(contender.name)]
    lines = [_Line(bench, contender, wanted) for contender in chosen]
    for number, line in alternating(lines, bench.rounds):
        if not line.load.failed and not line.is_slow:
            line.run()
            bench.say(f"  round {number + 1}: {line.told()}")
    return [line.load for line in lines] + [
        verified for line in lines for verified in line.verified.values()
    ]


def _prepare(bench: Bench, ours: Ours) -> Expected:
    """
    Load once with ours, outside the rounds: what it leaves becomes the ready file.
    """
    server = bench.servers.redis
    for table, rows in ((ONE, 1), (PROFILES, bench.rows)):
        bench.servers.empty()
        ours.backfill(table)
        wanted = expected(server.client(socket_timeout=120), rows)
        write_ready(server.client(socket_timeout=120), rows, ready_file(bench.folder, table))
    # While the disk is still written to, whoever is first is slower.
    os.sync()
    server.close_clients()
    return wanted


class _Line:
    """
    One contender in the comparison, and what was measured of it.
    """

    def __init__(self, bench: Bench, contender: Contender, wanted: Expected) -> None:
        self._bench = bench
        self._contender = contender
        self._wanted = wanted
        self.load = Measured(contender.name, contender.title, bench.rows)
        self.verified: dict[str, Measured] = {}
        # The setting `bulk` says how a backfill writes, not how anything is verified.
        if contender.ours and not contender.plain:
            self.verified = {
                level: Measured(
                    f"verify-{level}-{contender.name}",
                    contender.title.replace("profile-migrate", f"profile-migrate verify {level}"),
                    bench.rows,
                )
                for level in LEVELS
            }

    def run(self) -> None:
        """
        Load and check, first one row and then all, and verify what ours have loaded.
        """
        try:
            self.load.start_ups.append(self._one(ONE))
            self._verify(lambda measured: measured.start_ups)
            self.load.rounds.append(self._one(PROFILES))
            server = self._bench.servers.redis
            self._wanted.check(server.client(socket_timeout=120), marked=self._contender.marked)
            server.close_clients()
            self._verify(lambda measured: measured.rounds)
        except (Failed, Different) as failed:
            self.load.fail(failed)

    @property
    def is_slow(self) -> bool:
        """
        Whether one round is enough: what takes so long is many times slower, whatever the round.
        """
        return any(took.seconds > ONCE_ABOVE_S for took in self.load.rounds)

    def told(self) -> str:
        """
        The last round in one line.
        """
        if self.load.failed:
            return f"{self._contender.name}: does not count: {self.load.failed}"
        parts = [f"{self._contender.name}: {self.load.rates[-1]:,.0f} rows/s"]
        parts += [
            f"{level} {measured.rates[-1]:,.0f}"
            for level, measured in self.verified.items()
            if measured.counts
        ]
        return ", ".join(parts)

    def _one(self, table: str) -> Took:
        self._bench.servers.empty()
        return self._contender.load(table)

    def _verify(self, where: Callable[[Measured], list[Took]]) -> None:
        for level, measured in self.verified.items():
            if measured.failed or self._contender.ours is None:
                continue
            try:
                where(measured).append(self._contender.ours.verify(level))
            except Failed as failed:
                measured.fail(failed)


@dataclass(frozen=True, slots=True)
class _Run:
    """
    One backfill of ours that is repeated in each round.
    """

    measured: Measured
    ours: Ours
    table: str

    def once(self, bench: Bench, *, check: bool) -> None:
        """
        Measure a round, and its start-up.
        """
        try:
            bench.servers.empty()
            self.measured.start_ups.append(self.ours.backfill(ONE))
            bench.servers.empty()
            self.measured.rounds.append(self.ours.backfill(self.table))
            if check:
                self.ours.verify("full")
        except Failed as failed:
            self.measured.fail(failed)
        told = self.measured.failed or f"{self.measured.rates[-1]:,.0f} rows/s"
        bench.say(f"  {self.measured.name}: {told}")


def shapes(bench: Bench) -> list[Measured]:
    """
    Two child tables, sixty columns and three, beside the flat profiles, from every database.
    """
    rows = {table.name: table.rows for table in tables(bench.rows)}
    found = []
    for dialect in bench.servers.databases:
        for name, title, table, mapping in (
            ("flat", "11 columns", PROFILES, FLAT),
            ("children", "11 columns, two child tables", PROFILES, NESTED),
            ("wide", "60 columns", "wide", FLAT),
            ("narrow", "3 columns", "narrow", FLAT),
        ):
            measured = Measured(f"{name}-{dialect}", f"{TITLES[dialect]}, {title}", rows[table])
            ours = bench.ours(measured.name, dialect, mapping=mapping)
            found.append(_Run(measured, ours, table))
    return _repeat(bench, found)


def sizes(bench: Bench) -> list[Measured]:
    """
    The same profiles at three tenths, once and three times as many rows.
    """
    dialect = next(iter(bench.servers.databases))
    found = []
    for table in data.sizes(bench.rows):
        measured = Measured(table.name, f"{TITLES[dialect]}, {table.rows:,} rows", table.rows)
        found.append(_Run(measured, bench.ours(f"size-{table.name}", dialect), table.name))
    return _repeat(bench, found)


def _repeat(bench: Bench, runs: Sequence[_Run]) -> list[Measured]:
    chosen = [run for run in runs if bench.chosen(run.measured.name)]
    for number, run in alternating(chosen, bench.rounds):
        if not run.measured.failed:
            run.once(bench, check=number == 0)
    return [run.measured for run in chosen]
