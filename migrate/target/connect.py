"""
From a `RedisConfig` to a client: standalone, through Sentinel, or of one node of a Cluster.

Everything that redis-py would choose for us is chosen here. No command is sent but the login.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.maint_notifications import MaintNotificationsConfig
from redis.retry import Retry
from redis.sentinel import Sentinel

from migrate.errors import UsageProblem
from migrate.model.secret import Secret
from migrate.model.settings import Node, RedisConfig, Topology
from migrate.target.retry import DRIVER_ERRORS, FAILOVER, classify

PROTOCOL = 2
"""RESP2 by name: replies then have one shape on every server that we know."""

CLIENT_NAME = "profile-migrate"
"""First part of the name in CLIENT LIST; the instance's name follows."""


class Greeting:
    """
    Runs on every new connection: logs in, gives it its name, and counts it.

    The count is how a silent reconnect is noticed: redis-py says nothing of it, and the server
    behind it may be another one.
    """

    def __init__(self, instance: str) -> None:
        self.name = f"{CLIENT_NAME}:{instance}"
        self.count = 0

    def __call__(self, connection: Any) -> None:
        """
        For a client of one server: the whole login.
        """
        connection.on_connect()
        self.introduce(connection)

    def introduce(self, connection: Any) -> None:
        """
        What follows the login. A user that may not name its connection works all the same.
        """
        connection.send_command("CLIENT", "SETNAME", self.name)
        try:
            connection.read_response()
        except redis.ResponseError as error:
            # Servers that send us away say so to whatever comes first, and hang up.
            if classify(error).reason in ("protected", "max-clients"):
                raise
        self.count += 1


class Connected:
    """
    A client and what belongs to it.

    Args:
        client: Connects at its first command, not before.

        renew: Finds the master anew; of a server of its own there is nothing to find.
    """

    def __init__(
        self,
        client: redis.Redis,
        greeting: Greeting,
        close: tuple[Callable[[], None], ...] = (),
        renew: Callable[[], None] | None = None,
    ) -> None:
        self.client = client
        self._greeting = greeting
        self._close = (client.close, *close)
        self._renew = renew

    @property
    def connections(self) -> int:
        """
        How many connections were made so far; a higher number means that there was a reconnect.
        """
        return self._greeting.count

    def renew(self) -> None:
        """
        Make sure that the next command reaches whoever is the master now.

        A former master goes on to take writes for seconds after a failover, and loses them all.
        """
        if self._renew is not None:
            self._renew()

    def close(self) -> None:
        """
        Close every connection. A server that is away is no reason to fail.
        """
        for close in self._close:
            with suppress(redis.RedisError, OSError):
                close()


def connect(
    config: RedisConfig,
    topology: Topology,
    *,
    service: str | None = None,
    protocol: int = PROTOCOL,
) -> Connected:
    """
    A client of one server; `detect` finds out what `auto` stands for, `nodes` knows a Cluster.

    Args:
        service: The master's name, where the configuration leaves it to the sentinels.

    Raises:
        UsageProblem: A certificate file cannot be read.
    """
    check_files(config)
    greeting = Greeting(config.name)
    if topology is Topology.SENTINEL:
        return _sentinel(config, service or config.service or "", greeting, protocol)
    node = config.nodes[0] if config.nodes else None
    return Connected(client_of(config, node, greeting, protocol), greeting)


@contextmanager
def knock(
    config: RedisConfig, node: Node | None, *, as_sentinel: bool = False
) -> Iterator[redis.Redis]:
    """
    A short-lived client of exactly one server, whatever it is part of.

    Args:
        node: None is the unix socket.

        as_sentinel: Log in with the credentials for sentinels.
    """
    check_files(config)
    client = client_of(config, node, Greeting(config.name), PROTOCOL, as_sentinel=as_sentinel)
    try:
        yield client
    finally:
        with suppress(redis.RedisError, OSError):
            client.close()


def check_files(config: RedisConfig) -> None:
    """
    Refuse certificate files that cannot be read: the driver would call it a lost connection.
    """
    if config.tls is None:
        return
    named = {
        "tls.ca_file": config.tls.ca_file,
        "tls.cert_file": config.tls.cert_file,
        "tls.key_file": config.tls.key_file,
    }
    for setting, path in named.items():
        if path is not None and not (Path(path).is_file() and os.access(path, os.R_OK)):
            raise UsageProblem(
                f"The file of `{setting}` cannot be read.",
                where={"redis": config.name, "file": path},
                next_step="Correct the path, or let this user read the file.",
            )


def client_of(
    config: RedisConfig,
    node: Node | None,
    greeting: Greeting,
    protocol: int,
    *,
    as_sentinel: bool = False,
) -> redis.Redis:
    """
    A client of exactly one server; None is the unix socket.
    """
    login = _sentinel_login(config) if as_sentinel else _login(config)
    options = _options(config, protocol) | login | {"redis_connect_func": greeting}
    if not as_sentinel:
        options["db"] = config.database
    if node is None:
        return redis.Redis(unix_socket_path=config.socket, **options)
    return redis.Redis(host=node.host, port=node.port, **options, **_tls(config))


def _sentinel(config: RedisConfig, service: str, greeting: Greeting, protocol: int) -> Connected:
    common = _options(config, protocol) | _tls(config)
    make: Any = Sentinel  # not typed by the driver
    sentinel = make(
        [(node.host, node.port) for node in config.nodes],
        sentinel_kwargs=common | _sentinel_login(config),
        **common,
        **_login(config),
        db=config.database,
        redis_connect_func=greeting,
    )
    watchers = tuple(watcher.close for watcher in sentinel.sentinels)
    client: Any = sentinel.master_for(service)

    def renew() -> None:
        _refuse_failover(sentinel.sentinels, service)
        # This also drops the connections to another master.
        client.connection_pool.get_master_address()

    return Connected(client, greeting, watchers, renew)


def _refuse_failover(watchers: Sequence[Any], service: str) -> None:
    """
    Raise what is waited for, unless all sentinels that answer agree who the master is.
    """
    masters = set()
    for watcher in watchers:
        try:
            state = watcher.sentinel_masters().get(service)
        except DRIVER_ERRORS as error:
            if not classify(error).waits:
                raise
            continue
        if state is not None:
            masters.add((state["ip"], state["port"]))
            if "failover_in_progress" in state["flags"]:
                raise redis.RedisError(FAILOVER)
    if len(masters) > 1:
        raise redis.RedisError(FAILOVER)


def _options(config: RedisConfig, protocol: int) -> dict[str, Any]:
    # Notices of maintenance come with RESP3 alone, and redis-py 7 refuses the very word with RESP2.
    quiet = {"maint_notifications_config": MaintNotificationsConfig(enabled=False)}
    return (quiet if protocol == 3 else {}) | {
        "protocol": protocol,
        "decode_responses": False,
        "retry": Retry(NoBackoff(), 0),
        "retry_on_error": [],
        "socket_timeout": config.timeout_s,
        "socket_connect_timeout": config.timeout_s,
        "socket_keepalive": True,
        "health_check_interval": 0,
        "max_connections": config.pool_size,
        "driver_info": None,
    }


def _login(config: RedisConfig) -> dict[str, Any]:
    return _credentials(config.username, config.password)


def _sentinel_login(config: RedisConfig) -> dict[str, Any]:
    return _credentials(config.sentinel_username, config.sentinel_password)


def _credentials(username: str | None, password: Secret | None) -> dict[str, Any]:
    return {"username": username, "password": password.reveal() if password else None}


def _tls(config: RedisConfig) -> dict[str, Any]:
    tls = config.tls
    if tls is None:
        return {}
    return {
        "ssl": True,
        "ssl_ca_certs": tls.ca_file,
        "ssl_certfile": tls.cert_file,
        "ssl_keyfile": tls.key_file,
        "ssl_cert_reqs": "required" if tls.verify else "none",
        "ssl_check_hostname": tls.verify,
    }
