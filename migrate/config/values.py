"""
The small languages of migrate.yaml: durations, shares, rates, nodes and numbers.

Every parser raises `BadValue`, whose text never repeats what was given: that may be a secret in
a wrong place.
"""

from __future__ import annotations

import ipaddress
import re

from migrate.model.settings import Node

REDIS_PORT = 6379
SENTINEL_PORT = 26379

# Seconds in each unit.
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
# Nothing here means a number of more than ten digits; longer ones would be infinite or slow.
_DURATION = re.compile(r"([0-9]{1,10}(?:\.[0-9]{1,10})?)(ms|s|m|h|d)")
_SHARE = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,10})?)%")
_NUMBER = re.compile(r"[0-9]{1,10}(?:\.[0-9]{1,20})?")
_WHOLE = re.compile(r"[0-9]{1,10}")
_HOST = re.compile(r"[\w.-]+")


class BadValue(Exception):
    """
    A text that cannot be read; becomes a `Problem` where its position is known.

    Args:
        rule: Stable kebab-case name of the rule.

        message: What is wrong, without the text itself.

        fix: What to write instead.
    """

    def __init__(self, rule: str, message: str, fix: str = "") -> None:
        super().__init__(message)
        self.rule = rule
        self.message = message
        self.fix = fix


def duration(given: object) -> float:
    """
    Seconds of `24h`, `30m`, `5s` or `250ms`.
    """
    match = _DURATION.fullmatch(given) if isinstance(given, str) else None
    if match is None:
        raise BadValue(
            "duration", "This is no duration.", "Write a number and its unit: 250ms, 5s, 30m, 24h."
        )
    return float(match[1]) * _UNITS[match[2]]


def duration_above_zero(given: object) -> float:
    """
    Seconds of a duration that cannot be nothing.
    """
    seconds = duration(given)
    if not seconds:
        raise BadValue("duration", "This duration starts above 0.", "Write for example 5s.")
    return seconds


def duration_or_none(given: object) -> float:
    """
    Seconds of a duration; `none` is no time at all.
    """
    return 0.0 if given == "none" else duration(given)


def share(given: object) -> float:
    """
    `80%` as 0.8.
    """
    match = _SHARE.fullmatch(given) if isinstance(given, str) else None
    if match is None or not 0 < float(match[1]) <= 100:
        raise BadValue(
            "percentage", "This is no share between 0% and 100%.", "Write for example 80%."
        )
    return float(match[1]) / 100


def rate(given: object) -> int | None:
    """
    A whole number from 1, or None for `none`.
    """
    return None if given == "none" else count(given)


def count(given: object) -> int:
    """
    A whole number from 1.
    """
    number = whole(given)
    if number < 1:
        raise BadValue("number", "This number starts at 1.", "Write a whole number from 1.")
    return number


def whole(given: object) -> int:
    """
    A whole number from 0.
    """
    if isinstance(given, bool) or not _WHOLE.fullmatch(str(given)):
        raise BadValue("number", "This is no whole number.", "Write digits only.")
    return int(str(given))


def bulk(given: object) -> bool:
    """
    Whether `auto` or `off`.
    """
    if given not in ("auto", "off"):
        raise BadValue("unknown-word", "This is neither auto nor off.", "Known: auto, off.")
    return given == "auto"


def above_zero(given: object) -> float:
    """
    A number above 0.
    """
    fits = not isinstance(given, bool) and _NUMBER.fullmatch(str(given))
    if not fits or not float(str(given)):
        raise BadValue("number", "This is no number above 0.", "Write for example 10.")
    return float(str(given))


def node(given: object, default_port: int) -> Node:
    """
    Host and port of `host`, `host:6379` or `[::1]:6379`.
    """
    host, port = host_and_port(given if isinstance(given, str) else "")
    if not host:
        raise BadValue("node", "A node needs a host.", "Write host:port.")
    return Node(host, port or default_port)


def host_and_port(text: str) -> tuple[str | None, int | None]:
    """
    The two parts of an address; each is None where it is missing.
    """
    if text.startswith("["):
        host, closed, rest = text[1:].partition("]")
        if not closed or not _is_ipv6(host) or (rest and not rest.startswith(":")):
            raise BadValue(
                "bad-host", "The IPv6 address is not well-formed.", "Write it as [::1]:6379."
            )
        return host, _port(rest[1:]) if rest else None
    host, colon, rest = text.rpartition(":") if ":" in text else (text, "", "")
    if ":" in host:
        raise BadValue(
            "bad-host",
            "The host holds more than one colon.",
            "Put an IPv6 address into brackets ([::1]:6379); "
            "where a password comes before the host, percent-encode its special characters.",
        )
    if host and not _HOST.fullmatch(host):
        raise BadValue(
            "bad-host",
            "The host holds a character that no host name has.",
            "Write one host name or address; several servers go into `nodes`.",
        )
    return host or None, _port(rest) if colon else None


def _is_ipv6(host: str) -> bool:
    try:
        ipaddress.IPv6Address(host)
    except ValueError:
        return False
    return True


def _port(text: str) -> int:
    # ASCII digits only: int() would also read other scripts' digits, and echo what it cannot read.
    if not re.fullmatch(r"[0-9]{1,5}", text) or not 1 <= int(text) <= 65535:
        raise BadValue(
            "bad-port",
            "The port is no number from 1 to 65535.",
            "Correct it; where a password comes before the host, "
            "percent-encode its special characters.",
        )
    return int(text)
