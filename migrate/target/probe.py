"""
Tries every command that a backfill uses, and says which ACL line a user needs.

By trying, not by version number or by ACL DRYRUN, which few users may run.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from uuid import uuid4

from migrate.errors import MigrateError
from migrate.target.fence import RESERVED_PREFIX
from migrate.target.link import Command, Link, call_of, failed
from migrate.target.retry import prefix_of
from migrate.target.scripts import MEASURE
from migrate.target.survey import scratch_key

REQUIRED = (
    "ping",
    "type",
    "hmget",
    "hset",
    "hincrby",
    "set",
    "getrange",
    "setrange",
    "unlink",
    "evalsha",
    "script|load",
    "dbsize",
    "multi",
    "exec",
)
"""ACL names of the commands without which a backfill does not run."""

CLUSTER = ("asking", "cluster|slots", "cluster|nodes")
"""ACL names of what a Cluster needs besides; a server of its own never hears them."""

OPTIONAL = ("info", "time", "memory|usage", "config|get", "client|setname")
"""ACL names of those without which doctor and plan know less, and a restart is not noticed."""


@dataclass(frozen=True, slots=True)
class Probed:
    """
    One command that was tried.

    Args:
        error: First word of the error; empty where it worked.

        required: Without it a backfill does not run.

        key: On which it was tried; empty for commands without a key.
    """

    command: str
    ok: bool
    error: str = ""
    required: bool = True
    key: str = ""

    def to_dict(self) -> dict[str, object]:
        """
        The same for `--json`.
        """
        return {
            "command": self.command,
            "ok": self.ok,
            "error": self.error,
            "required": self.required,
            "key": self.key,
        }


UNTRIED = "untried"
"""The error of a write that was not tried, because what it writes could not be taken away."""

_SAMPLE: Command = ("_v", "_h", "_t", "hash", "1", "0" * 16, 2, "name", "value")


def probe_commands(link: Link, prefixes: Sequence[str] = ()) -> list[Probed]:
    """
    Try each command once, writing only scratch keys that nobody sees.

    Args:
        prefixes: Of record keys: a script is tried on one key under each of them.
    """
    key = scratch_key()
    reads: list[tuple[str, str, Command]] = [
        ("type", key, ("TYPE", key)),
        ("hmget", key, ("HMGET", key, "_v")),
        ("getrange", key, ("GETRANGE", key, 0, 1)),
        ("unlink", key, ("UNLINK", key)),
        ("memory|usage", key, ("MEMORY USAGE", key, "SAMPLES", 0)),
    ]
    keyless: list[tuple[str, str, Command]] = [
        ("ping", "", ("PING",)),
        ("dbsize", "", ("DBSIZE",)),
        ("script|load", "", ("SCRIPT LOAD", MEASURE.text)),
        ("info", "", ("INFO", "server")),
        ("time", "", ("TIME",)),
        ("config|get", "", ("CONFIG GET", "maxmemory-policy")),
    ]
    replies = link.replies([command for _, _, command in reads])
    probed = [_probed(name, on, reply) for (name, on, _), reply in zip(reads, replies, strict=True)]
    words = [command for _, _, command in keyless]
    everywhere = link.each(lambda one: one.replies(words)).values()
    for (name, on, _), tried in zip(keyless, zip(*everywhere, strict=True), strict=True):
        # Of several servers, the one that refuses speaks for all.
        probed.append(_probed(name, on, next(filter(failed, tried), tried[0])))
    clean = next(probe.ok for probe in probed if probe.command == "unlink")
    return [*probed, *_writes(link, key, prefixes, clean=clean)]


def _writes(link: Link, key: str, prefixes: Sequence[str], *, clean: bool) -> Iterator[Probed]:
    commands: list[tuple[str, Command]] = [
        ("hset", ("HSET", key, "_v", "1")),
        ("hincrby", ("HINCRBY", key, "_v", 1)),
        ("set", ("SET", key, "{}")),
        ("setrange", ("SETRANGE", key, 0, "{")),
    ]
    scripts = [key, *(f"{prefix}{uuid4()}" for prefix in prefixes)]
    if not clean:
        for name, _ in commands:
            yield Probed(name, ok=False, error=UNTRIED, key=key)
        for scratch in scripts:
            yield Probed("evalsha", ok=False, error=UNTRIED, key=scratch)
        return
    for name, command in commands:
        yield _probed(name, key, _alone(link, command, key))
    for scratch in scripts:
        yield _probed("evalsha", scratch, link.replies([call_of(MEASURE, [scratch], _SAMPLE)])[0])


def _alone(link: Link, command: Command, key: str) -> object:
    """
    A write and its removal in one transaction, so that no moment has the key.
    """
    try:
        return link.replies([command, ("UNLINK", key)], transaction=True)[0]
    except MigrateError as error:
        return error


def _probed(name: str, key: str, reply: object) -> Probed:
    error = ""
    if isinstance(reply, MigrateError):
        error = str(reply.where.get("reason") or reply.code)
    elif isinstance(reply, Exception):
        error = prefix_of(reply)
    return Probed(name, not error, error, name in REQUIRED, key)


ACL_USER = "migrate"
"""The user in an ACL line where the configuration names none."""


def acl_rule(prefixes: Sequence[str] = (), user: str = ACL_USER) -> str:
    """
    The line that makes a user who may do a backfill and nothing else.

    Args:
        prefixes: Of the record keys of the mappings.
    """
    keys = " ".join(f"~{_literal(prefix)}*" for prefix in (RESERVED_PREFIX, *prefixes))
    commands = " ".join(f"+{name}" for name in (*REQUIRED, *OPTIONAL, *CLUSTER))
    return f"ACL SETUSER {user} on >PASSWORD resetkeys {keys} -@all {commands}"


def _literal(prefix: str) -> str:
    # Redis matches keys by glob: a prefix means itself and nothing else.
    return re.sub(r"([\\*?\[\]^-])", r"\\\1", prefix) if re.search(r"[\\*?\[]", prefix) else prefix
