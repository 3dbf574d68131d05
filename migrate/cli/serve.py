"""
Metrics, health and a status page for this machine, from the ledger, until somebody ends it.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from http import HTTPStatus

import click

from migrate import __version__
from migrate.cli.context import AppContext, pass_app
from migrate.cli.options import Command
from migrate.cli.signals import StopFlag
from migrate.errors import UsageProblem
from migrate.ledger.access import open_ledger
from migrate.ledger.store import has_ledger
from migrate.model.settings import RedisConfig, SourceConfig
from migrate.ops.collector import Collector, LedgerLook
from migrate.ops.looks import DEADLINE_S, Absent, Look
from migrate.ops.pages import status_page
from migrate.ops.serving import PLAIN, Answer, LoopbackServer, Routes, is_loopback
from migrate.ops.standing import Standing, standing
from migrate.target.health import Signals
from migrate.target.store import RedisTarget

DEFAULT_BIND = "127.0.0.1:8765"
TARGET = "target"
REPLY_S = 1.0
"""How long Redis may take for one reply: it is asked several things within the deadline."""

METRICS = "text/plain; version=0.0.4; charset=utf-8"
HTML = "text/html; charset=utf-8"


@click.command(cls=Command)
@click.option(
    "--bind",
    default=DEFAULT_BIND,
    show_default=True,
    metavar="HOST:PORT",
    help="Loopback address to listen at; port 0 takes a free one.",
)
@pass_app
def serve(app: AppContext, *, bind: str) -> None:
    r"""
    Serve metrics, a health check and a status page to this machine.

    Reads the ledger and the memory of Redis, and changes neither. Paths: /metrics for Prometheus,
    /healthz, and / for people. Ends with Ctrl-C or SIGTERM.

    \b
    Examples:
      profile-migrate serve
      profile-migrate serve --bind 127.0.0.1:9100
    """
    address = parse_bind(bind)
    names, max_age_s = sorted(app.mappings), app.settings.gates.verification_max_age_s
    collector = Collector(
        LedgerLook(_ledger_reader(app.settings.ledger, names, max_age_s), wall=time.time),
        Look(_memory_reader(app.settings.redis[TARGET]), wall=time.time),
        version=__version__,
        redis=TARGET,
        throttle=app.settings.throttle.redis_memory,
        max_age_s=max_age_s,
    )
    routes = _routes(app, collector)
    # The flag is looked at twice a second: where a signal comes to another thread, it wakes nobody.
    with StopFlag(announce="") as stop, _listening(address, routes, stop) as server:
        app.say(f"Serving {server.url} to this machine; Ctrl-C ends it.")
        server.serve_forever()


def parse_bind(bind: str) -> tuple[str, int]:
    """
    Host and port to listen at.

    Raises:
        UsageProblem: It is no address, or one that other machines can reach.
    """
    host, _, port = bind.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not (port.isascii() and port.isdecimal()) or int(port) > 65535:
        raise UsageProblem(
            "The address to listen at is not understood.",
            where={"bind": bind},
            next_step=f"Give it as HOST:PORT, for example --bind {DEFAULT_BIND}.",
        )
    host = "127.0.0.1" if host == "localhost" else host
    if not is_loopback(host):
        raise UsageProblem(
            "Only a loopback address is served: there is neither a login nor encryption.",
            where={"bind": bind},
            next_step=f"Serve {DEFAULT_BIND}, and reach it from other machines through a reverse "
            "proxy with a login, or by ssh -L 8765:127.0.0.1:8765 HOST.",
        )
    return host, int(port)


def _listening(address: tuple[str, int], routes: Routes, stop: StopFlag) -> LoopbackServer:
    try:
        return LoopbackServer(address, routes, stop.raise_if_requested)
    except OSError as error:
        in_use = error.errno == errno.EADDRINUSE
        raise UsageProblem(
            "Another program listens at this address."
            if in_use
            else "This address cannot be listened at.",
            where={
                "bind": f"{address[0]}:{address[1]}",
                "reason": errno.errorcode.get(error.errno or 0, "unknown"),
            },
            next_step="End that program, or choose another port: --bind 127.0.0.1:8766.",
        ) from None


def _routes(app: AppContext, collector: Collector) -> Routes:
    def metrics() -> Answer:
        return Answer(collector.text(time.time()), METRICS)

    def healthz() -> Answer:
        problem = collector.standing().problem
        status = HTTPStatus.SERVICE_UNAVAILABLE if problem else HTTPStatus.OK
        return Answer(f"{problem or 'ok'}\n", PLAIN, status)

    def page() -> Answer:
        text = status_page(collector.standing(), version=__version__, now=time.time())
        return Answer(app.redact(text), HTML)

    return {"/": page, "/metrics": metrics, "/healthz": healthz}


def _ledger_reader(
    config: SourceConfig, names: Sequence[str], max_age_s: float
) -> Callable[[], Sequence[Standing]]:
    # One try: who asks for metrics will ask again.
    once = replace(config, retry_for_s=0.0)
    if once.dialect == "postgresql":
        options = {"connect_timeout": str(round(DEADLINE_S)), **once.options}
        once = replace(once, options=options)

    def read() -> Sequence[Standing]:
        # Opened each time: a file that was moved away goes on to be read by who has it open.
        if not has_ledger(once, sleep=time.sleep):
            raise Absent("ledger-missing")
        with closing(open_ledger(once, wall=time.time)) as ledger:
            return [standing(ledger, name, max_age_s=max_age_s, now=time.time()) for name in names]

    return read


def _memory_reader(config: RedisConfig) -> Callable[[], Signals]:
    once = replace(config, timeout_s=min(config.timeout_s, REPLY_S), retry_for_s=0.0)

    def read() -> Signals:
        with closing(RedisTarget.open(once)) as target:
            return target.signals()

    return read
