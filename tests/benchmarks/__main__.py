"""
`make bench`: measures, prints tables, and leaves a JSON file and a chart.
"""

from __future__ import annotations

import json
import re
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from migrate.ops.tables import table
from tests.benchmarks import beside, machine, parts, report
from tests.benchmarks.chart import ratio
from tests.benchmarks.data import DIALECTS
from tests.benchmarks.measured import Measured, Watched
from tests.benchmarks.processes import Failed
from tests.benchmarks.ratios import ratios
from tests.benchmarks.servers import (
    MARIADB_SETTINGS,
    POSTGRES_SETTINGS,
    REDIS_SETTINGS,
    Servers,
    running,
)
from tests.servers import Missing

PARTS = ("loads", "shapes", "sizes", "client")

TITLES = {
    "loads": "the same profiles, every way",
    "shapes": "other shapes",
    "sizes": "other sizes",
    "client": "a second client",
}


def _listed(known: tuple[str, ...]) -> Callable[[Any, Any, str], list[str]]:
    def check(context: Any, parameter: Any, value: str) -> list[str]:
        names = [name for name in value.split(",") if name]
        if unknown := [name for name in names if name not in known]:
            raise click.BadParameter(f"unknown: {', '.join(unknown)}; known: {', '.join(known)}")
        return names

    return check


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--rows",
    default=1_000_000,
    show_default=True,
    type=click.IntRange(10),
    help="Profiles; the other tables follow: 0.1 times as many wide rows, 0.3 and 3 times as many "
    "for the sizes.",
)
@click.option(
    "--rounds",
    default=3,
    show_default=True,
    type=click.IntRange(1),
    help="How often everything is measured; the figures are medians.",
)
@click.option(
    "--parts",
    "wanted",
    default=",".join(PARTS),
    show_default=True,
    callback=_listed(PARTS),
    help="Which parts, separated by commas.",
)
@click.option(
    "--sources",
    default=",".join(DIALECTS),
    show_default=True,
    callback=_listed(tuple(DIALECTS)),
    help="Which databases, separated by commas; sizes and client use the first.",
)
@click.option(
    "--only",
    default="",
    metavar="REGEX",
    help="Only what has a name that this matches, such as 'ready|ours-postgresql'.",
)
@click.option(
    "--out", default="build/bench", show_default=True, type=click.Path(path_type=Path),
    help="Folder of the result, and of what is installed for contenders.",
)  # fmt: skip
def main(
    rows: int, rounds: int, wanted: list[str], sources: list[str], only: str, out: Path
) -> None:
    """
    Measure how fast this machine loads and verifies profiles, ours and other ways side by side.
    """
    # Servers are ended on the way out, however the way out is taken.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    out.mkdir(parents=True, exist_ok=True)
    options = {"rows": rows, "rounds": rounds, "parts": wanted, "sources": sources, "only": only}
    document: dict[str, Any] = {
        "format": 1,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": machine.commit(),
        "options": options,
        "broken": {},
        "machine": machine.machine(),
        "connection": "TCP on 127.0.0.1, without TLS, for every contender and every server",
        "settings": {
            "redis": REDIS_SETTINGS,
            "postgresql": POSTGRES_SETTINGS,
            "mariadb": MARIADB_SETTINGS,
        },
    }
    if machine.busy(document["machine"]):
        click.echo("This machine is busy with something else: the figures will say little.")
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="profile-migrate-bench-") as temporary:
        folder = Path(temporary)
        try:
            with running(folder, sources) as servers:
                bench = parts.Bench(
                    servers, folder, out.resolve(), rows, rounds,
                    lambda name: re.search(only, name) is not None, click.echo,
                )  # fmt: skip
                _measure(bench, wanted, out, document)
        except Missing as missing:
            raise click.ClickException(str(missing)) from None
    click.echo(f"\nall of it took {(time.perf_counter() - began) / 60:.0f} min: {out}")
    if document["broken"]:
        sys.exit(1)


def _measure(bench: parts.Bench, wanted: list[str], out: Path, document: dict[str, Any]) -> None:
    runs: dict[str, Callable[[parts.Bench], list[Any]]] = {
        "loads": parts.loads,
        "shapes": parts.shapes,
        "sizes": parts.sizes,
        "client": beside.second_client,
    }
    if not bench.servers.databases:
        raise Missing("There is no database to copy from: " + " ".join(bench.servers.absent))
    click.echo(f"making the data: {bench.rows:,} profiles, and what belongs to them")
    parts.make_data(bench)
    found: dict[str, list[Any]] = {}
    for name in wanted:
        click.echo(f"\n{TITLES[name]}")
        try:
            found[name] = runs[name](bench)
        except Failed as failed:
            document["broken"][name] = str(failed)
            click.echo(f"  broken off: {failed}")
        # What was measured is not lost when a later part is interrupted.
        _keep(found, bench.servers, out, document)
    _tell(found, bench.servers)


def _keep(
    found: dict[str, list[Any]], servers: Servers, out: Path, document: dict[str, Any]
) -> None:
    document["versions"] = {**servers.versions, **machine.libraries()}
    document["absent"] = list(dict.fromkeys(servers.absent))
    document["ratios"] = {title: round(value, 3) for title, value in ratios(found)}
    document["parts"] = {
        name: [one.as_json() for one in measured] for name, measured in found.items()
    }
    text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    (out / "bench.json").write_text(text, encoding="utf-8")
    if "loads" in found:
        (out / "bench.svg").write_text(report.chart(found["loads"], document), encoding="utf-8")


def _tell(found: dict[str, list[Any]], servers: Servers) -> None:
    measure = report.measure_of(_all(found))
    for name, measured in found.items():
        click.echo(f"\n{TITLES[name]}\n")
        if name == "client":
            watched: list[Watched] = measured
            click.echo(report.watched(watched))
        else:
            click.echo(report.rates(measured, measure))
    click.echo("\nratios of medians\n")
    lines = [(title, ratio(value, 1)) for title, value in ratios(found)]
    click.echo(table(("", "ratio"), lines, align="lr"))
    if any(one.counts and one.is_mostly_start_up for one in _all(found)):
        click.echo("\n~ was mostly start-up: its rate, and every ratio to it, says nothing.")
    for one in _all(found):
        if one.failed:
            click.echo(f"\n{one.title} does not count: {one.failed}")
    for missing in dict.fromkeys(servers.absent):
        click.echo(f"\nleft out: {missing}")


def _all(found: dict[str, list[Any]]) -> list[Measured]:
    return [one for measured in found.values() for one in measured if isinstance(one, Measured)]


if __name__ == "__main__":
    main()
