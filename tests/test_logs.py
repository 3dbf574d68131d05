"""
Log lines: one line each, no secrets, no values of others.
"""

from __future__ import annotations

import io
import json
import logging
import re
import warnings

import pytest

from migrate.model.secret import Redactor, Secret
from migrate.ops.console import Console
from migrate.ops.logs import logging_to

CANARY = "PII-CANARY-7f3a"
LOG = logging.getLogger("migrate.tests")


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def console(stream: io.StringIO) -> Console:
    return Console(stream)


def test_a_text_line_says_when_what_and_where(console: Console, stream: io.StringIO) -> None:
    """
    Time in UTC, level, logger, message and the known fields; other fields are left out.
    """
    with logging_to(console):
        LOG.warning("chunk %d is late", 3, extra={"mapping": "users", "row": CANARY})

    pattern = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z warning migrate\.tests: "
    assert re.sub(pattern, "", stream.getvalue()) == "chunk 3 is late mapping=users\n"


def test_a_json_line_is_one_object(console: Console, stream: io.StringIO) -> None:
    """
    Every line parses by itself, whatever the message holds.
    """
    with logging_to(console, as_json=True):
        LOG.warning("a\nb\x1b[2J\u2028c", extra={"partition": 4, "run": "r1"})

    (line,) = stream.getvalue().splitlines()
    found = json.loads(line)
    assert found.pop("time")
    assert found == {
        "level": "warning",
        "logger": "migrate.tests",
        "message": "a\nb\x1b[2J\u2028c",
        "partition": 4,
        "run": "r1",
    }


def test_a_message_stays_on_its_line(console: Console, stream: io.StringIO) -> None:
    """
    Line ends and terminal escapes in a message or a field are escaped.
    """
    with logging_to(console):
        LOG.warning("a\r\nb\x1b]0;title\x07", extra={"mapping": "x\u2028y"})

    assert stream.getvalue().endswith(": a\\r\\nb\\x1b]0;title\\x07 mapping=x\\u2028y\n")
    assert len(stream.getvalue().splitlines()) == 1


@pytest.mark.parametrize("as_json", [False, True])
def test_no_secret_passes(console: Console, stream: io.StringIO, as_json: bool) -> None:
    """
    A password is masked as it stands and URL-encoded, in messages and fields.
    """
    redact = Redactor.of([Secret("S3c r/t")])

    with logging_to(console, as_json=as_json, redact=redact):
        LOG.warning("as S3c r/t and S3c%20r%2Ft", extra={"worker": "S3c+r%2Ft"})

    assert "S3c" not in stream.getvalue()
    assert stream.getvalue().count("***") == 3


def test_other_libraries_are_heard_but_not_quoted(console: Console, stream: io.StringIO) -> None:
    """
    Another library's warning is told with its text withheld; its chatter is not told at all.
    """
    with logging_to(console, verbosity=2):
        logging.getLogger("sqlalchemy.engine").info("INSERT %r", CANARY)
        logging.getLogger("redis").error("HSET k ssn " + CANARY)  # noqa: G003

    assert CANARY not in stream.getvalue()
    assert stream.getvalue().endswith(" error redis: message withheld: it may hold values\n")
    assert len(stream.getvalue().splitlines()) == 1


def test_python_warnings_are_not_quoted(console: Console, stream: io.StringIO) -> None:
    """
    A warning of a driver may show a value, so only its existence is logged.
    """
    with logging_to(console), warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=True)
        warnings.warn(CANARY, stacklevel=1)

    assert CANARY not in stream.getvalue()


def test_an_exception_is_told_by_its_class(console: Console, stream: io.StringIO) -> None:
    """
    Texts of exceptions hold values; the class is enough beside our own message.
    """
    with logging_to(console):
        try:
            int(CANARY)
        except ValueError:
            LOG.exception("the chunk failed")

    assert stream.getvalue().endswith(": the chunk failed (ValueError)\n")


def test_a_broken_call_does_not_show_its_values(
    console: Console, stream: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A log call with wrong arguments costs its entry, not the run, and shows no value.
    """
    # The test runner's own handler would raise first.
    monkeypatch.setattr(logging.getLogger(), "handlers", [])

    with logging_to(console):
        LOG.warning("%d rows", CANARY)

    assert stream.getvalue() == "log entry lost in migrate.tests: TypeError\n"


@pytest.mark.parametrize(
    ("verbosity", "shown"),
    [
        (-1, ["error"]),
        (0, ["error", "warning"]),
        (1, ["error", "warning", "info"]),
        (2, ["error", "warning", "info", "debug"]),
    ],
)
def test_flags_choose_the_level(
    console: Console, stream: io.StringIO, verbosity: int, shown: list[str]
) -> None:
    """
    -q leaves errors; each -v adds a level.
    """
    with logging_to(console, verbosity=verbosity, as_json=True):
        for level in ("error", "warning", "info", "debug"):
            getattr(LOG, level)("said")

    assert [json.loads(line)["level"] for line in stream.getvalue().splitlines()] == shown


def test_logging_is_as_before_afterwards(console: Console) -> None:
    """
    Nothing of the set-up stays behind.
    """
    root, own = logging.getLogger(), logging.getLogger("migrate")
    before = (list(root.handlers), root.level, own.level)

    with logging_to(console, verbosity=2):
        assert (list(root.handlers), root.level, own.level) != before

    assert (list(root.handlers), root.level, own.level) == before


def test_a_closed_stream_does_not_stop_the_work(stream: io.StringIO) -> None:
    """
    A reader that went away loses lines; the run goes on.
    """
    stream.close()

    Console(stream).line("nobody reads this")
