"""
The SQL stores and the Redis instances: URLs and the keys beside them become one value each.

Says what does not go together; whether a server answers is not asked here.
"""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path

from migrate.config import values
from migrate.config.layers import Rank
from migrate.config.schema import INSTANCE_NAME
from migrate.config.section import Parsers, Section
from migrate.config.urls import RedisUrl, parse_redis, parse_sql
from migrate.config.values import BadValue
from migrate.model.settings import TLS, Node, RedisConfig, SourceConfig, Topology

_STORE: Parsers = {"retry_for": ("retry_for_s", values.duration_or_none)}
_REDIS: Parsers = {
    "database": ("database", values.whole),
    "pool_size": ("pool_size", values.count),
    "timeout": ("timeout_s", values.duration_above_zero),
    "retry_for": ("retry_for_s", values.duration_or_none),
}


def sql_store(section: Section) -> SourceConfig | None:
    """
    A SQL store; None where it has problems, which are noted.
    """
    url = section.parsed("url", parse_sql)
    section.fill(_STORE)
    if url is not None:
        section.take("url", username=url.username, password=url.password)
    section.login()
    section.done()
    if url is None:
        _missing_url(section)
        return None
    if url.dialect == "sqlite":
        folder = section.given["url"].folder
        section.fields["database"] = absolute(folder, str(url.database))
        if section.fields.keys() & {"username", "password"}:
            section.refuse("login", "SQLite takes no user and no password.", "Remove them.")
    return None if section.failed else replace(url, **section.fields)


def _missing_url(section: Section) -> None:
    if section.failed:
        return
    name = section.loc[0]
    section.refuse(
        "missing-url",
        f"The {name} has no url.",
        f'Write {name}: {{url: "postgresql+psycopg://user@host/database"}}, '
        f"or set PROFILE_MIGRATE_{name.upper()}_URL.",
    )


def absolute(folder: Path, path: str) -> str:
    """
    The path of a database, the same wherever the next command starts.
    """
    # Not resolve(): it asks the file system, and follows links.
    return os.path.abspath(folder / path)  # noqa: PTH100


class _Draft(RedisConfig):
    """
    A RedisConfig that may be wrong, to ask it for everything that is.
    """

    __slots__ = ()

    def __post_init__(self) -> None:
        return None


def redis_instance(section: Section) -> RedisConfig | None:
    """
    One named Redis instance; None where it has problems, which are noted.
    """
    _check_name(section)
    section.fill(_REDIS)
    _read_topology(section)
    url = section.parsed("url", parse_redis)
    if url is not None:
        section.take("url", username=url.username, password=url.password, database=url.database)
        section.fields |= {"nodes": url.nodes, "socket": url.socket}
    section.login()
    section.login("sentinel_")
    section.done()
    fields = section.fields | {
        "name": section.loc[1],
        "service": section.text("service"),
        "nodes": _nodes(section) or section.fields.get("nodes", ()),
        "tls": _tls(section, url),
    }
    if not section.failed:
        _check(section, _Draft(**fields))
    return None if section.failed else RedisConfig(**fields)


def _check_name(section: Section) -> None:
    if not re.fullmatch(INSTANCE_NAME, section.loc[1]):
        section.refuse(
            "instance-name",
            "The name of a Redis instance has lower-case letters, digits and underscores only.",
            "Rename it: the name is part of its variables' names.",
        )


def _read_topology(section: Section) -> None:
    given = section.given.get("topology")
    if given is None:
        return
    words = [one.value for one in Topology]
    if given.value in words:
        section.fields["topology"] = Topology(str(given.value))
        return
    section.failed = True
    if given.rank is not Rank.FILE:
        # In the file, the shape has been refused already.
        section.refuse("unknown-word", "This is no topology.", f"Known: {', '.join(words)}.", given)


def _nodes(section: Section) -> tuple[Node, ...]:
    given = section.given.get("nodes")
    if given is None:
        return ()
    if not isinstance(given.value, list):
        section.failed = True
        return ()
    is_sentinel = section.fields.get("topology") is Topology.SENTINEL
    port = values.SENTINEL_PORT if is_sentinel else values.REDIS_PORT
    found = []
    for one in given.value:
        text = section.text_of(one)
        if text is None:
            continue
        try:
            found.append(values.node(text, port))
        except BadValue as bad:
            section.refuse(bad.rule, bad.message, bad.fix, one)
    return tuple(found)


def _tls(section: Section, url: RedisUrl | None) -> TLS | None:
    """
    TLS from the URL's scheme and from the `tls` section.
    """
    base = url.tls if url else None
    keys = [key for key in section.given if key == "tls" or key.startswith("tls.")]
    if not keys:
        return base
    tls = base or TLS()
    verify = section.truth("tls.verify")
    tls = TLS(
        ca_file=_file(section, "tls.ca_file") or tls.ca_file,
        cert_file=_file(section, "tls.cert_file") or tls.cert_file,
        key_file=_file(section, "tls.key_file") or tls.key_file,
        verify=tls.verify if verify is None else verify,
    )
    first = section.given[keys[0]]
    if tls.key_file and not tls.cert_file:
        section.refuse("tls", "tls.key_file needs tls.cert_file.", "Name both.", first)
    if url is not None and url.nodes and url.tls is None:
        section.refuse(
            "tls-without-rediss",
            "There are TLS settings, but the url starts with redis://.",
            "Write rediss:// in the url, or remove tls.",
            first,
        )
    return tls


def _file(section: Section, key: str) -> str | None:
    path = section.path(key)
    if path is not None and not (os.access(path, os.R_OK) and Path(path).is_file()):
        section.refuse(
            "unreadable-file",
            "There is no such file, or it cannot be read.",
            "Check the path; a relative one starts at the folder of the file that names it.",
            section.given[key],
        )
    return path


def _check(section: Section, draft: RedisConfig) -> None:
    """
    What does not go together, all of it.
    """
    for message in draft.problems():
        section.refuse("redis-config", message, "Correct the keys of this instance.")
    if "url" in section.given and "nodes" in section.given:
        section.refuse(
            "url-and-nodes",
            "Both url and nodes are given.",
            "Keep one of them.",
            section.given["nodes"],
        )
    if draft.name == "queue" and draft.topology is Topology.CLUSTER:
        section.refuse(
            "queue-cluster",
            "A queue cannot live in a Redis Cluster: its libraries use several keys at once.",
            "Give the queue a standalone server or a Sentinel group.",
            section.given["topology"],
        )
    _check_login(section, "", has_password=draft.password is not None, user=draft.username)
    _check_login(
        section,
        "sentinel_",
        has_password=draft.sentinel_password is not None,
        user=draft.sentinel_username,
    )


def _check_login(section: Section, prefix: str, *, has_password: bool, user: str | None) -> None:
    # redis://secret@host names a user: taken as it stands, the secret would be shown as one.
    if user and not has_password:
        section.refuse(
            "user-without-password",
            "Redis takes no user without a password.",
            f"Add {prefix}password_file; a password alone is written redis://:password@host.",
            section.given.get(f"{prefix}username") or section.given.get("url"),
        )
