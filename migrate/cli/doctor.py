"""
The command that looks at every prerequisite and says how to mend what is missing.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import click

from migrate.cli.context import AppContext, pass_app
from migrate.cli.options import Command, json_option
from migrate.errors import ExitCode
from migrate.mapping.values import Mapping as ProfileMapping
from migrate.model.events import Waiting
from migrate.ops.console import one_line
from migrate.ops.tables import table
from migrate.stages.checks import Check, Result
from migrate.stages.doctor import Doctor


@click.command(cls=Command)
@click.argument("mapping", required=False)
@json_option
@pass_app
def doctor(app: AppContext, mapping: str | None) -> int:
    r"""
    Check everything that a run needs; each failing check says how to mend it.

    Asks the source, the target and the ledger, and changes nothing. Without MAPPING all mappings
    are looked at. Ends with 4 where a check failed.

    \b
    Examples:
      profile-migrate doctor
      profile-migrate doctor user_profiles --json
    """

    def chosen() -> Sequence[ProfileMapping]:
        return [app.mapping(mapping)] if mapping else list(app.mappings.values())

    def tell(waiting: Waiting) -> None:
        app.say(f"Waiting for the {waiting.store}: {waiting.reason}.")

    found = list(Doctor(lambda: app.settings, chosen, time.time, notify=tell).checks())
    bad = _count(found, Result.FAILED)
    app.emit(_as_json(found), "\n".join(_as_text(found)))
    words = ["doctor" if bad else "plan", *([mapping] if mapping else [])]
    app.next_step(f"profile-migrate {' '.join(words)}")
    return int(ExitCode.REFUSED if bad else ExitCode.DONE)


def _count(checks: Sequence[Check], result: Result) -> int:
    return sum(check.result is result for check in checks)


def _as_json(checks: Sequence[Check]) -> dict[str, object]:
    return {
        "checks": [
            {
                "id": check.id,
                "result": str(check.result),
                "what": check.what,
                "fix": check.fix or None,
            }
            for check in checks
        ],
        "failed": _count(checks, Result.FAILED),
        "warnings": _count(checks, Result.WARNING),
    }


def _as_text(checks: Sequence[Check]) -> Iterator[str]:
    rows = [(check.id, check.result, check.what) for check in checks]
    yield table(("check", "result", "found"), rows, align="lll")
    for check in checks:
        if check.fix:
            yield ""
            yield f"{check.result} {check.id}"
            yield f"  fix: {one_line(check.fix)}"
    yield ""
    bad, doubtful = _count(checks, Result.FAILED), _count(checks, Result.WARNING)
    yield f"{bad} failed, {doubtful} warning{'' if doubtful == 1 else 's'}."
