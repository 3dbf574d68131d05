"""
URLs of stores, read by us: no driver sees a URL, so none can quote a password in an error.

Never opens anything, and never repeats any part of a URL: in a wrong one, a password can stand
anywhere.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from urllib.parse import unquote

from migrate.config.values import REDIS_PORT, BadValue, host_and_port, whole
from migrate.documents.shape import suggest
from migrate.model.secret import Secret
from migrate.model.settings import TLS, Node, SourceConfig

# Scheme -> (dialect, driver); the drivers are those of the extras in pyproject.toml.
SQL_SCHEMES: dict[str, tuple[str, str | None]] = {
    "postgresql": ("postgresql", None),
    "postgresql+psycopg": ("postgresql", "psycopg"),
    "postgres": ("postgresql", None),
    "mysql": ("mysql", None),
    "mysql+pymysql": ("mysql", "pymysql"),
    "mariadb": ("mariadb", None),
    "mariadb+pymysql": ("mariadb", "pymysql"),
    "sqlite": ("sqlite", None),
    "sqlite+pysqlite": ("sqlite", "pysqlite"),
}
REDIS_SCHEMES = ("redis", "rediss", "unix")

_PASSWORD_NAMES = ("password", "passwd", "pwd")
_USER_NAMES = ("username", "user")
# Parameters of a URL that hold a secret we would have to print or lose.
_SECRET_NAME = re.compile(r"pass(?!file$)|pwd|secret|token", re.IGNORECASE)
_REDIS_PARAMETERS = (
    "db",
    "ssl_ca_certs",
    "ssl_certfile",
    "ssl_keyfile",
    "ssl_cert_reqs",
    "ssl_check_hostname",
)
_ENCODE = (
    "Percent-encode special characters (%40 for @, %2F for /, %3F for ?, %23 for #, %25 for %), "
    "or use password_file."
)
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
# Controls, line separators and lone surrogates (what undecodable bytes in a variable become).
_BAD_CHARACTER = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class RedisUrl:
    """
    What a Redis URL says; None where it says nothing.
    """

    nodes: tuple[Node, ...] = ()
    socket: str | None = None
    database: int | None = None
    username: str | None = None
    password: Secret | None = None
    tls: TLS | None = None


@dataclass(frozen=True, slots=True)
class _Parts:
    """
    A URL taken apart, decoded; the password is in no other part.
    """

    username: str | None
    password: Secret | None
    host: str | None
    port: int | None
    path: str
    query: dict[str, str]


def parse_sql(text: str) -> SourceConfig:
    """
    A SQL store from `dialect[+driver]://user:password@host:port/database?option=value`.

    A relative SQLite path stays relative: the caller knows to which folder.

    Raises:
        BadValue: The URL cannot be read.
    """
    scheme, rest = _scheme(text, SQL_SCHEMES)
    dialect, driver = SQL_SCHEMES[scheme]
    if dialect == "sqlite":
        return _sqlite(driver, rest)
    parts = _split(rest)
    query = dict(parts.query)
    host, port = _host_of_query(parts, query)
    if host is None and "unix_socket" not in query:
        raise BadValue(
            "missing-host",
            "The URL names no host.",
            f"Write {dialect}://user@host/database; a socket is named by a parameter, "
            "?host=/folder for PostgreSQL and ?unix_socket=/path for MySQL.",
        )
    database = parts.path.removeprefix("/")
    if not database:
        raise BadValue(
            "missing-database", "The URL names no database.", "Write /database after the host."
        )
    if "/" in database:
        raise BadValue(
            "bad-database",
            "The database's name holds a slash.",
            "Write the name alone; a slash that belongs to it is %2F.",
        )
    return SourceConfig(
        dialect=dialect,
        driver=driver,
        host=host,
        port=port,
        database=_decode(database),
        username=parts.username,
        password=parts.password,
        options=query,
    )


def parse_redis(text: str) -> RedisUrl:
    """
    A Redis server from `redis://`, `rediss://` (TLS, verified) or `unix://`.

    Raises:
        BadValue: The URL cannot be read, or switches verification off.
    """
    scheme, rest = _scheme(text, REDIS_SCHEMES)
    parts = _split(rest)
    tls = _tls(scheme, parts.query)
    if scheme == "unix":
        return _unix(parts)
    if parts.host is None:
        raise BadValue("missing-host", "The URL names no host.", f"Write {scheme}://host:6379/0.")
    return RedisUrl(
        nodes=(Node(parts.host, parts.port or REDIS_PORT),),
        database=_redis_database(parts.path.removeprefix("/"), parts.query),
        username=parts.username,
        password=parts.password,
        tls=tls,
    )


def _scheme(text: str, known: Iterable[str]) -> tuple[str, str]:
    if text != text.strip() or _BAD_CHARACTER.search(text):
        raise BadValue(
            "bad-character",
            "The URL has spaces around it, or holds a control or undecodable character.",
            _ENCODE,
        )
    scheme, found, rest = text.partition("://")
    if not found:
        raise BadValue(
            "bad-url", "This is no URL.", f"Start it with one of: {_list(known)} and ://."
        )
    if scheme.lower() not in known:
        fix = suggest(scheme[:40], list(known))
        raise BadValue("unknown-scheme", "The URL starts with an unknown scheme.", fix)
    return scheme.lower(), rest


def _split(rest: str) -> _Parts:
    end = min((at for at in map(rest.find, "/?#") if at >= 0), default=len(rest))
    authority, tail = rest[:end], rest[end:]
    # A password with a raw slash, question mark or hash ends the authority early; its @ is later.
    if "@" in tail or "#" in tail:
        raise BadValue(
            "percent-encode",
            "The URL holds an @ or a # behind the place where its host ends.",
            _ENCODE,
        )
    login, _, address = authority.rpartition("@")
    username, _, password = login.partition(":")
    host, port = host_and_port(address)
    path, _, query = tail.partition("?")
    parameters = _query(query)
    users = [_decode(username), *_pop(parameters, _USER_NAMES)]
    passwords = [_decode(password), *_pop(parameters, _PASSWORD_NAMES)]
    return _Parts(
        username=_only("user", users),
        password=Secret(only) if (only := _only("password", passwords)) else None,
        host=host,
        port=port,
        path=path,
        query=parameters,
    )


def _query(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for parameter in filter(None, text.split("&")):
        name, equals, value = parameter.partition("=")
        name = _decode(name)
        # The name is not repeated: behind a raw & it may be the rest of a password.
        if not equals or not name or name in found:
            raise BadValue(
                "bad-parameter",
                "A parameter of the URL has no name or no value, or comes twice.",
                "Write ?name=value&other=value; an & that belongs to a value is %26.",
            )
        if name in _PASSWORD_NAMES and "+" in value:
            raise BadValue(
                "percent-encode",
                "A + in the password of a URL's query can mean two things.",
                "Write %2B for a plus and %20 for a space.",
            )
        if name not in _PASSWORD_NAMES and _SECRET_NAME.search(name):
            raise BadValue(
                "secret-parameter",
                "The URL holds a secret that is not the login's password.",
                "Leave it out; secrets other than the password are not taken.",
            )
        found[name] = _decode(value.replace("+", " "))
    return found


def _pop(parameters: dict[str, str], names: Iterable[str]) -> list[str]:
    return [parameters.pop(name) for name in names if name in parameters]


def _only(what: str, given: Iterable[str]) -> str | None:
    values = [value for value in given if value]
    if len(values) > 1:
        raise BadValue(f"two-{what}s", f"The URL holds more than one {what}.", "Keep one of them.")
    return values[0] if values else None


def _decode(text: str) -> str:
    if _BAD_ESCAPE.search(text):
        raise BadValue(
            "percent-encode", "A % in the URL is not followed by two hex digits.", _ENCODE
        )
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise BadValue(
            "percent-encode",
            "A percent-encoded part of the URL is not UTF-8.",
            "Encode the UTF-8 bytes of each character.",
        ) from None


def _host_of_query(parts: _Parts, query: dict[str, str]) -> tuple[str | None, int | None]:
    """
    The host, from its place or from `?host=`, as libpq takes it: a folder there is a socket's.
    """
    host = query.pop("host", None)
    if host is None:
        return parts.host, parts.port
    if parts.host is not None:
        raise BadValue("two-hosts", "The URL names two hosts.", "Keep one of them.")
    if host.startswith("/"):
        return host, parts.port
    return host_and_port(host)


def _sqlite(driver: str | None, rest: str) -> SourceConfig:
    path, _, query = rest.partition("?")
    if not path.startswith("/"):
        raise BadValue(
            "bad-url",
            "A SQLite URL has no host.",
            "Write three slashes and a relative path, or four slashes: "
            "sqlite:///data/profiles.db, sqlite:////data/profiles.db.",
        )
    database = _decode(path[1:])
    is_file = database and database != ":memory:" and not database.startswith("file:")
    if not is_file or "\0" in database:
        raise BadValue(
            "bad-database",
            "The SQLite URL names no plain file.",
            "Name a file: an in-memory database is seen by one connection only.",
        )
    parameters = _query(query)
    if any(name in parameters for name in _PASSWORD_NAMES):
        raise BadValue("bad-parameter", "SQLite takes no password.", "Leave it out.")
    return SourceConfig(dialect="sqlite", driver=driver, database=database, options=parameters)


def _unix(parts: _Parts) -> RedisUrl:
    path = _decode(parts.path)
    if parts.host or parts.port or len(path) < 2 or "\0" in path:
        raise BadValue(
            "bad-url",
            "A unix URL has a path and no host.",
            "Write three slashes: unix:///run/redis.sock?db=0.",
        )
    return RedisUrl(
        socket=path,
        database=_redis_database("", parts.query),
        username=parts.username,
        password=parts.password,
    )


def _redis_database(path: str, query: dict[str, str]) -> int | None:
    given = {text for text in (path, query.get("db", "")) if text}
    try:
        numbers = [whole(text) for text in given]
    except BadValue:
        numbers = [-1, -1]
    if len(numbers) > 1:
        raise BadValue(
            "bad-database",
            "The URL's database is no number, or two numbers.",
            "Write one number behind the host: redis://host:6379/0.",
        )
    return numbers[0] if numbers else None


def _tls(scheme: str, query: dict[str, str]) -> TLS | None:
    for name in query:
        if name not in _REDIS_PARAMETERS:
            # Only the valid words: the given one may be the rest of a password behind a raw &.
            raise BadValue(
                "unknown-parameter",
                "The URL has a parameter that is not known here.",
                f"Known: {_list(_REDIS_PARAMETERS)}; anything else is a key of migrate.yaml. "
                "An & that belongs to a password is %26.",
            )
    if scheme != "rediss" and any(name.startswith("ssl_") for name in query):
        raise BadValue(
            "tls-without-rediss",
            "The URL has TLS parameters, but no TLS.",
            "Start it with rediss://.",
        )
    safe: dict[str, Callable[[str], bool]] = {
        "ssl_cert_reqs": lambda value: value == "required",
        "ssl_check_hostname": lambda value: value.lower() in ("true", "1", "yes"),
    }
    if any(name in query and not is_safe(query[name]) for name, is_safe in safe.items()):
        raise BadValue(
            "tls-not-verified",
            "The URL switches off the verification of the server.",
            "Name the authority's certificate in tls: {ca_file: ...}; "
            "to go on without verification, write tls: {verify: false} in migrate.yaml.",
        )
    if scheme != "rediss":
        return None
    return TLS(
        ca_file=query.get("ssl_ca_certs"),
        cert_file=query.get("ssl_certfile"),
        key_file=query.get("ssl_keyfile"),
    )


def _list(words: Iterable[str]) -> str:
    return ", ".join(words)
