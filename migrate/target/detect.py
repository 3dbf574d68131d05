"""
What a `RedisConfig` points at: topology, flavour, version, role. Asks, and never writes.

`auto` believes the server; a topology that the configuration names wins, and one that the server
contradicts is an error, because a loader for the wrong one loses records.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import redis

from migrate.errors import UsageProblem
from migrate.model.events import Notify, silent
from migrate.model.ports import Clock
from migrate.model.settings import Node, RedisConfig, Topology
from migrate.target.connect import Connected, connect, knock
from migrate.target.nodes import Nodes
from migrate.target.retry import DRIVER_ERRORS, Kind, Patience, SystemClock, classify

MODES: Mapping[str, Topology] = {
    "standalone": Topology.STANDALONE,
    "sentinel": Topology.SENTINEL,
    "cluster": Topology.CLUSTER,
}
"""What servers call themselves."""

ROLES: Mapping[str, str] = {"master": "master", "slave": "replica", "replica": "replica"}
"""Their words for roles, and ours."""


@dataclass(frozen=True, slots=True)
class Detected:
    """
    What was found.

    Args:
        topology: Never auto.

        flavour: redis or valkey; empty where the server does not tell.

        version: Of the server software; empty where the server does not tell.

        role: master, replica or unknown.

        nodes: Addresses of the data servers: one, or every master of a cluster.

        service: Name of the master that the sentinels watch.

        told_by: How the topology was learnt: info, hello, trial, or configuration.
    """

    topology: Topology
    flavour: str
    version: str
    role: str
    nodes: tuple[str, ...]
    service: str | None = None
    told_by: str = "info"

    def to_dict(self) -> dict[str, object]:
        """
        The same for `--json`.
        """
        return {
            "topology": str(self.topology),
            "flavour": self.flavour,
            "version": self.version,
            "role": self.role,
            "nodes": list(self.nodes),
            "service": self.service,
            "told_by": self.told_by,
        }


@dataclass(frozen=True, slots=True)
class _Answer:
    """
    What one server said of itself. `topology` is None where it said nothing.
    """

    topology: Topology | None
    flavour: str = ""
    version: str = ""
    role: str = "unknown"
    told_by: str = "trial"


def detect(config: RedisConfig, notify: Notify = silent, clock: Clock | None = None) -> Detected:
    """
    Ask the server, the sentinels or the cluster what they are.

    Raises:
        UsageProblem: The configuration says otherwise, or leaves open which master is meant.
        TargetAccessDenied: Login, certificate or permission; not tried again.
        TargetUnavailable: Nobody answered for as long as the configuration allows.
    """
    patience = Patience(config, notify, clock or SystemClock())
    return patience.call(lambda: _look(config))


def _look(config: RedisConfig) -> Detected:
    answer = _first_answer(config)
    topology = answer.topology
    if config.topology is not Topology.AUTO:
        if topology not in (None, config.topology):
            raise _contradiction(config, str(topology))
        topology = config.topology
        if answer.topology is None:
            answer = _Answer(topology, told_by="configuration")
    if topology is Topology.SENTINEL:
        return _behind_sentinel(config, answer)
    if config.service:
        raise _contradiction(config, str(topology or "standalone"))
    if topology is Topology.CLUSTER:
        return _of_cluster(config, answer)
    if len(config.nodes) > 1:
        raise UsageProblem(
            "Several nodes are given, and they are single servers.",
            where={"redis": config.name, "address": config.address},
            next_step="Give one node, or the addresses of the sentinels or of a cluster.",
        )
    nodes = (str(config.nodes[0] if config.nodes else config.socket),)
    return _detected(Topology.STANDALONE, answer, nodes)


def _detected(
    topology: Topology, answer: _Answer, nodes: tuple[str, ...], service: str | None = None
) -> Detected:
    return Detected(
        topology, answer.flavour, answer.version, answer.role, nodes, service, answer.told_by
    )


def _contradiction(config: RedisConfig, found: str) -> UsageProblem:
    says = "names `service`, which sentinels have,"
    if config.topology is not Topology.AUTO:
        says = f"says topology {config.topology}"
    return UsageProblem(
        f"The configuration {says} and the server is of topology {found}.",
        where={"redis": config.name, "address": config.address, "found": found},
        next_step=f"Correct the address, or set redis.{config.name}.topology to {found} or auto.",
    )


def _first_answer(config: RedisConfig) -> _Answer:
    """
    The answer of the first node that is up. Raises the last node's error where none is.
    """
    nodes: tuple[Node | None, ...] = config.nodes or (None,)
    for at, node in enumerate(nodes):
        try:
            return _ask_node(config, node)
        except DRIVER_ERRORS as error:
            if at == len(nodes) - 1 or classify(error).kind is not Kind.AWAY:
                raise
    raise AssertionError("a configuration without nodes is refused when it is made")


def _ask_node(config: RedisConfig, node: Node | None) -> _Answer:
    if config.topology is Topology.SENTINEL:
        return _ask(config, node, as_sentinel=True)
    try:
        return _ask(config, node)
    except DRIVER_ERRORS as error:
        if config.topology is not Topology.AUTO or classify(error).reason not in (
            "auth",
            "database",
        ):
            raise
        # With `auto` it may be a sentinel, which has users of its own and no databases.
        answer = _ask_as_sentinel(config, node)
        if answer is None or answer.topology is not Topology.SENTINEL:
            raise
        return answer


def _ask_as_sentinel(config: RedisConfig, node: Node | None) -> _Answer | None:
    try:
        return _ask(config, node, as_sentinel=True)
    except DRIVER_ERRORS:
        return None


def _ask(config: RedisConfig, node: Node | None, *, as_sentinel: bool = False) -> _Answer:
    with knock(config, node, as_sentinel=as_sentinel) as client:
        client.ping()
        return _answer_of(client.execute_command)


def _answer_of(execute: Callable[..., Any]) -> _Answer:
    """
    By INFO, by HELLO, or by trial, whichever this user may do.
    """
    for way in (_by_info, _by_hello):
        try:
            return way(execute)
        except redis.ResponseError as error:
            if classify(error).waits:
                raise
    return _by_trial(execute)


def _by_info(execute: Callable[..., Any]) -> _Answer:
    said = dict(execute("INFO", "server"))
    flavour, version = flavour_of(said)
    role = ROLES.get(str(dict(execute("INFO", "replication")).get("role")), "unknown")
    return _Answer(MODES.get(str(said.get("redis_mode"))), flavour, version, role, "info")


def _by_hello(execute: Callable[..., Any]) -> _Answer:
    reply = execute("HELLO")
    pairs = reply.items() if isinstance(reply, dict) else zip(reply[::2], reply[1::2], strict=True)
    said = {_text(name): _text(value) for name, value in pairs}
    return _Answer(
        MODES.get(said.get("mode", "")),
        said.get("server", ""),
        said.get("version", ""),
        ROLES.get(said.get("role", ""), "unknown"),
        "hello",
    )


def _by_trial(execute: Callable[..., Any]) -> _Answer:
    """
    By what the server does: only a cluster knows slots, only a sentinel knows masters.
    """
    for words, topology in (
        (("CLUSTER SLOTS",), Topology.CLUSTER),
        (("SENTINEL MASTERS",), Topology.SENTINEL),
    ):
        try:
            execute(*words)
        except redis.ResponseError as error:
            if classify(error).waits:
                raise
        else:
            return _Answer(topology)
    return _Answer(None)


def flavour_of(said: Mapping[str, object]) -> tuple[str, str]:
    """
    Flavour and version from INFO server; Valkey also claims to be a Redis 7.2.
    """
    if "valkey_version" in said or said.get("server_name") == "valkey":
        return "valkey", str(said.get("valkey_version", ""))
    return "redis", str(said.get("redis_version", ""))


def _behind_sentinel(config: RedisConfig, answer: _Answer) -> Detected:
    service = config.service or _only_service(config)
    connected = connect(config, Topology.SENTINEL, service=service)
    try:
        master = _master(connected)
        client: Any = connected.client
        found = _answer_of(client.execute_command)
    finally:
        connected.close()
    told = answer.told_by if found.told_by == "trial" else found.told_by
    return Detected(
        Topology.SENTINEL, found.flavour, found.version, found.role, (master,), service, told
    )


def _master(connected: Connected) -> str:
    pool: Any = connected.client.connection_pool
    host, port = pool.get_master_address()
    return str(Node(_text(host), int(port)))


def _only_service(config: RedisConfig) -> str:
    """
    The one master that the sentinels watch.
    """
    names = _services(config)
    if len(names) == 1:
        return names[0]
    known = f"They watch: {', '.join(sorted(names))}." if names else "They watch none."
    raise UsageProblem(
        f"The sentinels watch {len(names)} masters, and `service` is not given. {known}",
        where={"redis": config.name, "address": config.address},
        next_step=f"Set redis.{config.name}.service to the master's name.",
    )


def _services(config: RedisConfig) -> list[str]:
    last: Exception | None = None
    for node in config.nodes:
        try:
            with knock(config, node, as_sentinel=True) as client:
                masters: Any = client.sentinel_masters()
                return [_text(name) for name in masters]
        except DRIVER_ERRORS as error:
            last = error
    raise last or AssertionError(
        "sentinels without nodes are refused when the configuration is made"
    )


def _of_cluster(config: RedisConfig, answer: _Answer) -> Detected:
    if not config.nodes:
        raise UsageProblem(
            "This unix socket is that of one node of a Cluster, and the others are not on it.",
            where={"redis": config.name, "address": config.address},
            next_step=f"Give host and port of some nodes in redis.{config.name}.nodes.",
        )
    known = Nodes(config)
    try:
        nodes = tuple(str(node) for node in known.masters())
    finally:
        known.close()
    return _detected(Topology.CLUSTER, answer, nodes)


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
