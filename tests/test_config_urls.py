"""
What `migrate/config/urls` promises: every password is read exactly, or refused without being shown.
"""

from __future__ import annotations

import string
from urllib.parse import quote

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from migrate.config.urls import parse_redis, parse_sql
from migrate.config.values import BadValue
from migrate.model.secret import Secret
from migrate.model.settings import TLS, Node, SourceConfig

# Long enough that it cannot be a part of our own sentences by chance.
passwords = st.text(min_size=1).map(lambda text: f"Qx7{text}zK9")
users = st.text(min_size=1, max_size=20)
hosts = st.sampled_from(["db", "db.example.com", "10.0.0.1", "my_db-1", "[::1]"])


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (
            "postgresql+psycopg://user:p%40ss@host:5432/db?sslmode=require",
            SourceConfig(
                "postgresql",
                driver="psycopg",
                host="host",
                port=5432,
                database="db",
                username="user",
                password=Secret("p@ss"),
                options={"sslmode": "require"},
            ),
        ),
        ("postgres://h/d", SourceConfig("postgresql", host="h", database="d")),
        ("POSTGRESQL://h/d", SourceConfig("postgresql", host="h", database="d")),
        (
            "postgresql:///d?host=/run/postgresql",
            SourceConfig("postgresql", host="/run/postgresql", database="d"),
        ),
        (
            "postgresql://u@[::1]:5/d%2Fe",
            SourceConfig("postgresql", host="::1", port=5, database="d/e", username="u"),
        ),
        (
            "postgresql://h/d?user=u&passwd=a%26b&options=-c%20a%3Db",
            SourceConfig(
                "postgresql",
                host="h",
                database="d",
                username="u",
                password=Secret("a&b"),
                options={"options": "-c a=b"},
            ),
        ),
        (
            "mysql+pymysql://u:p@h/d?charset=utf8mb4",
            SourceConfig(
                "mysql",
                driver="pymysql",
                host="h",
                database="d",
                username="u",
                password=Secret("p"),
                options={"charset": "utf8mb4"},
            ),
        ),
        (
            "mariadb:///d?unix_socket=/run/mysqld.sock",
            SourceConfig("mariadb", database="d", options={"unix_socket": "/run/mysqld.sock"}),
        ),
        ("sqlite:///a/b.db", SourceConfig("sqlite", database="a/b.db")),
        ("sqlite:////a/b@c#d.db", SourceConfig("sqlite", database="/a/b@c#d.db")),
        (
            "sqlite+pysqlite:///a.db?timeout=5",
            SourceConfig("sqlite", driver="pysqlite", database="a.db", options={"timeout": "5"}),
        ),
    ],
)
def test_a_sql_url_becomes_its_parts(url: str, expected: SourceConfig) -> None:
    """
    Each dialect's form is read as its own documentation says.
    """
    assert parse_sql(url) == expected


def test_a_redis_url_becomes_its_parts() -> None:
    """
    redis, rediss and unix URLs name a server, its database and a login.
    """
    plain = parse_redis("redis://user:p%2Fw@[::1]:7/3")
    encrypted = parse_redis("rediss://cache?db=2&ssl_ca_certs=/ca.pem&ssl_cert_reqs=required")
    socket = parse_redis("unix:///run/redis.sock?db=1&password=secret")

    assert (plain.nodes, plain.database) == ((Node("::1", 7),), 3)
    assert (plain.username, plain.password) == ("user", Secret("p/w"))
    assert (encrypted.nodes, encrypted.database) == ((Node("cache", 6379),), 2)
    assert encrypted.tls == TLS(ca_file="/ca.pem", verify=True)
    assert (socket.socket, socket.database, socket.password) == (
        "/run/redis.sock",
        1,
        Secret("secret"),
    )
    assert parse_redis("redis://h").database is None


@given(user=users, password=passwords, host=hosts)
def test_an_encoded_password_comes_back(user: str, password: str, host: str) -> None:
    """
    Any user and password, percent-encoded, are read exactly by both kinds of URL.
    """
    login = f"{quote(user, safe='')}:{quote(password, safe='')}"

    sql = parse_sql(f"postgresql://{login}@{host}/db")
    redis = parse_redis(f"redis://{login}@{host}/0")

    assert (sql.username, sql.password) == (user, Secret(password))
    assert (redis.username, redis.password) == (user, Secret(password))


@given(password=passwords, host=hosts)
@example(password="Qx7@zK9", host="db")
@example(password="Qx7:@:zK9", host="[::1]")
@example(password="Qx7/zK9", host="db")
@example(password="Qx7?a=b&c#zK9", host="db")
@example(password="Qx7[zK9", host="db")
def test_an_unescaped_password_is_read_exactly_or_refused(password: str, host: str) -> None:
    """
    Special characters as they stand either work or are refused; nothing of them is ever shown.
    """
    assume("%" not in password)
    for parse, url in (
        (parse_sql, f"postgresql://user:{password}@{host}:5432/db"),
        (parse_redis, f"redis://user:{password}@{host}:6379/0"),
        (parse_redis, f"redis://:{password}@{host}"),
    ):
        try:
            found = parse(url)
        except BadValue as bad:
            _assert_silent(bad, password, advice="percent-encode")
        else:
            assert found.password == Secret(password)
            assert "Qx7" not in repr(found)
            assert "zK9" not in repr(found)


@given(password=passwords)
def test_a_password_in_the_query_is_a_secret_or_refused(password: str) -> None:
    """
    `?password=` is taken for what it is, encoded or not.
    """
    encoded = parse_sql(f"mysql://u@h/d?password={quote(password, safe='')}&charset=utf8mb4")

    assert encoded.password == Secret(password)
    assert encoded.options == {"charset": "utf8mb4"}
    try:
        raw = parse_redis(f"redis://h/0?password={password}")
    except BadValue as bad:
        _assert_silent(bad, password)
    else:
        assert "Qx7" not in repr(raw)
        assert "zK9" not in repr(raw)


garbage = st.text(alphabet=string.ascii_letters + string.digits + ":/@?#[]%&=+ .-_\n\\é\ud800")


@given(before=garbage, between=garbage, after=garbage, scheme=st.sampled_from(["", "x", "redis"]))
def test_garbage_is_refused_in_silence(before: str, between: str, after: str, scheme: str) -> None:
    """
    No text raises anything but a BadValue, and none of them repeats the password in it.
    """
    password = "Qx7-CANARY-zK9"
    for parse in (parse_sql, parse_redis):
        for start in (scheme, "postgresql", "rediss", "unix", "sqlite"):
            url = f"{start}{before}://{between}{password}{after}"
            try:
                parse(url)
            except BadValue as bad:
                _assert_silent(bad, password)


@pytest.mark.parametrize(
    ("url", "rule"),
    [
        ("postgresql://h/d?sslpassword=x", "secret-parameter"),
        ("postgresql://h/d?a=1&a=2", "bad-parameter"),
        ("postgresql://h/d?a", "bad-parameter"),
        ("postgresql://h/d?password=a+b", "percent-encode"),
        ("postgresql://h/d/e", "bad-database"),
        ("postgresql://h1,h2/d", "bad-host"),
        ("postgresql://h1:1,h2:2/d", "bad-host"),
        ("postgresql://::1/d", "bad-host"),
        ("postgresql://[::1/d", "bad-host"),
        ("postgresql://[h]/d", "bad-host"),
        ("postgresql://h/d?host=i", "two-hosts"),
        ("postgresql://h:0/d", "bad-port"),
        ("postgresql://h:65536/d", "bad-port"),
        ("postgresql://h:٣/d", "bad-port"),
        ("postgresql://h:/d", "bad-port"),
        ("postgresql://h/%ff", "percent-encode"),
        ("postgresql://h/d ", "bad-character"),
        ("postgresql://h\n/d", "bad-character"),
        ("sqlite:///", "bad-database"),
        ("sqlite:///file:a.db?uri=true", "bad-database"),
        ("sqlite:///a%00b", "bad-database"),
        ("mssql://h/d", "unknown-scheme"),
        ("h/d", "bad-url"),
        ("", "bad-url"),
    ],
)
def test_a_wrong_sql_url_names_its_rule(url: str, rule: str) -> None:
    """
    Every way to be wrong has a rule of its own and a way out.
    """
    with pytest.raises(BadValue) as caught:
        parse_sql(url)

    assert caught.value.rule == rule
    assert caught.value.fix


@pytest.mark.parametrize(
    ("url", "rule"),
    [
        ("redis://h/x", "bad-database"),
        ("redis://h/1?db=2", "bad-database"),
        ("redis://h?socket_timeout=5", "unknown-parameter"),
        ("redis://h?ssl_ca_certs=/ca.pem", "tls-without-rediss"),
        ("rediss://h?ssl_cert_reqs=none", "tls-not-verified"),
        ("rediss://h?ssl_cert_reqs=optional", "tls-not-verified"),
        ("rediss://h?ssl_check_hostname=false", "tls-not-verified"),
        ("redis://", "missing-host"),
        ("unix://", "bad-url"),
        ("unix://host/run/redis.sock", "bad-url"),
        ("http://h", "unknown-scheme"),
    ],
)
def test_a_wrong_redis_url_names_its_rule(url: str, rule: str) -> None:
    """
    Every way to be wrong has a rule of its own and a way out.
    """
    with pytest.raises(BadValue) as caught:
        parse_redis(url)

    assert caught.value.rule == rule
    assert caught.value.fix


def _assert_silent(bad: BadValue, password: str, advice: str = "") -> None:
    assert advice in bad.fix.lower()
    shown = f"{bad.rule} {bad.message} {bad.fix} {bad!r}"
    assert password not in shown
    assert "Qx7" not in shown
    assert "zK9" not in shown
    assert bad.__cause__ is None
    assert bad.__context__ is None or bad.__suppress_context__
