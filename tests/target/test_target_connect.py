"""
Ways in: TCP, unix socket, TLS, users; and what a connection is and is not.
"""

from __future__ import annotations

import ssl
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from migrate.errors import TargetAccessDenied, UsageProblem
from migrate.model.secret import Secret
from migrate.model.settings import TLS, Node, RedisConfig, Topology
from migrate.model.values import Outcome
from migrate.target.connect import connect
from migrate.target.health import read_identity
from migrate.target.link import Link
from migrate.target.loader import ScriptLoader
from migrate.target.retry import Patience
from migrate.target.store import RedisTarget
from tests.servers import HOST, Missing, RedisServer
from tests.target.conftest import (
    MAPPING,
    SHAPE,
    Heard,
    Skipping,
    begin,
    expected,
    loader,
    records,
    stored,
)
from tests.target.network import Proxy


@dataclass
class Certificates:
    """
    A CA, and a certificate of it for `localhost` and nothing else.
    """

    ca: Path
    other_ca: Path
    cert: Path
    key: Path

    def context(self) -> ssl.SSLContext:
        """
        For a server.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.cert, self.key)
        return context


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """
    Made by openssl for this test run.
    """
    folder = tmp_path_factory.mktemp("tls")

    def openssl(*arguments: str) -> None:
        try:
            subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)
        except FileNotFoundError:
            raise Missing("TLS tests need the program `openssl`.") from None

    new = ("req", "-newkey", "rsa:2048", "-nodes", "-days", "2")
    for name in ("ca", "other"):
        openssl(
            *new, "-x509", "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.pem"
        )
    openssl(*new, "-subj", "/CN=localhost", "-keyout", "server.key", "-out", "server.csr")
    (folder / "names").write_text("subjectAltName=DNS:localhost\n")
    openssl(
        "x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key",
        "-CAcreateserial", "-days", "2", "-extfile", "names", "-out", "server.pem",
    )  # fmt: skip
    return Certificates(
        folder / "ca.pem", folder / "other.pem", folder / "server.pem", folder / "server.key"
    )


@pytest.fixture
def tls(redis_server: RedisServer, certificates: Certificates) -> Iterator[Proxy]:
    """
    The shared Redis behind TLS.
    """
    with Proxy(redis_server.port, certificates.context()) as made:
        yield made


def encrypted(server: RedisServer, tls: Proxy, ca: Path | None, **changes: object) -> RedisConfig:
    host = str(changes.pop("host", "localhost"))
    verify = bool(changes.pop("verify", True))
    settings = TLS(ca_file=str(ca) if ca else None, verify=verify)
    return server.config(nodes=(Node(host, tls.port),), tls=settings, **changes)


def test_loads_through_tls(
    redis_server: RedisServer, tls: Proxy, certificates: Certificates, clock: Skipping
) -> None:
    """
    With the right CA and host name, everything works as without.
    """
    config = encrypted(redis_server, tls, certificates.ca)

    with RedisTarget.open(config, clock=clock) as target:
        loader(target).write(records(500))

        assert target.identity().address == f"rediss://localhost:{tls.port}/0"
    assert stored(redis_server) == expected(records(500))


def test_payloads_go_through_tls(
    modern: None,
    redis_server: RedisServer,
    tls: Proxy,
    certificates: Certificates,
    clock: Skipping,
) -> None:
    """
    Ready payloads too, whose answers are read past the driver's parser.
    """
    config = encrypted(redis_server, tls, certificates.ca)

    with RedisTarget.open(config, clock=clock) as target:
        check_payloads(target)

    assert stored(redis_server) == expected(records(2_000, fields=9, size=300))


def check_payloads(target: RedisTarget) -> None:
    """
    Write by payload and read back in bulk: whole hashes come in blocks of many sizes.
    """
    bulk = target.bulk(MAPPING, begin(target), SHAPE)
    whole = target.whole(SHAPE, 11)
    assert bulk is not None
    assert whole is not None
    batch = records(2_000, fields=9, size=300)
    bulk.write(batch)
    assert [len(held or ()) for held in whole.read([one.key for one in batch])] == [22] * 2_000
    whole.close()
    bulk.close()


@pytest.mark.parametrize("case", ["unknown CA", "another CA", "another host name"])
def test_a_certificate_that_does_not_verify(
    redis_server: RedisServer,
    tls: Proxy,
    certificates: Certificates,
    clock: Skipping,
    heard: Heard,
    case: str,
) -> None:
    """
    Exit 2 at once with plain advice; one attempt, no waiting.
    """
    config = {
        "unknown CA": lambda: encrypted(redis_server, tls, None),
        "another CA": lambda: encrypted(redis_server, tls, certificates.other_ca),
        "another host name": lambda: encrypted(redis_server, tls, certificates.ca, host=HOST),
    }[case]()

    with pytest.raises(TargetAccessDenied) as caught:
        RedisTarget.open(config, heard, clock)

    assert caught.value.where["reason"] == "tls-verify"
    assert "ca_file" in caught.value.next_step
    assert (heard.waits, tls.connections) == ([], 1)


def test_verification_is_off_only_where_it_is_switched_off(
    redis_server: RedisServer, tls: Proxy, clock: Skipping
) -> None:
    """
    `verify: false` connects to anything that speaks TLS.
    """
    config = encrypted(redis_server, tls, None, host=HOST, verify=False)

    with RedisTarget.open(config, clock=clock) as target:
        assert target.is_empty()


def test_tls_to_a_port_without_it(
    redis_server: RedisServer, certificates: Certificates, clock: Skipping, heard: Heard
) -> None:
    """
    A server that does not speak TLS is refused or given up with advice about TLS.
    """
    tls = TLS(ca_file=str(certificates.ca))
    config = redis_server.config(tls=tls, retry_for_s=1, timeout_s=0.2)

    with pytest.raises(Exception, match="Redis") as caught:
        RedisTarget.open(config, heard, clock)

    assert "TLS" in str(getattr(caught.value, "next_step", ""))


@pytest.mark.parametrize("setting", ["ca_file", "cert_file", "key_file"])
def test_certificate_files_that_are_not_there(
    redis_server: RedisServer, tmp_path: Path, setting: str
) -> None:
    """
    A wrong path is a mistake in the configuration, not a server that is away.
    """
    config = redis_server.config(tls=TLS(**{setting: str(tmp_path / "absent.pem")}))

    with pytest.raises(UsageProblem) as caught:
        RedisTarget.open(config)

    assert setting in caught.value.what


def test_a_unix_socket(
    redis_fresh: Callable[..., RedisServer], tmp_path: Path, clock: Skipping
) -> None:
    """
    A server on the same machine can be reached by its socket.
    """
    path = tmp_path / "s"
    server = redis_fresh(unixsocket=str(path))

    with RedisTarget.open(RedisConfig("target", socket=str(path)), clock=clock) as target:
        loader(target).write(records(3))

        assert target.detected.nodes == (str(path),)
    assert stored(server) == expected(records(3))


def test_payloads_go_through_a_unix_socket(
    modern: None, redis_fresh: Callable[..., RedisServer], tmp_path: Path, clock: Skipping
) -> None:
    """
    The same there.
    """
    path = tmp_path / "s"
    server = redis_fresh(unixsocket=str(path))

    with RedisTarget.open(RedisConfig("target", socket=str(path)), clock=clock) as target:
        check_payloads(target)

    assert stored(server) == expected(records(2_000, fields=9, size=300))


def test_a_former_master_behind_the_address_is_not_asked(
    redis_fresh: Callable[..., RedisServer], clock: Skipping
) -> None:
    """
    Who the master is, is asked over a new connection: an old one may outlive a failover.
    """
    former, later = redis_fresh(), redis_fresh()
    with Proxy(former.port) as address:
        config = former.config(nodes=(Node(HOST, address.port),))
        with RedisTarget.open(config, clock=clock) as target:
            before = target.identity().run_id
            address.lead_to(later.port)

            after = target.identity().run_id

    assert before == former.client().info("server")["run_id"]
    assert after == later.client().info("server")["run_id"]


def test_another_database(redis_server: RedisServer, clock: Skipping) -> None:
    """
    Records go to the database that is configured; one that does not exist is exit 2.
    """
    with RedisTarget.open(redis_server.config(database=3), clock=clock) as target:
        loader(target).write(records(3))

        assert not target.is_empty()
    assert stored(redis_server) == {}
    assert redis_server.client(db=3).dbsize() == 4
    with pytest.raises(TargetAccessDenied) as caught:
        RedisTarget.open(redis_server.config(database=99), clock=clock)
    assert caught.value.where["reason"] == "database"


def test_connections_are_named_and_few(redis_server: RedisServer, target: RedisTarget) -> None:
    """
    CLIENT LIST shows who we are; one connection serves a whole run.
    """
    loader(target).write(records(5000))

    names = [client["name"] for client in redis_server.client().client_list()]
    assert names.count("profile-migrate:target") == 1


@pytest.mark.parametrize("protocol", [2, 3])
def test_both_protocols_read_alike(
    redis_server: RedisServer, clock: Skipping, heard: Heard, protocol: int
) -> None:
    """
    The scripts' answers, INFO and the pipelines mean the same under RESP2 and RESP3.
    """
    from migrate.target.detect import detect
    from migrate.target.fence import Claim
    from migrate.target.fence import begin as claim
    from migrate.target.health import read_health
    from migrate.target.survey import lookup, measure

    config = redis_server.config()
    connected = connect(config, Topology.STANDALONE, protocol=protocol)
    link = Link(config, connected, Patience(config, heard, clock))
    detected = detect(config)
    try:
        state = claim(link, MAPPING, Claim("r", None, 0, 1, "f"))
        from migrate.model.values import Fence

        fence = Fence(state.mode, state.epoch, state.run, state.floor)
        writes = ScriptLoader(link, MAPPING, fence, SHAPE, lambda: read_identity(link, detected))
        redis_server.client().hset("user:1", mapping={"_v": "9", "_h": "a" * 16})

        receipt = writes.write(records(3))

        assert list(receipt.outcomes) == [Outcome.WRITTEN, Outcome.STALE, Outcome.WRITTEN]
        assert receipt.found == {1: "9"}
        assert writes.server == redis_server.client().info("server")["run_id"]
        assert read_health(link, clock).policy == "noeviction"
        assert [held.version for held in lookup(link, [b"user:1", b"x"], SHAPE)] == ["9", None]
        assert len(measure(link, clock, records(2), SHAPE).sizes or ()) == 2
    finally:
        connected.close()


def test_no_repr_shows_a_secret(redis_fresh: Callable[..., RedisServer], clock: Skipping) -> None:
    """
    Neither target nor link nor client shows the password.
    """
    server = redis_fresh(requirepass="CANARY-secret")

    with RedisTarget.open(server.config(), clock=clock) as target:
        begin(target)
        shown = [target, target._link, target._link._connected, target._link._connected.client]
        shown += [server.config(), target.detected, target.identity(), loader_of(target)]

        assert "CANARY" not in " ".join(repr(one) for one in shown)
        assert "CANARY" not in repr(vars(target)) + repr(vars(target._link))


def loader_of(target: RedisTarget) -> ScriptLoader:
    state = target.fence(MAPPING)
    assert state is not None
    return loader(target, begin(target, expected=state.run))


def test_a_secret_is_handed_over_whole(
    redis_fresh: Callable[..., RedisServer], clock: Skipping
) -> None:
    """
    A password of any characters is the password, not part of a URL.
    """
    wild = "p@ss:w/rd%41#?&"
    server = redis_fresh(requirepass=wild)

    with RedisTarget.open(server.config(password=Secret(wild)), clock=clock) as target:
        assert target.is_empty()
