"""
Commands about the configured Redis instances.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping

import click

from migrate.cli.context import AppContext, pass_app
from migrate.cli.options import Group, json_option
from migrate.errors import UsageProblem
from migrate.model.events import Waiting
from migrate.model.settings import RedisConfig
from migrate.ops.console import one_line
from migrate.target.detect import Detected
from migrate.target.detect import detect as ask


@click.group(cls=Group)
def redis() -> None:
    """
    See what a configured Redis points at.
    """


@redis.command()
@click.argument("name", default="target")
@json_option
@pass_app
def detect(app: AppContext, name: str) -> None:
    r"""
    Tell what the Redis instance NAME is: topology, flavour, version, role.

    Asks the server and writes nothing. NAME is a key below `redis:` in migrate.yaml.

    \b
    Examples:
      profile-migrate redis detect target
      profile-migrate redis detect queue --json
    """
    config = _instance(app.settings.redis, name)

    def tell(waiting: Waiting) -> None:
        app.say(f"Waiting for Redis '{name}': {waiting.reason}.")

    found = ask(config, tell)
    result = {"name": name, "address": config.address, **found.to_dict()}
    app.emit(result, as_text(name, config, found))


def _instance(instances: Mapping[str, RedisConfig], name: str) -> RedisConfig:
    if name in instances:
        return instances[name]
    near = difflib.get_close_matches(name, instances, n=1)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    raise UsageProblem(
        f"No Redis instance is called '{name}'.{hint}",
        where={"known": ", ".join(sorted(instances)) or "none"},
        next_step="Take one of these, or add it below `redis:` in migrate.yaml.",
    )


def as_text(name: str, config: RedisConfig, found: Detected) -> str:
    """
    What was found, for people.
    """
    facts = {
        "name": name,
        "address": config.address,
        "topology": str(found.topology),
        "server": f"{found.flavour} {found.version}".strip() or "unknown",
        "role": found.role,
        "nodes": ", ".join(found.nodes),
        "service": found.service,
        "told by": found.told_by,
    }
    return "\n".join(f"{fact:<10}{one_line(value)}" for fact, value in facts.items() if value)
