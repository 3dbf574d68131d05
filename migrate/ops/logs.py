"""
Log lines on standard error: one line an entry, as text or as JSON, without secrets and values.

Lines of other libraries may carry rows or passwords; only that they exist is told.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from migrate.ops.console import Console, as_is, one_line

OWN = "migrate"
"""Root of this program's loggers."""

FIELDS = ("run", "mapping", "stage", "partition", "worker", "epoch")
"""What a log call may add by `extra=`; anything else is left out."""

WITHHELD = "message withheld: it may hold values"

_LEVELS = {-1: logging.ERROR, 0: logging.WARNING, 1: logging.INFO}


def level_of(verbosity: int) -> int:
    """
    The lowest level shown: errors with `-q`, warnings without a flag, `-v` more, `-vv` everything.
    """
    return _LEVELS.get(max(verbosity, -1), logging.DEBUG)


@contextmanager
def logging_to(
    console: Console,
    *,
    verbosity: int = 0,
    as_json: bool = False,
    redact: Callable[[str], str] = as_is,
) -> Iterator[None]:
    """
    Send log entries to the console until the block ends; then everything is as it was.

    Args:
        verbosity: -1 for `-q`, else how many `-v` were given.

        redact: Takes known secrets out of a text.
    """
    handler = _ConsoleHandler(console)
    handler.setFormatter((JsonLines if as_json else TextLines)(redact))
    handler.setLevel(level_of(verbosity))
    root, own = logging.getLogger(), logging.getLogger(OWN)
    before = root.level, own.level
    root.addHandler(handler)
    # Chatty libraries stay at warnings even with -vv: SQL with its parameters is a debug message.
    root.setLevel(logging.WARNING)
    own.setLevel(level_of(verbosity))
    logging.captureWarnings(capture=True)
    try:
        yield
    finally:
        logging.captureWarnings(capture=False)
        root.removeHandler(handler)
        root.setLevel(before[0])
        own.setLevel(before[1])


class _ConsoleHandler(logging.Handler):
    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        # The standard handler would print the values that a broken call was given.
        try:
            line = self.format(record)
        except Exception as exc:  # noqa: BLE001 - whatever a __str__ of a value raises
            line = f"log entry lost in {one_line(record.name)}: {type(exc).__name__}"
        self._console.line(line)


def message_of(record: logging.LogRecord) -> str:
    """
    What an entry may say: ours in full, another library's not at all, an exception by its class.
    """
    own = record.name == OWN or record.name.startswith(f"{OWN}.")
    text = record.getMessage() if own else WITHHELD
    kind = record.exc_info[0] if record.exc_info else None
    return f"{text} ({kind.__name__})" if kind else text


def _time_of(record: logging.LogRecord) -> str:
    moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    return f"{moment}.{int(record.msecs):03}Z"


def _fields_of(record: logging.LogRecord) -> dict[str, object]:
    return {name: vars(record)[name] for name in FIELDS if vars(record).get(name) is not None}


class TextLines(logging.Formatter):
    """
    `time level logger: message name=value ...`, control characters escaped.
    """

    def __init__(self, redact: Callable[[str], str] = as_is) -> None:
        super().__init__()
        self._redact = redact

    def format(self, record: logging.LogRecord) -> str:
        """
        One entry as one line.
        """
        fields = "".join(f" {name}={value}" for name, value in _fields_of(record).items())
        head = f"{_time_of(record)} {record.levelname.lower()} {record.name}"
        return one_line(self._redact(f"{head}: {message_of(record)}{fields}"))


class JsonLines(logging.Formatter):
    """
    One JSON object a line: time, level, logger, message and the fields.
    """

    def __init__(self, redact: Callable[[str], str] = as_is) -> None:
        super().__init__()
        self._redact = redact

    def format(self, record: logging.LogRecord) -> str:
        """
        One entry as one object.
        """
        entry: dict[str, object] = {
            "time": _time_of(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": self._redact(message_of(record)),
        }
        for name, value in _fields_of(record).items():
            entry[name] = value if isinstance(value, int) else self._redact(str(value))
        return json.dumps(entry)
