"""
Tries every command that a backfill or a purge uses, and says which ACL line a user needs.

By trying, not by version number or by ACL DRYRUN, which few users may run.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from uuid import uuid4

from migrate.errors import MigrateError
from migrate.target.fence import RESERVED_PREFIX
from migrate.target.link import Command, Link, call_of, failed
from migrate.target.reader import NEEDED as READING
from migrate.target.removal import NEEDED
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

LOOKUPS = (*("get", "hdel", "sadd", "srem", "sismember", "srandmember", "zadd", "zrem", "zrange"),)
"""ACL names of what mappings with lookups need besides, and mappings that had some."""

EXPIRY = ("hget", "pexpireat", "time")
"""ACL names of what mappings with a time to live need besides."""

ADOPTION = ("exists", "rename")
"""ACL names of what putting foreign values aside needs besides."""

BULK = ("restore", "watch", "multi", "exec", "hgetall", "unlink")
"""ACL names of what ready payloads need (`bulk`); without them the script writes all records."""

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


def probe_commands(
    link: Link, prefixes: Sequence[str] = (), needed: Collection[str] = ()
) -> list[Probed]:
    """
    Try each command once, writing only scratch keys that nobody sees.

    Args:
        prefixes: Of record keys: a script is tried on one key under each of them.

        needed: What mappings need besides `REQUIRED`: `LOOKUPS`, `EXPIRY`, ...
    """
    key = scratch_key()
    required = {*REQUIRED, *needed}
    allowed = _allowed(needed)
    tried = {name: words for name, words in _reads(key).items() if name in allowed}
    replies = link.replies(list(tried.values()))
    probed = [
        _probed(name, key, reply, required) for name, reply in zip(tried, replies, strict=True)
    ]
    keyless: dict[str, Command] = {
        "ping": ("PING",),
        "dbsize": ("DBSIZE",),
        "script|load": ("SCRIPT LOAD", MEASURE.text),
        "scan": ("SCAN", 0, "COUNT", 1),
        "info": ("INFO", "server"),
        "time": ("TIME",),
        "config|get": ("CONFIG GET", "maxmemory-policy"),
    }
    words = list(keyless.values())
    everywhere = link.each(lambda one: one.replies(words)).values()
    for name, told in zip(keyless, zip(*everywhere, strict=True), strict=True):
        # Of several servers, the one that refuses speaks for all.
        probed.append(_probed(name, "", next(filter(failed, told), told[0]), required))
    clean = next(probe.ok for probe in probed if probe.command == "unlink")
    return [*probed, *_writes(link, key, prefixes, needed, clean=clean)]


def _reads(key: str) -> dict[str, Command]:
    """
    Commands that change nothing where there is nothing, on a key that is not there.
    """
    return {
        "type": ("TYPE", key),
        "hmget": ("HMGET", key, "_v"),
        "getrange": ("GETRANGE", key, 0, 1),
        "unlink": ("UNLINK", key),
        "memory|usage": ("MEMORY USAGE", key, "SAMPLES", 0),
        "exists": ("EXISTS", key),
        "expire": ("EXPIRE", key, 1),
        "get": ("GET", key),
        "hdel": ("HDEL", key, "_l"),
        "hget": ("HGET", key, "_e"),
        "hgetall": ("HGETALL", key),
        "hkeys": ("HKEYS", key),
        "hlen": ("HLEN", key),
        "hstrlen": ("HSTRLEN", key, "_v"),
        "persist": ("PERSIST", key),
        "pexpireat": ("PEXPIREAT", key, 1),
        "rename": ("RENAME", key, key),
        "sismember": ("SISMEMBER", key, "1"),
        "srandmember": ("SRANDMEMBER", key),
        "srem": ("SREM", key, "1"),
        "sscan": ("SSCAN", key, 0),
        "strlen": ("STRLEN", key),
        "zrange": ("ZRANGE", key, 0, 0),
        "zrem": ("ZREM", key, "1"),
        "zscan": ("ZSCAN", key, 0),
    }


def _writes(
    link: Link,
    key: str,
    prefixes: Sequence[str],
    needed: Collection[str],
    *,
    clean: bool,
) -> Iterator[Probed]:
    required, allowed = {*REQUIRED, *needed}, _allowed(needed)
    commands: dict[str, Command] = {
        "hset": ("HSET", key, "_v", "1"),
        "hincrby": ("HINCRBY", key, "_v", 1),
        "set": ("SET", key, "{}"),
        "setrange": ("SETRANGE", key, 0, "{"),
        "sadd": ("SADD", key, "1"),
        "zadd": ("ZADD", key, 0, "1"),
    }
    scripts = [key, *(f"{prefix}{uuid4()}" for prefix in prefixes)]
    commands = {name: words for name, words in commands.items() if name in allowed}
    if not clean:
        for name in commands:
            yield Probed(name, ok=False, error=UNTRIED, required=name in required, key=key)
        for scratch in scripts:
            yield Probed("evalsha", ok=False, error=UNTRIED, key=scratch)
        return
    for name, command in commands.items():
        yield _probed(name, key, _alone(link, command, key), required)
    for scratch in scripts:
        reply = link.replies([call_of(MEASURE, [scratch], _SAMPLE)])[0]
        yield _probed("evalsha", scratch, reply, required)


def _alone(link: Link, command: Command, key: str) -> object:
    """
    A write and its removal in one transaction, so that no moment has the key.
    """
    try:
        return link.replies([command, ("UNLINK", key)], transaction=True)[0]
    except MigrateError as error:
        return error


def _probed(name: str, key: str, reply: object, required: Collection[str]) -> Probed:
    error = ""
    if isinstance(reply, MigrateError):
        error = str(reply.where.get("reason") or reply.code)
    elif isinstance(reply, Exception):
        error = prefix_of(reply)
    if name == "rename" and error == "ERR":
        # It was taken, and there is no such key.
        error = ""
    return Probed(name, not error, error, name in required, key)


ACL_USER = "migrate"
"""The user in an ACL line where the configuration names none."""


def acl_rule(
    prefixes: Sequence[str] = (), user: str = ACL_USER, needed: Collection[str] = ()
) -> str:
    """
    The line that makes a user who may do a backfill, take it back, and nothing else.

    Args:
        prefixes: Of the keys of records and lookups of the mappings.

        needed: What mappings need besides `REQUIRED`.
    """
    keys = " ".join(f"~{_literal(prefix)}*" for prefix in (RESERVED_PREFIX, *prefixes))
    commands = " ".join(f"+{name}" for name in (*_allowed(needed), *CLUSTER))
    return f"ACL SETUSER {user} on >PASSWORD resetkeys {keys} -@all {commands}"


def _allowed(needed: Collection[str]) -> dict[str, None]:
    """
    Everything that a user may need, in one order, each once.
    """
    return dict.fromkeys((*REQUIRED, *needed, *BULK, *ADOPTION, *OPTIONAL, *NEEDED, *READING))


def _literal(prefix: str) -> str:
    # Redis matches keys by glob: a prefix means itself and nothing else.
    return re.sub(r"([\\*?\[\]^-])", r"\\\1", prefix) if re.search(r"[\\*?\[]", prefix) else prefix
