"""
Lines for people on one stream, with an optional bar below them.

Knows nothing of what is said; a stream that has gone away never stops the work.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol, TextIO

_UNPRINTABLE = re.compile(
    "["
    "\x00-\x1f\x7f-\x9f"  # control characters: new lines, escapes that drive a terminal
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # direction marks that reorder what is read
    "\u2028\u2029"  # line ends that only some programs see
    "\ud800-\udfff"  # halves of a pair that no encoding takes
    "\ufdd0-\ufdef"  # code points that are no characters: XML and HTML forbid them
    + "".join(chr(plane + 0xFFFE) + chr(plane + 0xFFFF) for plane in range(0, 0x110000, 0x10000))
    + "]"
)


def one_line(text: str) -> str:
    """
    The text with everything escaped that could end the line or drive a terminal.
    """
    return _UNPRINTABLE.sub(lambda found: ascii(found.group())[1:-1], text)


def encodable(text: str, stream: TextIO) -> bool:
    """
    Whether the stream's encoding can show the text.
    """
    try:
        text.encode(getattr(stream, "encoding", None) or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def as_is(text: str) -> str:
    """
    A filter that changes nothing.
    """
    return text


class Bar(Protocol):
    """
    Something that is drawn on the last line and has to make room for others.
    """

    def clear(self) -> object:
        """
        Take it off the screen.
        """

    def refresh(self) -> object:
        """
        Draw it again.
        """


class Console:
    """
    Writes whole lines, one at a time, and passes each through a filter of secrets first.

    A reader that went away (`2>&1 | head`, a closed terminal) loses the lines; the work goes on.

    Args:
        redact: Takes known secrets out of a text.
    """

    def __init__(self, stream: TextIO, redact: Callable[[str], str] = as_is) -> None:
        self.stream = stream
        self._redact = redact
        self._lock = threading.RLock()
        self.bar: Bar | None = None

    @property
    def is_terminal(self) -> bool:
        """
        Whether a person looks at it, so that a bar may be drawn.
        """
        try:
            return self.stream.isatty()
        except ValueError:  # closed
            return False

    def line(self, text: str) -> None:
        """
        Write the text and a line end above the bar, if there is one.
        """
        with self._lock, suppress(OSError, ValueError):
            if self.bar is not None:
                self.bar.clear()
            self.stream.write(self._redact(text) + "\n")
            self.stream.flush()
            if self.bar is not None:
                self.bar.refresh()
