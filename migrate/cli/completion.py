"""
Prints the script that teaches a shell the commands.
"""

from __future__ import annotations

import click
from click.shell_completion import ShellComplete, get_completion_class

from migrate.cli.context import PROGRAM, AppContext, pass_app
from migrate.cli.options import Command

SHELLS = ("bash", "zsh", "fish")
VARIABLE = "_PROFILE_MIGRATE_COMPLETE"
"""Set by the script when the shell asks for completions."""


@click.command(cls=Command)
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
@pass_app
def completion(app: AppContext, ctx: click.Context, shell: str) -> None:
    r"""
    Print the completion script of SHELL.

    Load it in the start-up file of the shell.

    \b
    Examples:
      eval "$(profile-migrate completion bash)"
      profile-migrate completion fish > ~/.config/fish/completions/profile-migrate.fish
    """
    kind = get_completion_class(shell) or ShellComplete
    script = kind(ctx.find_root().command, {}, PROGRAM, VARIABLE)
    # Not kind.source: for bash it starts a bash to look at its version, which may not be here.
    app.write(ShellComplete.source(script).strip())
