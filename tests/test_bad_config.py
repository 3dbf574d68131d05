"""
What `migrate/config` promises about bad configurations: all problems at once, each at its place.

A planted password never appears in what is shown.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from migrate.config.load import load
from migrate.config.schema import json_schema
from migrate.errors import ExitCode, InvalidFiles, Problem

Write = Callable[..., Path]

CANARY = "CANARY-7f3a"

HEAD = "version: 1\n"
SOURCE = 'source: {url: "postgresql://app@db/profiles"}\n'
REDIS = 'redis: {target: {url: "redis://cache/0"}}\n'
GOOD = HEAD + SOURCE + REDIS


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """
    Writes migrate.yaml into an empty working directory.
    """
    monkeypatch.chdir(tmp_path)

    def write(text: str, name: str = "migrate.yaml") -> Path:
        path = Path(name)
        path.write_text(text, encoding="utf-8")
        return path

    return write


def problems(
    path: Path | None, environ: dict[str, str] | None = None, flags: dict[str, str] | None = None
) -> tuple[Problem, ...]:
    """
    What is wrong; the planted password is in no part of it.
    """
    with pytest.raises(InvalidFiles) as caught:
        load(path, environ or {}, flags)

    error = caught.value
    seen: BaseException | None = error
    while seen is not None:
        assert CANARY not in f"{seen} {seen!r} {seen.args} {seen.__dict__}"
        seen = seen.__cause__ or seen.__context__
    assert error.exit_code == ExitCode.USAGE
    assert all(problem.fix for problem in error.problems)
    return error.problems


CASES: dict[str, tuple[str, list[tuple[int, int, str, str]]]] = {
    # Of each: the text; line, column, rule and a part of the fix.
    "unknown key": (
        GOOD + "throtle: {redis_memory: 80%}\n",
        [(4, 1, "unknown-key", "`throttle`")],
    ),
    "unknown key of a section": (
        GOOD + "throttle:\n  redis_latency: 10\n",
        [(5, 3, "unknown-key", "`redis_latency_ms`")],
    ),
    "unknown key of an instance": (
        HEAD + SOURCE + 'redis:\n  target: {ulr: "redis://cache"}\n',
        [(4, 12, "unknown-key", "`url`")],
    ),
    "missing version": (SOURCE + REDIS, [(1, 1, "missing-key", "version")]),
    "unknown version": (
        GOOD.replace("version: 1", "version: 2") + "whatever: x\n",
        [(1, 10, "unsupported-version", "version: 1")],
    ),
    "version of a wrong type": (
        GOOD.replace("version: 1", 'version: "1"'),
        [(1, 10, "unknown-word", "1")],
    ),
    "no source": (HEAD + REDIS, [(1, 1, "missing-url", "PROFILE_MIGRATE_SOURCE_URL")]),
    "source without url": (
        HEAD + "source: {username: app}\n" + REDIS,
        [(2, 1, "missing-url", "source: {url:")],
    ),
    "a text where a section belongs": (
        HEAD + f'source: "postgresql://app:{CANARY}@db/profiles"\n' + REDIS,
        [(2, 9, "wrong-type", "key: value")],
    ),
    "no target": (
        HEAD + SOURCE + 'redis:\n  traget: {url: "redis://cache"}\n',
        [(4, 3, "missing-target", "Rename traget to target")],
    ),
    "no redis at all": (
        HEAD + SOURCE,
        [(1, 1, "missing-target", "PROFILE_MIGRATE_REDIS_TARGET_URL")],
    ),
    "instance without address": (
        HEAD + SOURCE + "redis:\n  target: {pool_size: 3}\n",
        [(4, 3, "redis-config", "Correct")],
    ),
    "url and nodes": (
        HEAD + SOURCE + 'redis:\n  target:\n    url: "redis://cache"\n    nodes: [other]\n',
        [(6, 12, "url-and-nodes", "Keep one")],
    ),
    "several rules of one instance": (
        HEAD
        + SOURCE
        + "redis:\n  target: {nodes: [a], topology: cluster, database: 3, service: jobs}\n",
        [(4, 3, "redis-config", "Correct"), (4, 3, "redis-config", "Correct")],
    ),
    "wrong topology": (
        HEAD + SOURCE + "redis:\n  target: {nodes: [a], topology: sentinal}\n",
        [(4, 34, "unknown-word", "`sentinel`")],
    ),
    "sentinel without service": (
        HEAD + SOURCE + "redis:\n  target: {nodes: [a], topology: sentinel}\n",
        [(4, 3, "redis-config", "Correct")],
    ),
    "ledger in the source": (
        HEAD
        + 'source: {url: "sqlite:////x/app.db"}\nredis: {target: {url: "redis://h"}}\n'
        + 'ledger: {url: "sqlite:////x/app.db"}\n',
        [(4, 1, "ledger-in-source", "another file")],
    ),
    "queue on a cluster": (
        GOOD.replace("}}\n", "}, queue: {nodes: [a], topology: cluster}}\n"),
        [(3, 73, "queue-cluster", "Sentinel")],
    ),
    "name of an instance": (
        GOOD.replace("}}\n", '}, Queue-1: {url: "redis://q"}}\n'),
        [(3, 43, "instance-name", "Rename")],
    ),
    "nodes that are none": (
        HEAD + SOURCE + 'redis:\n  target:\n    nodes: ["a:b", "::1", ":7", 6379]\n',
        [
            (5, 13, "bad-port", "Correct"),
            (5, 20, "bad-host", "[::1]"),
            (5, 27, "node", "host:port"),
            (5, 33, "wrong-type", "quotes"),
        ],
    ),
    "unknown scheme": (
        HEAD + f'source: {{url: "postgressql://app:{CANARY}@db/profiles"}}\n' + REDIS,
        [(2, 15, "unknown-scheme", "`postgresql`")],
    ),
    "driver that is not taken": (
        HEAD + f'source: {{url: "postgresql+asyncpg://app:{CANARY}@db/profiles"}}\n' + REDIS,
        [(2, 15, "unknown-scheme", "postgresql+psycopg")],
    ),
    "no url at all": (
        HEAD + SOURCE + f'redis: {{target: {{url: "{CANARY}"}}}}\n',
        [(3, 23, "bad-url", "redis")],
    ),
    "bad port": (
        HEAD + SOURCE + f'redis: {{target: {{url: "redis://:{CANARY}@cache:6379x/0"}}}}\n',
        [(3, 23, "bad-port", "Correct")],
    ),
    "no host": (
        HEAD + f'source: {{url: "postgresql://app:{CANARY}@/profiles"}}\n' + REDIS,
        [(2, 15, "missing-host", "postgresql://user@host/database")],
    ),
    "no database": (
        HEAD + f'source: {{url: "postgresql://app:{CANARY}@db"}}\n' + REDIS,
        [(2, 15, "missing-database", "/database")],
    ),
    "slash in a password": (
        HEAD + f'source: {{url: "postgresql://app:12/{CANARY}@db/profiles"}}\n' + REDIS,
        [(2, 15, "percent-encode", "%2F")],
    ),
    "hash in a password": (
        HEAD + SOURCE + f'redis: {{target: {{url: "redis://:7#{CANARY}@cache"}}}}\n',
        [(3, 23, "percent-encode", "%23")],
    ),
    "percent in a password": (
        HEAD + SOURCE + f'redis: {{target: {{url: "redis://:100%{CANARY}%@cache"}}}}\n',
        [(3, 23, "percent-encode", "%25")],
    ),
    "two passwords in a url": (
        HEAD + SOURCE + f'redis: {{target: {{url: "redis://:a@h?password={CANARY}"}}}}\n',
        [(3, 23, "two-passwords", "Keep one")],
    ),
    "password in a url and in a file": (
        HEAD + f'source: {{url: "mysql://u:{CANARY}@db/x", password_file: migrate.yaml}}\n' + REDIS,
        [(2, 60, "two-passwords", "Keep one")],
    ),
    "half a password behind an ampersand": (
        HEAD + SOURCE + f'redis: {{target: {{url: "redis://h?password=a&{CANARY}=b"}}}}\n',
        [(3, 23, "unknown-parameter", "%26")],
    ),
    "a password written out": (
        HEAD + SOURCE + f'redis: {{target: {{url: "redis://h", password: "{CANARY}"}}}}\n',
        [(3, 46, "plain-password", "${env:NAME}")],
    ),
    "a password as a number": (
        HEAD + SOURCE + 'redis: {target: {url: "redis://h", password: 1234}}\n',
        [(3, 46, "wrong-type", "quotes")],
    ),
    "a user without a password": (
        HEAD + SOURCE + f'redis: {{target: {{url: "redis://{CANARY}@h"}}}}\n',
        [(3, 23, "user-without-password", "redis://:password@host")],
    ),
    "unset variables, all of them": (
        HEAD
        + 'source: {url: "${env:DB_URL}", password: "${env:DB_PASSWORD}"}\n'
        + 'redis: {target: {url: "${env:REDIS_URL}"}}\n',
        [
            (2, 15, "unresolved-reference", "Set it"),
            (2, 42, "unresolved-reference", "Set it"),
            (3, 23, "unresolved-reference", "Set it"),
        ],
    ),
    "a password as the name of a variable": (
        HEAD + SOURCE + f'redis: {{target: {{url: "redis://h", password: "${{env:{CANARY}}}"}}}}\n',
        [(3, 46, "unresolved-reference", "Set it")],
    ),
    "a reference inside a url": (
        HEAD + SOURCE + 'redis: {target: {url: "redis://:${env:PW}@h"}}\n',
        [(3, 23, "reference", "password: ${env:NAME}")],
    ),
    "a missing password file": (
        HEAD + SOURCE + f'redis: {{target: {{url: "redis://h", password_file: {CANARY}}}}}\n',
        [(3, 51, "unreadable-file", "relative")],
    ),
    "a folder as password file": (
        HEAD + SOURCE + 'redis: {target: {url: "redis://h", password_file: .}}\n',
        [(3, 51, "unreadable-file", "path")],
    ),
    "no verification in a url": (
        HEAD + SOURCE + 'redis: {target: {url: "rediss://h?ssl_cert_reqs=none"}}\n',
        [(3, 23, "tls-not-verified", "tls: {verify: false}")],
    ),
    "tls settings without tls": (
        HEAD + SOURCE + 'redis: {target: {url: "redis://h", tls: {verify: true}}}\n',
        [(3, 50, "tls-without-rediss", "rediss://")],
    ),
    "verify as a word": (
        HEAD + SOURCE + 'redis: {target: {url: "rediss://h", tls: {verify: no}}}\n',
        [(3, 51, "wrong-type", "true or false")],
    ),
    "a missing certificate": (
        HEAD + SOURCE + 'redis: {target: {url: "rediss://h", tls: {ca_file: ca.pem}}}\n',
        [(3, 52, "unreadable-file", "relative")],
    ),
    "a key without its certificate": (
        HEAD + SOURCE + 'redis: {target: {url: "rediss://h", tls: {key_file: migrate.yaml}}}\n',
        [(3, 53, "tls", "Name both")],
    ),
    "numbers and units": (
        GOOD
        + "throttle: {rows_per_second: 0, redis_memory: 0.8, redis_latency_ms: -1}\n"
        + "gates: {verification_max_age: 24, read_p99_ms: fast, soak: 30min, lag_s: true}\n",
        [
            (4, 29, "number", "whole number from 1"),
            (4, 46, "percentage", "80%"),
            (4, 69, "number", "10"),
            (5, 31, "duration", "24h"),
            (5, 48, "number", "10"),
            (5, 60, "duration", "30m"),
            (5, 74, "number", "10"),
        ],
    ),
    "settings of an instance": (
        HEAD
        + SOURCE
        + "redis:\n  target:\n    nodes: [a]\n"
        + "    pool_size: 0\n    timeout: 0s\n    database: -1\n",
        [
            (6, 16, "number", "from 1"),
            (7, 14, "duration", "5s"),
            (8, 15, "number", "digits"),
        ],
    ),
    "a database in memory": (
        HEAD + 'source: {url: "sqlite:///:memory:"}\n' + REDIS,
        [(2, 15, "bad-database", "Name a file")],
    ),
    "two slashes for sqlite": (
        HEAD + 'source: {url: "sqlite://data/profiles.db"}\n' + REDIS,
        [(2, 15, "bad-url", "sqlite:////")],
    ),
    "a password for sqlite": (
        HEAD + 'source: {url: "sqlite:///a.db", password: "${file:migrate.yaml}"}\n' + REDIS,
        [(2, 1, "login", "Remove")],
    ),
    "a key twice": (GOOD + SOURCE, [(4, 1, "duplicate-key", "Remove one")]),
    "an empty text": (
        GOOD + 'mappings: ""\n',
        [(4, 11, "empty-value", "Write a value")],
    ),
    "a tag": (
        HEAD + SOURCE + f"redis: {{target: {{url: !secret {CANARY}}}}}\n",
        [(3, 23, "yaml-tag", "Remove")],
    ),
    "an unclosed quote": (
        HEAD + f'source: {{url: "postgresql://app:{CANARY}@db/profiles}}\n',
        [(2, 15, "yaml-syntax", "quote")],
    ),
    "a list": ("- version: 1\n", [(1, 1, "wrong-type", "key: value")]),
    "everything at once": (
        HEAD
        + f'source: {{url: "postgresql://u:{CANARY}@db:port/x"}}\n'
        + f'redis: {{target: {{url: "redis://:{CANARY}@@h@h/x", pool_size: many}}}}\n'
        + "gates: {soak: long, lag: 3}\n",
        [
            (2, 15, "bad-port", "Correct"),
            (3, 23, "bad-database", "redis://host:6379/0"),
            (3, 65, "number", "digits"),
            (4, 15, "duration", "24h"),
            (4, 21, "unknown-key", "`lag_s`"),
        ],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_each_problem_has_its_rule_place_and_fix(write: Write, name: str) -> None:
    """
    Every problem of a file comes at once, with its exact line and column and what to write.
    """
    text, expected = CASES[name]
    file = write(text)

    found = problems(file)

    assert [(one.file, one.line, one.column, one.rule) for one in found] == [
        ("migrate.yaml", line, column, rule) for line, column, rule, _ in expected
    ]
    for one, (_, _, _, fix) in zip(found, expected, strict=True):
        assert fix in one.fix


VARIABLES: dict[str, tuple[dict[str, str], list[tuple[str, str, str]]]] = {
    # Of each: the variables; file, rule and a part of the fix.
    "a typing error": (
        {"PROFILE_MIGRATE_SOURCE_ULR": CANARY},
        [
            (
                "PROFILE_MIGRATE_SOURCE_ULR",
                "unknown-variable",
                "PROFILE_MIGRATE_SOURCE_URL",
            )
        ],
    ),
    "the name of an instance": (
        {"PROFILE_MIGRATE_REDIS_TRAGET_URL": f"redis://:{CANARY}@h"},
        [
            (
                "PROFILE_MIGRATE_REDIS_TRAGET_URL",
                "unknown-variable",
                "PROFILE_MIGRATE_REDIS_TARGET_URL",
            )
        ],
    ),
    "lower case": (
        {"PROFILE_MIGRATE_source_url": CANARY},
        [
            (
                "PROFILE_MIGRATE_source_url",
                "unknown-variable",
                "PROFILE_MIGRATE_SOURCE_URL",
            )
        ],
    ),
    "a password in a variable": (
        {"PROFILE_MIGRATE_SOURCE_PASSWORD": CANARY},
        [
            (
                "PROFILE_MIGRATE_SOURCE_PASSWORD",
                "unknown-variable",
                "PROFILE_MIGRATE_SOURCE_PASSWORD_FILE",
            )
        ],
    ),
    "set but empty": (
        {"PROFILE_MIGRATE_SOURCE_URL": ""},
        [("PROFILE_MIGRATE_SOURCE_URL", "empty-value", "Unset")],
    ),
    "a url and its file": (
        {
            "PROFILE_MIGRATE_SOURCE_URL": f"postgresql://u:{CANARY}@h/d",
            "PROFILE_MIGRATE_SOURCE_URL_FILE": "url",
        },
        [("PROFILE_MIGRATE_SOURCE_URL_FILE", "two-variables", "Unset one")],
    ),
    "a missing url file": (
        {"PROFILE_MIGRATE_SOURCE_URL_FILE": CANARY},
        [("PROFILE_MIGRATE_SOURCE_URL_FILE", "unreadable-file", "path")],
    ),
    "a bad url": (
        {"PROFILE_MIGRATE_REDIS_TARGET_URL": f"redis://:{CANARY}"},
        [("PROFILE_MIGRATE_REDIS_TARGET_URL", "bad-port", "percent-encode")],
    ),
    "undecodable bytes": (
        {"PROFILE_MIGRATE_SOURCE_URL": f"postgresql://u:{CANARY}\udcff@h/d"},
        [("PROFILE_MIGRATE_SOURCE_URL", "bad-character", "Percent-encode")],
    ),
    "a missing configuration": (
        {"PROFILE_MIGRATE_CONFIG": "elsewhere.yaml"},
        [("elsewhere.yaml", "file-missing", "path")],
    ),
}


@pytest.mark.parametrize("name", VARIABLES)
def test_a_bad_variable_is_named(write: Write, name: str) -> None:
    """
    A problem of the environment names the variable, never its value.
    """
    environ, expected = VARIABLES[name]
    write(GOOD)
    write("postgresql://h/d", "url")

    found = problems(None, environ)

    assert [(one.file, one.rule) for one in found] == [(file, rule) for file, rule, _ in expected]
    for one, (_, _, fix) in zip(found, expected, strict=True):
        assert fix in one.fix


FLAGS: dict[str, tuple[dict[str, str], str]] = {
    # Of each: the flags and the rule.
    "unknown setting": ({"throttle.rows": "5"}, "unknown-setting"),
    "a password": ({"source.password": CANARY}, "secret-in-flag"),
    "a url with a password": ({"redis.target.url": f"redis://:{CANARY}@h"}, "secret-in-flag"),
    "a number": ({"throttle.rows_per_second": CANARY}, "number"),
    "a truth value": ({"redis.target.tls.verify": CANARY}, "wrong-type"),
    "a topology": ({"redis.target.topology": CANARY}, "unknown-word"),
}


@pytest.mark.parametrize("name", FLAGS)
def test_a_bad_flag_is_named(write: Write, name: str) -> None:
    """
    Secrets do not belong in flags, which every process of the machine can read.
    """
    flags, rule = FLAGS[name]
    file = write(GOOD.replace("redis://cache/0", "rediss://cache/0"))

    found = problems(file, flags=flags)

    assert [(one.file, one.rule) for one in found] == [(f"flag {next(iter(flags))}", rule)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"\n", "empty"),
        (b"\xff\xfe", "not UTF-8"),
        (b"x" * 20_000, "larger than 16 KiB"),
    ],
)
def test_a_bad_password_file_says_why(write: Write, content: bytes, message: str) -> None:
    """
    A file that cannot be meant is a problem, not an empty password.
    """
    Path("pw").write_bytes(content)
    file = write(GOOD.replace('profiles"', 'profiles", password_file: pw'))

    found = problems(file)

    assert [one.rule for one in found] == ["unreadable-file"]
    assert message in found[0].message


ODD = ["", "[]", "{}", "[[]]", "{a: {b: c}}", "true", "-1", "1e400", ".nan", "9" * 99]
ODD += ['"\\0"', '"\\ud800"', "${env:PATH}", '"${file:/dev/zero}"', "x" * 5000, f'"{CANARY}://"']


def _keys() -> list[tuple[str, str]]:
    schema = json_schema()
    sections = [("source", "StoreSection"), ("ledger", "StoreSection"), ("gates", "GatesSection")]
    sections += [("throttle", "ThrottleSection"), ("redis.target", "RedisSection")]
    sections += [("redis.queue", "RedisSection"), ("redis.target.tls", "TlsSection")]
    inside = [(loc, key) for loc, name in sections for key in schema["$defs"][name]["properties"]]
    return [("", key) for key in schema["properties"]] + [("redis", "target"), *inside]


@pytest.mark.parametrize(("section", "key"), _keys())
def test_nothing_odd_at_any_key_is_more_than_a_problem(
    write: Write, section: str, key: str
) -> None:
    """
    Whatever stands at a key, it is taken or refused as a problem: no other error gets out.
    """
    for odd in ODD:
        path = [*filter(None, section.split(".")), key]
        lines = ["  " * depth + f"{name}:" for depth, name in enumerate(path)]
        text = "\n".join([*lines[:-1], f"{lines[-1]} {odd}"])
        rest = [line for line in GOOD.splitlines() if not line.startswith(f"{path[0]}:")]
        file = write("\n".join([*rest, text, ""]))
        shown = "taken"
        try:
            load(file, {"PATH": CANARY})
        except InvalidFiles as error:
            shown = "".join(map(str, error.problems))
        assert shown
        assert CANARY not in shown


def test_the_cases_are_many() -> None:
    """
    At least fifteen different configurations are refused.
    """
    assert len(CASES) + len(VARIABLES) + len(FLAGS) > 60
