"""
Connections to the source: each use is one short read-only transaction with pinned settings.

No engine outlives its owner, none is shared between processes, and none is global.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import sqlalchemy as sa

from migrate.errors import UsageProblem
from migrate.model.events import Notify, silent
from migrate.model.settings import SourceConfig
from migrate.source.dialects import DIALECTS
from migrate.source.dialects.base import Dialect, Relation
from migrate.source.retry import Policy

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Connections:
    """
    Hands out transactions on one source, and tries again while it is away.

    Args:
        address: Where it points, for error texts; never user or password.
    """

    address: str
    dialect: Dialect
    engine: sa.Engine
    policy: Policy

    @classmethod
    def open(
        cls,
        config: SourceConfig,
        notify: Notify = silent,
        sleep: Callable[[float], None] = time.sleep,
    ) -> Connections:
        """
        Connect once, so that a wrong password, path or driver shows here.

        Raises:
            UsageProblem: The dialect is unknown.
            SourceAccessDenied: Login, certificate or permission.
            SourceUnavailable: The source did not answer for `retry_for`.
        """
        dialect = _dialect(config)
        policy = Policy(config.retry_for_s, notify, sleep)
        engine = policy.call(lambda: dialect.engine(config), {"source": config.address})
        connections = cls(config.address, dialect, engine, policy)
        connections.run(dialect.facts)
        return connections

    def run(
        self,
        work: Callable[[sa.Connection], T],
        where: Mapping[str, object] | None = None,
        *,
        steady: Sequence[Relation] = (),
    ) -> T:
        """
        The result of `work` in a transaction of its own; repeated whole when the source was away.

        Args:
            steady: Tables that several statements read as they are at one moment.
        """

        def attempt() -> T:
            with self._transaction(steady) as connection:
                return work(connection)

        return self.policy.call(attempt, {"source": self.address, **(where or {})})

    @contextmanager
    def _transaction(self, steady: Sequence[Relation]) -> Iterator[sa.Connection]:
        with self.engine.connect() as connection:
            try:
                if steady:
                    self.dialect.begin_steady(connection, steady)
                else:
                    self.dialect.begin(connection)
                yield connection
            except BaseException:
                # Whatever state the session is in now: the next use gets a fresh one.
                connection.invalidate()
                raise
            connection.rollback()

    def close(self) -> None:
        """
        Close what is open; using it again connects anew.
        """
        self.engine.dispose()


def _dialect(config: SourceConfig) -> Dialect:
    if config.dialect in DIALECTS:
        dialect = DIALECTS[config.dialect]
        _require_driver(config, dialect)
        return dialect
    known = ", ".join(sorted(DIALECTS))
    raise UsageProblem(
        f"Unknown dialect '{config.dialect}'.",
        where={"known": known},
        next_step="Correct the URL of `source` in migrate.yaml.",
    )


def _require_driver(config: SourceConfig, dialect: Dialect) -> None:
    if config.driver is None or config.driver in dialect.drivers:
        return
    raise UsageProblem(
        f"Sources of dialect {dialect.name} are not read through the driver '{config.driver}'.",
        where={"source": config.address, "supported": ", ".join(dialect.drivers)},
        next_step=f"Write the URL of `source` as {dialect.name}+{dialect.drivers[0]}://...",
    )
