"""
The shape of migrate.yaml: its keys, their types and what they mean, for checking and for editors.

Says nothing about which layer wins and what goes together: that is `load`. No value of these
models is kept: they hold what was typed, secrets included.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from migrate.model.settings import (
    DEFAULT_BULK,
    DEFAULT_LEDGER,
    DEFAULT_MAPPINGS,
    GatesConfig,
    Node,
    RedisConfig,
    SourceConfig,
    ThrottleConfig,
)

VERSIONS = (1,)
"""Versions of migrate.yaml that this program reads."""

INSTANCE_NAME = r"[a-z][a-z0-9_]*"
"""Names of Redis instances: each has variables of its own, in upper case."""


def spell_duration(seconds: float) -> str:
    """
    Seconds as migrate.yaml spells them.
    """
    for unit, length in (("h", 3600), ("m", 60)):
        if seconds and seconds % length == 0:
            return f"{seconds / length:g}{unit}"
    return f"{seconds:g}s"


def spell_share(share: float) -> str:
    """
    A share as migrate.yaml spells it.
    """
    return f"{share * 100:g}%"


def spell_bulk(*, used: bool) -> Literal["auto", "off"]:
    """
    Whether ready payloads may be used, as migrate.yaml spells it.
    """
    return "auto" if used else "off"


# `Any` to the checker, exact to an editor: values.py reads these, with errors of its own.
_DURATION = r"^[0-9]+(\.[0-9]+)?(ms|s|m|h|d)$"
Duration = Annotated[Any, WithJsonSchema({"type": "string", "pattern": _DURATION})]
DurationOrNone = Annotated[
    Any, WithJsonSchema({"type": "string", "pattern": f"{_DURATION}|^none$"})
]
Share = Annotated[Any, WithJsonSchema({"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?%$"})]
Rate = Annotated[
    Any,
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1}, {"const": "none"}]}),
]
Count = Annotated[Any, WithJsonSchema({"type": "integer", "minimum": 1})]
Whole = Annotated[Any, WithJsonSchema({"type": "integer", "minimum": 0})]
AboveZero = Annotated[Any, WithJsonSchema({"type": "number", "exclusiveMinimum": 0})]


# Values that hold the defaults, and nothing else of interest.
_STORE = SourceConfig("sqlite")
_REDIS = RedisConfig("target", nodes=(Node("localhost", 6379),))
_THROTTLE = ThrottleConfig()
_GATES = GatesConfig()


class _Section(BaseModel):
    """
    Unknown keys are errors, nothing is converted, and no error repeats a value.

    The factories below only keep `null` and a default out of the schema: no value of it is used.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True)


_PASSWORD = "Reference to a password: ${env:NAME} or ${file:/path}; never the password itself."
_PASSWORD_FILE = "File that holds the password; one newline at its end is left out."


class StoreSection(_Section):
    """
    A SQL store.
    """

    url: str = Field(
        default_factory=str,
        description="dialect[+driver]://user@host:port/database, or sqlite:///path; "
        "dialects: postgresql, mysql, mariadb, sqlite.",
    )
    username: str = Field(default_factory=str, description="User; also possible in the URL.")
    password: str = Field(default_factory=str, description=_PASSWORD)
    password_file: str = Field(default_factory=str, description=_PASSWORD_FILE)
    retry_for: DurationOrNone = Field(
        spell_duration(_STORE.retry_for_s),
        description="How long to wait for a server that is away.",
    )


class TlsSection(_Section):
    """
    How connections to Redis are encrypted; giving the section switches TLS on for `nodes`.
    """

    ca_file: str = Field(
        default_factory=str, description="Certificate of the authority; the system's when left out."
    )
    cert_file: str = Field(
        default_factory=str, description="Certificate that we show to the server."
    )
    key_file: str = Field(default_factory=str, description="Key of that certificate.")
    verify: bool = Field(
        default=True, description="Check the server's certificate and host name; false is unsafe."
    )


class RedisSection(_Section):
    """
    One Redis instance.
    """

    url: str = Field(
        default_factory=str,
        description="redis://user@host:port/database, rediss:// with TLS, or unix:///path; "
        "instead of nodes.",
    )
    nodes: list[str] = Field(
        default_factory=list,
        description="host:port of the sentinels or of some of a cluster's nodes; instead of url.",
    )
    topology: Literal["auto", "standalone", "sentinel", "cluster"] = Field(
        _REDIS.topology.value, description="How the servers belong together; auto asks them."
    )
    service: str = Field(
        default_factory=str, description="Name of the master that the sentinels watch."
    )
    database: Whole = Field(_REDIS.database, description="Number of the database.")
    username: str = Field(default_factory=str, description="ACL user; also possible in the URL.")
    password: str = Field(default_factory=str, description=_PASSWORD)
    password_file: str = Field(default_factory=str, description=_PASSWORD_FILE)
    sentinel_username: str = Field(default_factory=str, description="ACL user of the sentinels.")
    sentinel_password: str = Field(default_factory=str, description=_PASSWORD)
    sentinel_password_file: str = Field(default_factory=str, description=_PASSWORD_FILE)
    tls: TlsSection | None = Field(None, description="Encryption; not for unix sockets.")
    pool_size: Count = Field(_REDIS.pool_size, description="Connections a process, at most.")
    timeout: Duration = Field(
        spell_duration(_REDIS.timeout_s),
        description="How long to wait for a connection and for each reply.",
    )
    retry_for: DurationOrNone = Field(
        spell_duration(_REDIS.retry_for_s),
        description="How long to wait for a server that is away or says not now.",
    )


class ThrottleSection(_Section):
    """
    What slows a run down.
    """

    rows_per_second: Rate = Field(
        "none",
        description="Rows a second of the whole run, over all workers, evenly; none is unlimited.",
    )
    redis_memory: Share = Field(
        spell_share(_THROTTLE.redis_memory),
        description="Share of maxmemory above which the run pauses.",
    )
    redis_latency_ms: AboveZero = Field(
        _THROTTLE.redis_latency_ms,
        description="Milliseconds that others may wait for Redis; above them a run takes smaller "
        "steps, and then pauses between them.",
    )
    pause_file: str = Field(
        _THROTTLE.pause_file, description="While this file exists, the run pauses."
    )


class GatesSection(_Section):
    """
    What must hold before a stage changes.
    """

    verification_max_age: Duration = Field(
        spell_duration(_GATES.verification_max_age_s),
        description="Age above which a verification no longer counts.",
    )
    read_p99_ms: AboveZero = Field(
        _GATES.read_p99_ms,
        description="Milliseconds that the slowest hundredth of reads from Redis may take.",
    )
    redis_memory: Share = Field(
        spell_share(_GATES.redis_memory),
        description="Share of maxmemory that Redis may use.",
    )
    lag_s: AboveZero = Field(_GATES.lag_s, description="Seconds that Redis may be behind SQL.")
    soak: DurationOrNone = Field(
        spell_duration(_GATES.soak_s),
        description="How long each step of the ramp must hold; none is no time.",
    )


class ConfigFile(_Section):
    """
    The configuration of profile-migrate.
    """

    version: Literal[1] = Field(description="Version of this file's language.")
    source: StoreSection | None = Field(None, description="The SQL store that is moved.")
    redis: dict[str, RedisSection | None] | None = Field(
        None,
        description="Redis instances by name; `target` is the one that is written to. "
        "Names are lower-case letters, digits and underscores.",
    )
    ledger: StoreSection | None = Field(
        None,
        description="SQL store of progress, rejects and locks; "
        f"left out: the SQLite file {DEFAULT_LEDGER}.",
    )
    mappings: str = Field(
        DEFAULT_MAPPINGS, description="Folder of mapping files, or one mapping file."
    )
    bulk: Literal["auto", "off"] = Field(
        spell_bulk(used=DEFAULT_BULK),
        description="Write records as ready payloads (RESTORE) where mapping, server and user "
        "allow it, and verify in bulk, which is faster; off writes each of them by the script and "
        "reads each of them back.",
    )
    throttle: ThrottleSection | None = Field(None, description="What slows a run down.")
    gates: GatesSection | None = Field(None, description="What must hold before a stage changes.")


def keys_of(section: type[BaseModel]) -> tuple[str, ...]:
    """
    The keys of a section, in the order of the reference.
    """
    return tuple(section.model_fields)


def json_schema() -> dict[str, Any]:
    """
    The JSON Schema of migrate.yaml, for editors.
    """
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **ConfigFile.model_json_schema(),
    }
