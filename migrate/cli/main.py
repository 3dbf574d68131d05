"""
The program: its table of commands, and the one place where an error becomes text and an exit code.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, NoReturn

import click

from migrate import __version__
from migrate.cli import faults
from migrate.cli.context import PROGRAM, AppContext, silence_stdout
from migrate.cli.lazy import Entry, LazyGroup, paragraphs
from migrate.cli.options import shared_options
from migrate.cli.signals import Terminated, stopped, terminate
from migrate.errors import ExitCode, MigrateError
from migrate.ops.wording import as_text

COMMANDS: Mapping[str, Entry] = {
    "demo": Entry("migrate.cli.demo.command:demo", "Move made-up profiles into a private Redis."),
    "init": Entry("migrate.cli.init:init", "Write a configuration and mappings from a schema."),
    "doctor": Entry("migrate.cli.doctor:doctor", "Check everything that a run needs."),
    "plan": Entry("migrate.cli.plan:plan", "Say what a backfill would do, and cost."),
    "mapping": Entry("migrate.cli.mapping:mapping", "Check and show mapping files."),
    "backfill": Entry("migrate.cli.backfill:backfill", "Copy the rows that exist into Redis."),
    "verify": Entry("migrate.cli.verify:verify", "Compare SQL and Redis, and change nothing."),
    "repair": Entry("migrate.cli.repair:repair", "Mend what a verification named."),
    "rejects": Entry("migrate.cli.rejects:rejects", "See and replay rows that were not moved."),
    "status": Entry("migrate.cli.status:status", "How far each mapping is, and what comes next."),
    "serve": Entry("migrate.cli.serve:serve", "Show metrics and a status page to this machine."),
    "rollback": Entry("migrate.cli.rollback:rollback", "Remove from Redis what was written."),
    "journal": Entry("migrate.cli.journal:journal", "See and check what was changed, and by whom."),
    "redis": Entry("migrate.cli.redis:redis", "See what a configured Redis points at."),
    "completion": Entry("migrate.cli.completion:completion", "Print a shell's completion script."),
}
"""Every command in the order of help, which is the life of a migration."""

_COMPLETE = "_PROFILE_MIGRATE_COMPLETE"


class Program(LazyGroup):
    """
    The group of all commands; every error ends here.
    """

    def __init__(self, *args: Any, **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self.help = paragraphs(self.help)

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,  # noqa: FBT001, FBT002 - the signature is click's
        windows_expand_args: bool = True,  # noqa: FBT001, FBT002
        **extra: Any,
    ) -> Any:
        """
        Run the command line and exit with its code; return the code where not standalone.
        """
        words = list(sys.argv[1:] if args is None else args)
        code = self._run(words, AppContext())
        if standalone_mode:
            sys.exit(code)
        return code

    def _run(self, words: list[str], app: AppContext) -> int:
        wants_json = "--json" in _before_dashes(words)
        try:
            return self._answer(words, app)
        except click.exceptions.NoArgsIsHelpError as exc:
            app.console.line(exc.format_message())
            return ExitCode.USAGE
        except BaseException as exc:  # noqa: BLE001 - every end of the program goes through here
            error = _as_error(exc, app)
        if error is None:
            return ExitCode.DONE
        self._tell(error, app, as_json=wants_json)
        return int(error.exit_code)

    def _answer(self, words: list[str], app: AppContext) -> int:
        instruction = os.environ.get(_COMPLETE)
        if instruction:
            from click.shell_completion import shell_complete

            return shell_complete(self, {}, PROGRAM, _COMPLETE, instruction)
        try:
            with self.make_context(PROGRAM, words, obj=app) as ctx:
                code = self.invoke(ctx)
        except click.exceptions.Exit as done:
            return done.exit_code
        return int(code) if isinstance(code, int) else ExitCode.DONE

    def _tell(self, error: MigrateError, app: AppContext, *, as_json: bool) -> None:
        text = (
            faults.as_json(error, app.redact)
            if as_json
            else as_text(error, lambda label: app.paint(label, "red", err=True))
        )
        app.console.line(text)


def _before_dashes(words: list[str]) -> list[str]:
    return words[: words.index("--")] if "--" in words else words


def _as_error(exc: BaseException, app: AppContext) -> MigrateError | None:
    """
    What to tell about an exception; None where there is nothing to tell.
    """
    match exc:
        case MigrateError():
            return exc
        case click.exceptions.Abort() | KeyboardInterrupt():
            return stopped(ExitCode.INTERRUPTED)
        case Terminated():
            return stopped(ExitCode.TERMINATED)
        case click.ClickException():
            return faults.usage(exc)
        case BrokenPipeError() if _reader_gone():
            silence_stdout()
            return None
        case Exception():
            stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
            return faults.unexpected(exc, stamp, app.redact)
        case _:
            raise exc


def _reader_gone() -> bool:
    # A broken pipe may also be a socket's, and that would be a bug: ask what ours says of itself.
    try:
        poll = select.poll()
        poll.register(sys.stdout.fileno(), select.POLLOUT)
        return any(state & (select.POLLERR | select.POLLHUP) for _, state in poll.poll(0))
    except (OSError, ValueError):
        return False


@click.group(
    cls=Program,
    params=shared_options(),
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, prog_name=PROGRAM, message="%(prog)s %(version)s")
def cli() -> None:
    r"""
    Move profiles from SQL to Redis, prove it, and go back.

    Results go to standard output, everything else to standard error.

    \b
    Examples:
      profile-migrate mapping lint
      profile-migrate redis detect target
    """


cli.add_table(COMMANDS)


def main() -> NoReturn:
    """
    The entry point of the installed command.
    """
    signal.signal(signal.SIGTERM, terminate)
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show a character gets its escape, never a crash.
        with suppress(AttributeError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    cli.main()
    raise SystemExit(ExitCode.DONE)
