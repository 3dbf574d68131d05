"""
The program with a bug in it, for tests of what a bug may say: `python -m tests.broken KIND ARG...`.

Spawned workers import this module again, so that the bug is in them too. Each kind holds the
values of a row where a real bug or a chatty library would have them.
"""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NoReturn

from migrate.mapping.compile import CompiledMapping
from migrate.source.extract import KeysetExtractor
from migrate.target.bulk import BulkLoader
from migrate.target.loader import ScriptLoader

KIND = "PROFILE_MIGRATE_TEST_BUG"


def _encode(self: CompiledMapping, row: Sequence[Any], version: bytes) -> NoReturn:
    try:
        int(str(row[1]))
    except ValueError as error:
        raise TypeError(f"cannot encode {row!r}", row) from error
    raise KeyError(row)


def _write(self: ScriptLoader, records: Sequence[Any]) -> NoReturn:
    raise RuntimeError([record.fields for record in records])


def _restore(self: BulkLoader, batches: Iterable[Any]) -> NoReturn:
    raise RuntimeError(list(batches))


def _die(self: object, records: object) -> NoReturn:
    os._exit(9)


_READ = KeysetExtractor.read


def _chatter(self: KeysetExtractor, *arguments: Any) -> Any:
    chunk = _READ(self, *arguments)
    for row in chunk.rows:
        logging.getLogger("sqlalchemy.pool").error("lost connection while reading %r", row)
        warnings.warn(f"a value is odd: {row!r}", RuntimeWarning, stacklevel=2)
    return chunk


BUGS: Mapping[str, Sequence[tuple[type[Any], str, Callable[..., Any]]]] = {
    "encode": [(CompiledMapping, "_record", _encode)],
    "write": [(ScriptLoader, "write", _write), (BulkLoader, "restore", _restore)],
    "die": [(ScriptLoader, "write", _die), (BulkLoader, "restore", _die)],
    "chatter": [(KeysetExtractor, "read", _chatter)],
}

if __name__ == "__main__":
    os.environ[KIND] = sys.argv.pop(1)

if KIND in os.environ:
    for bug in BUGS[os.environ[KIND]]:
        setattr(*bug)

if __name__ == "__main__":
    from migrate.cli.main import main

    main()
