"""
What `migrate/config` promises about good configurations: who wins, from where, and as which value.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from migrate.config.load import load
from migrate.config.schema import json_schema
from migrate.errors import InvalidFiles
from migrate.model.secret import Secret
from migrate.model.settings import (
    TLS,
    GatesConfig,
    Node,
    RedisConfig,
    Settings,
    SourceConfig,
    ThrottleConfig,
    Topology,
)

Write = Callable[..., Path]

MINIMAL = """
version: 1
source: {url: "postgresql://app@db/profiles"}
redis: {target: {url: "redis://cache/0"}}
"""

FROM_VARIABLES = {
    "PROFILE_MIGRATE_SOURCE_URL": "postgresql://app@db/profiles",
    "PROFILE_MIGRATE_REDIS_TARGET_URL": "redis://cache/3",
}


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """
    Writes a file below an empty working directory.
    """
    monkeypatch.chdir(tmp_path)

    def write(text: str, name: str = "migrate.yaml") -> Path:
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_the_documented_file_is_read_whole(write: Write) -> None:
    """
    The file of the architecture becomes exactly these values.
    """
    write("from-the-file\n", "secrets/db")
    path = write("""
version: 1
source: {url: "postgresql+psycopg://app@db/profiles", password_file: secrets/db}
redis:
  target:
    url: "rediss://cache:6380/0"
    username: migrate
    password: ${env:REDIS_PASSWORD}
    topology: auto
    pool_size: 20
    timeout: 250ms
    retry_for: none
  queue: {nodes: [s1, "[::1]:26380"], topology: sentinel, service: jobs}
ledger: {url: "postgresql://ledger-host/ledger", retry_for: 2m}
mappings: mappings/
throttle: {rows_per_second: 500, redis_memory: 75%, redis_latency_ms: 2.5, pause_file: pause}
gates: {verification_max_age: 2d, read_p99_ms: 3, redis_memory: 50%, lag_s: 1, soak: none}
bulk: off
""")

    settings = load(path, {"REDIS_PASSWORD": "from-the-environment"})

    source_password, redis_password = Secret("from-the-file"), Secret("from-the-environment")
    assert settings.source == SourceConfig(
        "postgresql",
        driver="psycopg",
        host="db",
        database="profiles",
        username="app",
        password=source_password,
    )
    assert settings.redis == {
        "target": RedisConfig(
            "target",
            nodes=(Node("cache", 6380),),
            username="migrate",
            password=redis_password,
            tls=TLS(verify=True),
            pool_size=20,
            timeout_s=0.25,
            retry_for_s=0.0,
        ),
        "queue": RedisConfig(
            "queue",
            nodes=(Node("s1", 26379), Node("::1", 26380)),
            topology=Topology.SENTINEL,
            service="jobs",
        ),
    }
    assert settings.ledger == SourceConfig(
        "postgresql", host="ledger-host", database="ledger", retry_for_s=120.0
    )
    assert settings.mappings == "mappings"
    assert settings.throttle == ThrottleConfig(500, 0.75, 2.5, "pause")
    assert settings.gates == GatesConfig(2 * 86400.0, 3.0, 0.5, 1.0, 0.0)
    assert settings.bulk is False
    assert settings.secrets == (source_password, redis_password)


def test_bulk_is_auto_or_off(write: Write) -> None:
    """
    By the file and by a flag; anything else is refused with the words that are known.
    """
    assert load(write(MINIMAL + "bulk: auto\n"), {}).bulk
    assert not load(write(MINIMAL), {}, {"bulk": "off"}).bulk
    assert load(write(MINIMAL + "bulk: off\n"), {}, {"bulk": "auto"}).bulk
    for text, flags in (("bulk: on\n", {}), ("bulk: true\n", {}), ("", {"bulk": "yes"})):
        with pytest.raises(InvalidFiles) as caught:
            load(write(MINIMAL + text), {}, flags)
        [problem] = caught.value.problems
        assert "auto" in problem.fix or "auto" in problem.message


def test_what_is_left_out_has_the_default_of_the_model(write: Write, tmp_path: Path) -> None:
    """
    Defaults have one home: migrate/model/settings.py.
    """
    settings = load(write(MINIMAL), {})

    assert settings.throttle == ThrottleConfig()
    assert settings.gates == GatesConfig()
    assert settings.bulk is True
    assert settings.redis["target"] == RedisConfig("target", nodes=(Node("cache", 6379),))
    assert settings.ledger.database == str(tmp_path / ".profile-migrate/ledger.db")
    assert settings.mappings == "mappings"


def test_the_schema_shows_the_defaults_of_the_model() -> None:
    """
    An editor offers the same defaults that a run takes.
    """
    throttle = json_schema()["$defs"]["ThrottleSection"]["properties"]
    gates = json_schema()["$defs"]["GatesSection"]["properties"]

    assert {name: one["default"] for name, one in throttle.items()} == {
        "rows_per_second": "none",
        "redis_memory": "80%",
        "redis_latency_ms": 10.0,
        "pause_file": ".profile-migrate/pause",
    }
    assert {name: one["default"] for name, one in gates.items()} == {
        "verification_max_age": "24h",
        "read_p99_ms": 10.0,
        "redis_memory": "80%",
        "lag_s": 5.0,
        "soak": "30m",
    }


def test_every_key_of_the_schema_is_described() -> None:
    """
    The JSON Schema explains each key and is itself plain JSON.
    """
    schema = json.loads(json.dumps(json_schema()))

    described = [
        (section, key)
        for section, one in {**schema["$defs"], "ConfigFile": schema}.items()
        for key, value in one["properties"].items()
        if not value.get("description")
    ]
    assert described == []


def test_the_environment_alone_is_enough(write: Write) -> None:
    """
    Without a file, two variables make a whole configuration.
    """
    settings = load(None, FROM_VARIABLES)

    assert settings.source.address == "postgresql://db/profiles"
    assert settings.redis["target"].address == "redis://cache:6379/3"
    assert settings.origin == {
        "source.url": "PROFILE_MIGRATE_SOURCE_URL",
        "redis.target.url": "PROFILE_MIGRATE_REDIS_TARGET_URL",
    }


def test_flag_over_environment_over_file_over_default(write: Write) -> None:
    """
    The higher layer wins, and the origin says which one it was.
    """
    file = write(MINIMAL + "mappings: from-file\n")
    environment = {"PROFILE_MIGRATE_MAPPINGS": "from-environment"}
    flags = {"mappings": "from-flag"}

    found = [
        load(write(MINIMAL, "plain.yaml"), {}),
        load(file, {}),
        load(file, environment),
        load(file, environment, flags),
    ]

    assert [one.mappings for one in found] == [
        "mappings",
        "from-file",
        "from-environment",
        "from-flag",
    ]
    assert [one.origin.get("mappings") for one in found] == [
        None,
        "migrate.yaml:5",
        "PROFILE_MIGRATE_MAPPINGS",
        "flag mappings",
    ]


def test_every_number_can_come_from_a_flag(write: Write) -> None:
    """
    Flags are texts and are read as the file's values are.
    """
    flags = {
        "throttle.rows_per_second": "500",
        "throttle.redis_memory": "70%",
        "gates.soak": "1h",
        "redis.target.pool_size": "3",
        "redis.target.topology": "standalone",
        "redis.target.nodes": "other:1",
    }

    settings = load(write(MINIMAL), {}, flags)

    assert settings.throttle == ThrottleConfig(rows_per_second=500, redis_memory=0.7)
    assert settings.gates == GatesConfig(soak_s=3600.0)
    assert settings.redis["target"] == RedisConfig(
        "target", nodes=(Node("other", 1),), topology=Topology.STANDALONE, pool_size=3
    )


def test_a_url_of_a_higher_layer_replaces_nodes(write: Write) -> None:
    """
    To the layers, url and nodes are one setting: the address.
    """
    file = write(MINIMAL.replace('url: "redis://cache/0"', "nodes: [a, b]"))

    settings = load(file, {"PROFILE_MIGRATE_REDIS_TARGET_URL": "redis://c:7"})

    assert settings.redis["target"].nodes == (Node("c", 7),)


@pytest.mark.parametrize(
    ("file_url", "environ", "expected"),
    [
        ("redis://u:in-url@cache", {}, "in-url"),
        ("redis://u@cache", {"PROFILE_MIGRATE_REDIS_TARGET_PASSWORD_FILE": "pw"}, "in-file"),
        ("redis://u:in-url@cache", {"PROFILE_MIGRATE_REDIS_TARGET_PASSWORD_FILE": "pw"}, "in-file"),
        ("redis://u@cache", {"PROFILE_MIGRATE_REDIS_TARGET_URL": "redis://u:new@cache"}, "new"),
        ("redis://u@cache", {"PROFILE_MIGRATE_REDIS_TARGET_URL_FILE": "url"}, "in-url-file"),
    ],
)
def test_a_password_of_a_higher_layer_wins(
    write: Write, file_url: str, environ: dict[str, str], expected: str
) -> None:
    """
    A password counts with the layer that gave it, inside a URL or beside it.
    """
    write("in-file\n", "pw")
    write("redis://u:in-url-file@cache\n", "url")
    file = write(MINIMAL.replace("redis://cache/0", file_url))

    settings = load(file, environ)

    assert settings.redis["target"].password == Secret(expected)
    assert settings.secrets == (Secret(expected),)


def test_a_url_of_the_environment_wins_over_a_password_file_of_the_file(write: Write) -> None:
    """
    The loser is not read, and is not named as an origin.
    """
    file = write(
        MINIMAL.replace('"redis://cache/0"', '"redis://u@cache/0", password_file: missing')
    )

    settings = load(file, {"PROFILE_MIGRATE_REDIS_TARGET_URL": "redis://u:won@cache"})

    assert settings.redis["target"].password == Secret("won")
    assert settings.origin["redis.target.url"] == "PROFILE_MIGRATE_REDIS_TARGET_URL"
    assert "redis.target.password_file" not in settings.origin


@pytest.mark.parametrize(
    ("content", "password"),
    [("abc", "abc"), ("abc\n", "abc"), ("abc\n\n", "abc\n"), ("abc\r\n", "abc"), (" a ", " a ")],
)
def test_one_newline_at_the_end_of_a_password_file_is_left_out(
    write: Write, content: str, password: str
) -> None:
    """
    What an editor adds goes; everything else belongs to the password.
    """
    Path("pw").write_bytes(content.encode())
    file = write(MINIMAL.replace("db/profiles", 'db/profiles", password_file: "pw'))

    assert load(file, {}).source.password == Secret(password)


def test_references_stand_for_whole_values(write: Write) -> None:
    """
    `${env:X}` and `${file:path}` work for URLs and names as they do for passwords.
    """
    write("redis://cache:7/1\n", "secrets/url")
    file = write("""
version: 1
source: {url: "${env:DB}", username: "${env:WHO}", password: "${file:secrets/url}"}
redis: {target: {url: "${file:secrets/url}"}}
""")

    settings = load(file, {"DB": "postgresql://db/profiles", "WHO": "app"})

    assert settings.source.username == "app"
    assert settings.source.password == Secret("redis://cache:7/1")
    assert settings.redis["target"].address == "redis://cache:7/1"
    assert settings.origin["source.url"] == "migrate.yaml:3"


def test_paths_in_the_file_start_at_its_folder(write: Write, tmp_path: Path) -> None:
    """
    The same file means the same things from every working directory.
    """
    write("secret", "conf/pw")
    write("certificate", "conf/ca.pem")
    file = write(
        """
version: 1
source: {url: "sqlite:///data/profiles.db"}
redis: {target: {url: "rediss://cache", password_file: pw, tls: {ca_file: ca.pem}}}
mappings: maps
""",
        "conf/migrate.yaml",
    )

    settings = load(file, {})

    assert settings.source.database == str(tmp_path / "conf/data/profiles.db")
    assert settings.ledger.database == str(tmp_path / "conf/.profile-migrate/ledger.db")
    assert settings.mappings == "conf/maps"
    assert settings.throttle.pause_file == "conf/.profile-migrate/pause"
    assert settings.redis["target"].tls == TLS(ca_file="conf/ca.pem")
    assert settings.redis["target"].password == Secret("secret")


def test_paths_in_variables_and_flags_start_at_the_working_directory(
    write: Write, tmp_path: Path
) -> None:
    """
    What is typed in a shell means what the shell would take it for.
    """
    file = write(MINIMAL, "conf/migrate.yaml")
    environ = {"PROFILE_MIGRATE_SOURCE_URL": "sqlite:///x.db", "PROFILE_MIGRATE_MAPPINGS": "maps"}

    settings = load(file, environ, {"ledger.url": "sqlite:///l.db"})

    assert settings.source.database == str(tmp_path / "x.db")
    assert settings.ledger.database == str(tmp_path / "l.db")
    assert settings.mappings == "maps"


def test_absolute_paths_are_kept(write: Write, tmp_path: Path) -> None:
    """
    Four slashes, or a path from the root, start nowhere else.
    """
    file = write(
        f"""
version: 1
source: {{url: "sqlite:///{tmp_path}/a.db"}}
redis: {{target: {{url: "unix:///run/redis.sock?db=2"}}}}
mappings: /etc/maps
""",
        "conf/migrate.yaml",
    )

    settings = load(file, {})

    assert settings.source.database == str(tmp_path / "a.db")
    assert settings.mappings == "/etc/maps"
    assert settings.redis["target"].address == "unix:///run/redis.sock/2"


def test_the_variable_names_the_file(write: Write) -> None:
    """
    PROFILE_MIGRATE_CONFIG stands before ./migrate.yaml, and a given path before both.
    """
    write(MINIMAL + "mappings: here\n")
    named = write(MINIMAL + "mappings: named\n", "elsewhere/other.yaml")
    environ = {"PROFILE_MIGRATE_CONFIG": str(named)}

    found = [load(None, {}), load(None, environ), load(Path("migrate.yaml"), environ)]

    assert [one.mappings for one in found] == ["here", "elsewhere/named", "here"]


def test_instances_switch_by_name(write: Write) -> None:
    """
    Several instances live in one file, each with its own variables.
    """
    file = write("""
version: 1
source: {url: "postgresql://db/profiles"}
redis:
  target: {url: "redis://one"}
  queue: {url: "redis://two"}
  spare_2: {url: "redis://three"}
""")
    environ = {
        "PROFILE_MIGRATE_REDIS_QUEUE_URL": "redis://four",
        "PROFILE_MIGRATE_REDIS_SPARE_2_URL": "redis://five",
        "PROFILE_MIGRATE_REDIS_CACHE_URL": "redis://six",
    }

    redis = load(file, environ).redis

    assert {name: one.nodes[0].host for name, one in redis.items()} == {
        "target": "one",
        "queue": "four",
        "spare_2": "five",
        "cache": "six",
    }


def test_rediss_is_verified_unless_the_file_says_no(write: Write) -> None:
    """
    Only `verify: false`, written out, switches verification off.
    """
    file = MINIMAL.replace("redis://cache/0", "rediss://cache/0")
    careless = file.replace('cache/0"', 'cache/0", tls: {verify: false}')

    assert load(write(file), {}).redis["target"].tls == TLS(verify=True)
    assert load(write(careless), {}).redis["target"].tls == TLS(verify=False)


def test_nodes_with_a_tls_section_are_encrypted(write: Write) -> None:
    """
    An empty section is enough, for nodes have no scheme to say so.
    """
    file = write(MINIMAL.replace('url: "redis://cache/0"', "nodes: [a], tls: {}"))

    assert load(file, {}).redis["target"].tls == TLS(verify=True)


def test_empty_sections_are_as_if_left_out(write: Write) -> None:
    """
    A section whose keys are all commented out changes nothing.
    """
    file = write(MINIMAL + "ledger:\nthrottle:\ngates: {}\n")

    settings = load(file, {})

    assert settings.throttle == ThrottleConfig()
    assert settings.gates == GatesConfig()


def test_variables_of_the_tests_are_left_alone(write: Write) -> None:
    """
    What other parts of the project read is no typing error.
    """
    environ = {
        "PROFILE_MIGRATE_CHINOOK": "/data",
        "PROFILE_MIGRATE_TEST_SOURCE_URL": "x",
        "PROFILE_MIGRATE_SOMETHING_ELSE": "x",
    }

    assert load(write(MINIMAL), environ).origin.keys() == {"source.url", "redis.target.url"}


def test_no_secret_shows_in_any_repr(write: Write) -> None:
    """
    Passwords from every place are in Settings.secrets, and in no text made of the settings.
    """
    canaries = [f"CANARY-{number}" for number in range(5)]
    write(canaries[0], "pw0")
    write(canaries[1], "pw1")
    file = write("""
version: 1
source: {url: "mysql+pymysql://app@db/profiles?charset=utf8mb4", password_file: pw0}
redis:
  target:
    url: "redis://cache?password=CANARY-2"
    sentinel_username: watcher
    sentinel_password_file: pw1
  queue: {nodes: [q], username: u, password: "${env:QUEUE}"}
ledger: {url: "postgresql://u:CANARY-4@db/ledger"}
""")

    settings = load(file, {"QUEUE": canaries[3]})

    assert sorted(secret.reveal() for secret in settings.secrets) == canaries
    shown = [repr(settings), str(settings), repr(settings.origin)]
    shown += [repr(one) + one.address for one in [settings.source, settings.ledger]]
    shown += [repr(one) + one.address for one in settings.redis.values()]
    assert [text for text in shown if "CANARY" in text] == []


def test_no_pydantic_object_is_kept(write: Write) -> None:
    """
    The models hold what was typed, secrets included: nothing of them reaches the settings.
    """
    settings = load(write(MINIMAL), {})

    assert _modules_of(settings) <= {"builtins", "migrate.model.settings", "migrate.model.secret"}


def _modules_of(value: Any) -> set[str]:
    found = {type(value).__module__}
    if isinstance(value, dict):
        found |= {module for one in value.values() for module in _modules_of(one)}
    elif isinstance(value, tuple):
        found |= {module for one in value for module in _modules_of(one)}
    elif type(value).__module__ == Settings.__module__ and hasattr(value, "__dataclass_fields__"):
        found |= {m for one in fields(value) for m in _modules_of(getattr(value, one.name))}
    return found


def test_the_shipped_example_is_valid(write: Write) -> None:
    """
    The example in docs/configuration.md can be used as it stands.
    """
    docs = Path(__file__).parents[1] / "docs" / "configuration.md"
    example = docs.read_text(encoding="utf-8").split("```yaml\n")[1].split("```")[0]
    example = example.replace("/run/secrets/", "secrets/")
    for name in ("db", "redis", "redis-ca.pem"):
        write("secret", f"secrets/{name}")

    settings = load(write(example), {"QUEUE_PASSWORD": "x"})

    assert settings.redis.keys() == {"target", "queue"}


def test_nothing_at_all_says_what_to_write(write: Write) -> None:
    """
    A first start without file and variables names both ways to go on.
    """
    with pytest.raises(InvalidFiles) as caught:
        load(None, {})

    assert [problem.rule for problem in caught.value.problems] == ["missing-target", "missing-url"]
    assert all("PROFILE_MIGRATE_" in problem.fix for problem in caught.value.problems)


def test_a_program_may_put_other_stores_in_place(write: Write) -> None:
    """
    A store given by a program has nothing of the configured one but its patience.
    """
    path = write("""
version: 1
source: {url: "postgresql://app@db/profiles", password_file: /none, retry_for: 3s}
redis: {target: {url: "rediss://a@cache/7", password_file: /none, tls: {ca_file: /none}}}
ledger: {url: "postgresql://app@db/ledger", password_file: /none}
""")

    settings = load(
        path,
        {"PROFILE_MIGRATE_REDIS_TARGET_URL": "redis://b@elsewhere/1"},
        stores={
            "source": "sqlite:////tmp/rows.db",
            "redis.target": "redis://:secret@here/0",
            "ledger": "sqlite:////tmp/ledger.db",
        },
    )

    assert settings.source == SourceConfig("sqlite", database="/tmp/rows.db", retry_for_s=3.0)  # noqa: S108  read by nobody
    assert settings.ledger.address == "sqlite:////tmp/ledger.db"
    assert settings.redis["target"] == RedisConfig(
        "target", nodes=(Node("here", 6379),), password=Secret("secret")
    )
    assert settings.origin["source.url"] == "argument source"
