"""
Parity as a test of a team's own: a plugin for pytest with one fixture, `assert_parity`.

Importing this loads neither driver nor engine: every run of pytest on the machine imports it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import pytest


class ParityBroken(AssertionError):
    """
    SQL and Redis do not hold the same, or nothing proves that they do.

    Args:
        result: The whole result, an object of `profile-migrate.verify/1`.
    """

    def __init__(self, text: str, result: Mapping[str, Any]) -> None:
        super().__init__(text)
        self.result = result


class ParityUnproven(pytest.UsageError):  # type: ignore[misc]  # final, but for typing alone
    """
    Nothing could be compared: the configuration, a store or a mapping is not as it must be.

    Args:
        code: Of the error, as in docs/errors.md.
    """

    def __init__(self, text: str, code: str) -> None:
        super().__init__(text)
        self.code = code


class AssertParity(Protocol):
    """
    What the fixture `assert_parity` gives: a function that passes only if SQL and Redis are equal.
    """

    def __call__(  # noqa: PLR0913 - one for each question that a team may answer otherwise
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
        Backfill a mapping from SQL into Redis, and compare both in both directions.

        Args:
            config: The configuration file; a relative path starts at pytest's root folder.

            source: URL of the SQL store, instead of the one that is configured.

            redis: URL of the Redis to write to, instead of `redis.target`.

            level: How closely to look: count, sample, full or deep.

            sample: Rows of level sample.

            backfill: False compares what is in Redis already, with the ledger that is configured,
                and writes to neither store.

            workers: Processes.

            purge: Remove at the end of the test what the backfill wrote.

        Returns:
            The result, an object of `profile-migrate.verify/1`.

        Raises:
            ParityBroken: They differ, rows were rejected, or nothing was compared.
            ParityUnproven: It could not be tried; says what, where, and what to do.
        """


__all__ = ["AssertParity", "ParityBroken", "ParityUnproven"]
