"""
The configuration as frozen values: what `migrate/config` reads and everything else is handed.

No default of the tool has a second home: the files' schema takes its defaults from here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from migrate.errors import UsageProblem
from migrate.model.secret import Secret

DEFAULT_LEDGER = ".profile-migrate/ledger.db"
"""SQLite file of the ledger, relative to the folder of migrate.yaml."""

DEFAULT_MAPPINGS = "mappings/"
"""Folder of the mapping files, relative to the folder of migrate.yaml."""


DEFAULT_BULK = True
"""Ready payloads where that is possible."""


class Topology(StrEnum):
    """
    How the servers of one Redis instance belong together.
    """

    AUTO = "auto"
    STANDALONE = "standalone"
    SENTINEL = "sentinel"
    CLUSTER = "cluster"


@dataclass(frozen=True, slots=True)
class Node:
    """
    Host and port of one server.
    """

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class TLS:
    """
    How connections are encrypted; certificates and host names are verified unless said otherwise.
    """

    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    verify: bool = True


@dataclass(frozen=True, slots=True)
class RedisConfig:
    """
    One named Redis instance: all that is needed to connect, validated, switchable (ADR 0006).

    Args:
        nodes: One for a server of its own; the sentinels; or any of a cluster's nodes.

        socket: Path of a Unix socket instead of nodes.

        service: Name of the master that the sentinels watch.

        pool_size: Connections a process at most.

        timeout_s: For connecting and for each reply.

        retry_for_s: How long to wait for a server that is away or says "not now".

    Raises:
        UsageProblem: The parts do not go together.
    """

    name: str
    nodes: tuple[Node, ...] = ()
    socket: str | None = None
    database: int = 0
    username: str | None = None
    password: Secret | None = None
    topology: Topology = Topology.AUTO
    service: str | None = None
    sentinel_username: str | None = None
    sentinel_password: Secret | None = None
    tls: TLS | None = None
    pool_size: int = 10
    timeout_s: float = 5.0
    retry_for_s: float = 60.0

    def __post_init__(self) -> None:
        for message in self.problems():
            raise UsageProblem(
                message,
                where={"redis": self.name},
                next_step=f"Correct redis.{self.name} in migrate.yaml.",
            )

    def problems(self) -> list[str]:
        """
        Everything that does not go together, in words; empty when the object is sound.
        """
        found = []
        if bool(self.nodes) == bool(self.socket):
            found.append("Give either nodes (or a url) or a unix socket.")
        if self.topology is Topology.CLUSTER and self.database:
            found.append("Redis Cluster has database 0 only.")
        if self.topology is Topology.SENTINEL and not self.service:
            found.append("Sentinel needs `service`, the name of the master.")
        if self.service and self.topology in (Topology.STANDALONE, Topology.CLUSTER):
            found.append("`service` belongs to topology sentinel.")
        if self.topology is Topology.STANDALONE and len(self.nodes) > 1:
            found.append("Topology standalone takes one node.")
        if self.socket and self.topology in (Topology.SENTINEL, Topology.CLUSTER):
            found.append("A unix socket reaches one server only.")
        if self.socket and self.tls:
            found.append("A unix socket takes no TLS.")
        if self.pool_size < 1:
            found.append("`pool_size` starts at 1.")
        if self.timeout_s <= 0 or self.retry_for_s < 0:
            found.append("`timeout` is above 0 and `retry_for` not below it.")
        return found

    @property
    def address(self) -> str:
        """
        Where it points, for people and for comparing; never user or password.
        """
        scheme = "unix" if self.socket else "rediss" if self.tls else "redis"
        at = self.socket or ",".join(str(node) for node in self.nodes)
        service = f"/{self.service}" if self.service else ""
        return f"{scheme}://{at}{service}/{self.database}"


@dataclass(frozen=True, slots=True)
class SourceConfig:
    """
    Where the legacy SQL store is.

    Args:
        dialect: postgresql, mysql, mariadb or sqlite.

        driver: SQLAlchemy's name of the driver; None takes our default for the dialect.

        options: Further parameters of the URL, secrets excluded.

        retry_for_s: How long to wait for a server that is away.
    """

    dialect: str
    driver: str | None = None
    host: str | None = None
    port: int | None = None
    database: str | None = None
    username: str | None = None
    password: Secret | None = None
    options: Mapping[str, str] = field(default_factory=dict, repr=False)
    retry_for_s: float = 60.0

    @property
    def address(self) -> str:
        """
        Where it points, for people; never user, password or options.
        """
        if self.dialect == "sqlite":
            return f"sqlite:///{self.database}"
        port = f":{self.port}" if self.port else ""
        return f"{self.dialect}://{self.host or ''}{port}/{self.database or ''}"


@dataclass(frozen=True, slots=True)
class ThrottleConfig:
    """
    What slows a run down.

    Args:
        rows_per_second: Of the whole run, over all workers; None is unlimited.

        redis_memory: Share of maxmemory, 0 to 1, above which the run pauses.

        redis_latency_ms: Round trip above which a run takes smaller steps, and then pauses.

        pause_file: While this file exists, the run pauses.
    """

    rows_per_second: int | None = None
    redis_memory: float = 0.80
    redis_latency_ms: float = 10.0
    pause_file: str = ".profile-migrate/pause"


@dataclass(frozen=True, slots=True)
class GatesConfig:
    """
    What must hold before a stage changes.
    """

    verification_max_age_s: float = 24 * 3600.0
    read_p99_ms: float = 10.0
    redis_memory: float = 0.80
    lag_s: float = 5.0
    soak_s: float = 30 * 60.0


@dataclass(frozen=True, slots=True)
class Settings:
    """
    The whole configuration, merged from flags, environment, file and defaults.

    Args:
        bulk: Write ready payloads where that is possible; otherwise every record by the script.

        origin: Where each setting that is no default came from: flag, variable or file:line.

        secrets: Every secret in it, for the redactor.
    """

    source: SourceConfig
    redis: Mapping[str, RedisConfig]
    ledger: SourceConfig
    mappings: str
    throttle: ThrottleConfig = ThrottleConfig()
    gates: GatesConfig = GatesConfig()
    bulk: bool = DEFAULT_BULK
    origin: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[Secret, ...] = ()
