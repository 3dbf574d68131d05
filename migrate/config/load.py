"""
The whole configuration as one frozen value: flag over environment over file over default.

Reads files and nothing else: no server is asked, no folder is created.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from pathlib import Path

from migrate.config import values
from migrate.config.layers import (
    CONFIG_VARIABLE,
    DEFAULT_FILE,
    Rank,
    merge,
    of_environment,
    of_file,
    of_flags,
    put_stores,
)
from migrate.config.schema import VERSIONS, ConfigFile
from migrate.config.section import Merged, Parsers, Section
from migrate.config.stores import absolute, redis_instance, sql_store
from migrate.config.values import BadValue
from migrate.documents.reader import Document, scan
from migrate.documents.shape import check
from migrate.errors import InvalidFiles, Problem
from migrate.model.secret import Secret
from migrate.model.settings import (
    DEFAULT_BULK,
    DEFAULT_LEDGER,
    DEFAULT_MAPPINGS,
    GatesConfig,
    RedisConfig,
    Settings,
    SourceConfig,
    ThrottleConfig,
)

_THROTTLE: Parsers = {
    "rows_per_second": ("rows_per_second", values.rate),
    "redis_memory": ("redis_memory", values.share),
    "redis_latency_ms": ("redis_latency_ms", values.above_zero),
}
_GATES: Parsers = {
    "verification_max_age": ("verification_max_age_s", values.duration_above_zero),
    "read_p99_ms": ("read_p99_ms", values.above_zero),
    "redis_memory": ("redis_memory", values.share),
    "lag_s": ("lag_s", values.above_zero),
    "soak": ("soak_s", values.duration_or_none),
}


def load(
    path: Path | None,
    environ: Mapping[str, str],
    overrides: Mapping[str, str] | None = None,
    stores: Mapping[str, str] | None = None,
) -> Settings:
    """
    The settings of a run.

    Relative paths start at the folder of the file that names them; those from the environment and
    from flags start at the working directory.

    Args:
        path: The configuration file; None takes the variable PROFILE_MIGRATE_CONFIG, else
            migrate.yaml in the working directory, else no file at all.

        overrides: From flags, by dotted name: `throttle.rows_per_second`.

        stores: URLs of stores to use instead of those that the layers name (`put_stores`).

    Raises:
        InvalidFiles: With every problem of every layer.
    """
    problems: list[Problem] = []
    document = _document(_path(path, environ), problems)
    file = of_file(document) if document else {}
    instances = {loc[1] for loc in file if loc[0] == "redis" and len(loc) > 1}
    environment = of_environment(environ, instances, problems)
    table = merge([file, environment, of_flags(overrides or {}, problems)])
    put_stores(table, stores or {})
    settings = _settings(Merged(table, environ, document, problems, {}))
    if settings is None or problems:
        raise InvalidFiles(list(dict.fromkeys(problems)))
    return settings


def _path(path: Path | None, environ: Mapping[str, str]) -> Path | None:
    if path is not None:
        return path
    if named := environ.get(CONFIG_VARIABLE):
        return Path(named)
    return Path(DEFAULT_FILE) if os.path.lexists(DEFAULT_FILE) else None


def _document(path: Path | None, problems: list[Problem]) -> Document | None:
    """
    The file, its shape checked; gives up where the rest could not be understood.
    """
    if path is None:
        return None
    document = scan(path, problems)
    if document is None:
        raise InvalidFiles(problems)
    _check_version(document)
    check(ConfigFile, document, problems)
    if not isinstance(document.data, dict):
        raise InvalidFiles(problems)
    return document


def _check_version(document: Document) -> None:
    version = document.data.get("version") if isinstance(document.data, dict) else None
    if type(version) is not int or version in VERSIONS:
        return
    line, column = document.position(("version",))
    known = ", ".join(map(str, VERSIONS))
    problem = Problem(
        document.path,
        line,
        column,
        "unsupported-version",
        f"This release reads version {known} of this file.",
        f"Write version: {VERSIONS[-1]}, or use the release that reads the file's version.",
    )
    # Alone: the keys of another version would only be taken for errors.
    raise InvalidFiles([problem])


def _settings(merged: Merged) -> Settings | None:
    """
    The settings; None where a part could not be built.
    """
    source = sql_store(merged.section(("source",)))
    redis = _instances(merged)
    ledger = _ledger(merged)
    throttle = _throttle(merged)
    gates = _gates(merged)
    mappings = _mappings(merged)
    bulk = _bulk(merged)
    if source is None or ledger is None:
        return None
    if source.dialect == ledger.dialect == "sqlite" and source.database == ledger.database:
        # A server can hold both in peace; in one file the ledger's tables would be the source's.
        merged.section(("ledger",)).refuse(
            "ledger-in-source",
            "The ledger is the source's own file, in which nothing is created unasked.",
            "Name another file under `ledger`, or leave it out.",
        )
        return None
    return Settings(
        source=source,
        redis=redis,
        ledger=ledger,
        mappings=mappings,
        throttle=throttle,
        gates=gates,
        bulk=bulk,
        origin=dict(sorted(merged.origin.items())),
        secrets=_secrets([source, ledger, *redis.values()]),
    )


def _secrets(stores: list[SourceConfig | RedisConfig]) -> tuple[Secret, ...]:
    found = [store.password for store in stores]
    found += [store.sentinel_password for store in stores if isinstance(store, RedisConfig)]
    return tuple(dict.fromkeys(secret for secret in found if secret is not None))


def _instances(merged: Merged) -> dict[str, RedisConfig]:
    names = {loc[1] for loc in merged.table if loc[0] == "redis" and len(loc) > 1}
    if "target" not in names and not merged.is_spoiled(("redis",)):
        near = difflib.get_close_matches("target", names, 1)
        hint = f"Rename {near[0]} to target" if near else "Write redis: {target: {url: ...}}"
        at = merged.place(("redis", *near))
        merged.problems.append(
            at.problem(
                "missing-target",
                "No Redis instance is called target: there is nowhere to write.",
                f"{hint}, or set PROFILE_MIGRATE_REDIS_TARGET_URL.",
            )
        )
    found = {name: redis_instance(merged.section(("redis", name))) for name in sorted(names)}
    return {name: one for name, one in found.items() if one is not None}


def _ledger(merged: Merged) -> SourceConfig | None:
    section = merged.section(("ledger",))
    if section.given or section.failed:
        return sql_store(section)
    return SourceConfig("sqlite", database=absolute(merged.folder, DEFAULT_LEDGER))


def _throttle(merged: Merged) -> ThrottleConfig:
    section = merged.section(("throttle",))
    section.fill(_THROTTLE)
    section.done()
    default = str(merged.folder / ThrottleConfig().pause_file)
    return ThrottleConfig(**section.fields, pause_file=section.path("pause_file") or default)


def _gates(merged: Merged) -> GatesConfig:
    section = merged.section(("gates",))
    section.fill(_GATES)
    section.done()
    return GatesConfig(**section.fields)


def _mappings(merged: Merged) -> str:
    given = merged.table.get(("mappings",))
    if given is None:
        return str(merged.folder / DEFAULT_MAPPINGS)
    section = Section(merged, (), given, {"mappings": given})
    section.done()
    return section.path("mappings") or ""


def _bulk(merged: Merged) -> bool:
    given = merged.table.get(("bulk",))
    if given is None:
        return DEFAULT_BULK
    section = Section(merged, (), given, {"bulk": given})
    section.done()
    try:
        return values.bulk(given.value)
    except BadValue as bad:
        if given.rank is not Rank.FILE:
            # What is wrong in the file was told with its shape.
            section.refuse(bad.rule, bad.message, bad.fix, given)
    return DEFAULT_BULK
