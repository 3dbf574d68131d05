"""
The options that mean the same on every command, and the command class that carries them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from migrate.cli.context import AppContext
from migrate.cli.lazy import LazyGroup, paragraphs
from migrate.ops.logs import logging_to

COLOURS = ("auto", "always", "never")
LOG_FORMATS = ("text", "json")

_EPILOG = (
    "The options of profile-migrate itself (--config, -q, -v, --no-input, ...) may also follow."
)


def _keep(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    # An option that was not given must not undo the same one given before the command's name.
    source = ctx.get_parameter_source(param.name or "")
    if param.name and source is not click.core.ParameterSource.DEFAULT:
        setattr(ctx.ensure_object(AppContext), param.name, value)


def _shared(*, hidden: bool) -> list[click.Parameter]:
    """
    The options of the program itself, accepted before and after a command's name.
    """
    common: dict[str, Any] = {"expose_value": False, "callback": _keep, "hidden": hidden}
    return [
        click.Option(
            ["--config", "config_file"],
            type=click.Path(path_type=Path),
            metavar="FILE",
            help="Configuration; migrate.yaml in this folder otherwise.",
            **common,
        ),
        click.Option(["-q", "--quiet"], is_flag=True, help="Only results and errors.", **common),
        click.Option(
            ["-v", "--verbose", "verbosity"],
            count=True,
            help="Say more; twice for everything.",
            **common,
        ),
        click.Option(
            ["--no-input"], is_flag=True, help="Never ask; say which flag is missing.", **common
        ),
        click.Option(
            ["--color"],
            type=click.Choice(COLOURS),
            default="auto",
            show_default=True,
            help="Colour in texts.",
            **common,
        ),
        click.Option(
            ["--log-format"],
            type=click.Choice(LOG_FORMATS),
            default="text",
            show_default=True,
            help="Form of log lines on standard error.",
            **common,
        ),
    ]


class Command(click.Command):
    """
    A command that takes the shared options and runs with logging set up.
    """

    def __init__(self, *args: Any, **attributes: Any) -> None:
        attributes.setdefault("epilog", _EPILOG)
        super().__init__(*args, **attributes)
        self.help = paragraphs(self.help)
        self.params += _shared(hidden=True)

    def invoke(self, ctx: click.Context) -> Any:
        """
        Run the command.
        """
        app = ctx.ensure_object(AppContext)
        verbosity = -1 if app.quiet else app.verbosity
        as_json = app.log_format == "json"
        with logging_to(app.console, verbosity=verbosity, as_json=as_json, redact=app.redact):
            return super().invoke(ctx)


class Group(LazyGroup):
    """
    A group of such commands.
    """

    command_class = Command

    def __init__(self, *args: Any, **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self.help = paragraphs(self.help)
        self.params += _shared(hidden=True)


def shared_options() -> list[click.Parameter]:
    """
    For the program itself, which shows them in its help.
    """
    return _shared(hidden=False)


def _complete(
    ctx: click.Context,
    param: click.Parameter,  # noqa: ARG001 - the signature is click's
    incomplete: str,
) -> list[CompletionItem]:
    # A shell waits for this: whatever is wrong with the files is told by the command, not here.
    try:
        found = (ctx.find_object(AppContext) or AppContext()).mappings
    except Exception:  # noqa: BLE001
        return []
    return [CompletionItem(name) for name in sorted(found) if name.startswith(incomplete)]


Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

mapping_argument: Decorator = click.argument("mapping", shell_complete=_complete)
"""The one argument of most commands: a mapping's name."""

dry_run_option: Decorator = click.option(
    "-n", "--dry-run", is_flag=True, help="Show what would happen; write nothing."
)

yes_option: Decorator = click.option("--yes", is_flag=True, help="Do not ask.")

json_option: Decorator = click.option(
    "--json",
    is_flag=True,
    expose_value=False,
    callback=_keep,
    help="One JSON object on standard output; errors as JSON on standard error.",
)
