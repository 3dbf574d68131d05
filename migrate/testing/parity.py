"""
The work behind `assert_parity`: configure, backfill, verify, and remove at the end.

It does what the commands do, by the same engines, with a ledger of the test's own.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any
from urllib.parse import quote

from migrate.config.layers import CONFIG_VARIABLE, DEFAULT_FILE
from migrate.config.load import load
from migrate.errors import ExitCode, MigrateError, TargetTaken, Unreachable, UsageProblem
from migrate.ledger.access import open_ledger
from migrate.ledger.store import Ledger
from migrate.mapping.choice import pick
from migrate.mapping.files import load as load_mappings
from migrate.mapping.values import Mapping
from migrate.model.events import Notify, Waiting
from migrate.model.secret import Redactor
from migrate.model.settings import DEFAULT_MAPPINGS, Settings, SourceConfig
from migrate.model.values import Reject
from migrate.model.verdict import Level
from migrate.ops.wording import as_text
from migrate.stages.purge import Purge
from migrate.testing import ParityBroken, ParityUnproven
from migrate.testing.text import SHOWN, broken
from migrate.workers.backfill import Backfill
from migrate.workers.backfill import Request as BackfillRequest
from migrate.workers.stopping import StoppableClock
from migrate.workers.verify import Verify
from migrate.workers.verify_job import Request

_LOG = logging.getLogger(__name__)

PATIENCE_S = 10.0
"""How long a test waits for a store that is away, at most: its servers should be up by then."""

_TAKEN = (
    "Give each test a Redis, or a database number, of its own, and empty what an earlier test left."
)


@dataclass(frozen=True, slots=True)
class Places:
    """
    Where the configuration may be named.

    Args:
        root: pytest's root folder, at which relative paths start.

        option: From the command line.

        ini: From pytest's configuration file.
    """

    root: Path
    option: Path | None = None
    ini: str | None = None

    def config(self, named: str | Path | None) -> Path | None:
        """
        The configuration file; None where the variable names it, or where there is none.
        """
        for one in (named, self.option, self.ini):
            if one:
                return self.root / one
        default = self.root / DEFAULT_FILE
        if os.environ.get(CONFIG_VARIABLE) or not os.path.lexists(default):
            return None
        return default


@dataclass(frozen=True, slots=True)
class _Written:
    """
    What a call has written, and is to be removed at the end.
    """

    settings: Settings
    mapping: Mapping


@dataclass(slots=True)
class Parity:
    """
    The `AssertParity` of one test.

    Args:
        folder: Makes an empty folder for what this test keeps.
    """

    places: Places
    folder: Callable[[], Path]
    _home: Path | None = None
    _written: dict[tuple[str, str], _Written] = field(default_factory=dict)

    def __call__(  # noqa: PLR0913 - see `AssertParity`
        self,
        mapping: str,
        *,
        config: str | Path | None = None,
        source: str | None = None,
        redis: str | None = None,
        level: str = "deep",
        sample: int | None = None,
        backfill: bool = True,
        workers: int = 1,
        purge: bool = True,
    ) -> dict[str, Any]:
        """
        See `AssertParity`.
        """
        __tracebackhide__ = True
        with _Told():
            request = _request(level, sample, workers)
            settings = self._settings(config, source, redis, own=backfill)
        redact, notify = Redactor.of(settings.secrets), _once()
        with _Told(redact):
            chosen = pick(load_mappings(Path(settings.mappings)), mapping)
            if backfill:
                self._keep(settings, chosen, purge=purge)
                _backfill(settings, chosen, workers, notify)
            result = _verify(settings, chosen, request, notify)
            if result["exit_code"] == ExitCode.DONE:
                return result
            rejects = _rejects(settings, mapping, notify)
        ledger = f"sqlite:///{settings.ledger.database}" if backfill else ""
        text = broken(result, rejects, written=backfill, ledger=ledger)
        raise ParityBroken(redact(text), result)

    def close(self) -> None:
        """
        Remove from Redis what the calls of this test wrote.

        Raises:
            ParityUnproven: Something of it had to stay.
        """
        __tracebackhide__ = True
        for one in self._written.values():
            with _Told(Redactor.of(one.settings.secrets)):
                _purge(one.settings, one.mapping, _once())

    # --- settings -------------------------------------------------------------------------------

    def _settings(
        self, config: str | Path | None, source: str | None, redis: str | None, *, own: bool
    ) -> Settings:
        given = {"source": source, "redis.target": redis}
        stores = {name: url for name, url in given.items() if url is not None}
        path = self.places.config(config)
        overrides = {}
        if path is None and not os.environ.get(CONFIG_VARIABLE):
            overrides["mappings"] = os.environ.get("PROFILE_MIGRATE_MAPPINGS") or str(
                self.places.root / DEFAULT_MAPPINGS
            )
        if not own:
            return load(path, os.environ, overrides, stores)
        # A ledger for all calls: a second one brings Redis up to date, as the command does.
        home = self._home = self._home or self.folder()
        stores["ledger"] = f"sqlite:///{quote(str(home / 'ledger.db'))}"
        settings = load(path, os.environ, overrides, stores)
        # What slows a run down, or bears with a store, in production is not meant for a test.
        throttle = replace(settings.throttle, rows_per_second=None, pause_file=str(home / "pause"))
        away_s = min(settings.source.retry_for_s, PATIENCE_S)
        target = settings.redis["target"]
        return replace(
            settings,
            source=replace(settings.source, retry_for_s=away_s),
            redis={"target": replace(target, retry_for_s=min(target.retry_for_s, PATIENCE_S))},
            throttle=throttle,
        )

    def _keep(self, settings: Settings, mapping: Mapping, *, purge: bool) -> None:
        key = (mapping.name, settings.redis["target"].address)
        if purge:
            self._written[key] = _Written(settings, mapping)
        else:
            self._written.pop(key, None)


def _request(level: str, sample: int | None, workers: int) -> Request:
    levels = [one.value for one in Level]
    if level not in levels:
        raise UsageProblem(f"Unknown level '{level}'.", next_step=f"Known: {', '.join(levels)}.")
    if (level == Level.SAMPLE.value) != (sample is not None):
        raise UsageProblem(
            "Level sample and a number of rows belong together.",
            next_step='assert_parity(..., level="sample", sample=1000)',
        )
    return Request(Level(level), sample, workers)


# --- engines ------------------------------------------------------------------------------------


def _never() -> int | None:
    """
    Nobody asks a test to stop between two chunks: pytest's own Ctrl-C ends it at once.
    """
    return None


def _once() -> Notify:
    """
    Logs why a store is waited for, once each: pytest shows it with a test that fails.
    """
    said: set[tuple[str, str]] = set()

    def tell(event: Waiting) -> None:
        if (event.store, event.reason) not in said:
            said.add((event.store, event.reason))
            _LOG.warning("waiting for the %s: %s", event.store, event.reason)

    return tell


def _backfill(settings: Settings, mapping: Mapping, workers: int, notify: Notify) -> None:
    # A Redis for tests may drop records when it is full; the comparison would say so.
    request = BackfillRequest(workers, accept_eviction=True)
    job = Backfill(
        settings, mapping, request, requested=_never, notify=notify, ready=lambda report: None
    )
    for _ in job.run():
        continue


def _verify(
    settings: Settings, mapping: Mapping, request: Request, notify: Notify
) -> dict[str, Any]:
    job = Verify(
        settings, mapping, request, requested=_never, notify=notify, ready=lambda rows: None
    )
    for _ in job.run():
        continue
    return dict(job.result)


def _rejects(settings: Settings, mapping: str, notify: Notify) -> list[Reject]:
    with closing(_ledger(settings, notify)) as ledger:
        return [one.reject for one in ledger.rejects(mapping, limit=SHOWN)]


def _ledger(settings: Settings, notify: Notify) -> Ledger:
    return open_ledger(
        settings.ledger, wall=time.time, sleep=StoppableClock(_never).sleep, notify=notify
    )


def _purge(settings: Settings, mapping: Mapping, notify: Notify) -> None:
    """
    Remove what this ledger knows to be written, and never what it does not know.
    """
    with closing(_ledger(settings, notify)) as ledger:
        state = ledger.mapping(mapping.name)
    if state is None or not state.fenced:
        # The backfill never began: what is there belongs to somebody else.
        return
    # A server that was stopped before this fixture ended took the records with it.
    target = replace(settings.redis["target"], retry_for_s=0.0)
    with _copy_of(settings.ledger) as copy:
        try:
            _remove(replace(settings, ledger=copy, redis={"target": target}), mapping, notify)
        except Unreachable:
            _LOG.warning("Redis is away, nothing was removed from it")


def _remove(settings: Settings, mapping: Mapping, notify: Notify) -> None:
    with Purge.open(
        settings,
        mapping.name,
        mapping,
        wall=time.time,
        clock=StoppableClock(_never),
        stop=lambda: None,
        notify=notify,
        changed=True,
    ) as job:
        for _ in job.run():
            continue


@contextmanager
def _copy_of(ledger: SourceConfig) -> Iterator[SourceConfig]:
    """
    A ledger that forgets in the place of the one that a failed test has named.
    """
    with TemporaryDirectory() as folder:
        path = str(Path(folder, "ledger.db"))
        with (
            closing(sqlite3.connect(str(ledger.database))) as kept,
            closing(sqlite3.connect(path)) as copy,
        ):
            kept.backup(copy)
        yield replace(ledger, database=path)


@dataclass(frozen=True, slots=True)
class _Told:
    """
    Turns an error of ours into one that pytest shows in our words.
    """

    redact: Callable[[str], str] = str

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        __tracebackhide__ = True
        if isinstance(error, MigrateError):
            if isinstance(error, TargetTaken):
                # A command may take over what is there; a test never should.
                error.next_step = _TAKEN
            raise ParityUnproven(self.redact(as_text(error)), error.code) from None
