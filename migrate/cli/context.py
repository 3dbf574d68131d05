"""
What every command is handed: settings, mappings, and the ways to answer. All of it on demand.
"""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from migrate.errors import OutputFailed, Refused, UsageProblem
from migrate.mapping.choice import pick
from migrate.model.secret import Redactor
from migrate.model.settings import DEFAULT_MAPPINGS, Settings
from migrate.ops.console import Console

if TYPE_CHECKING:
    from migrate.mapping.values import Mapping as ProfileMapping

PROGRAM = "profile-migrate"


class AppContext:
    """
    The flags that every command shares, and what follows from them.

    Nothing is loaded before a command asks for it: `--help` reads no file.
    """

    def __init__(self) -> None:
        self.config_file: Path | None = None
        self.overrides: dict[str, str] = {}
        self.json = False
        self.quiet = False
        self.verbosity = 0
        self.no_input = False
        self.color = "auto"
        self.log_format = "text"
        self.console = Console(sys.stderr, redact=self.redact)

    # What the user has

    @cached_property
    def settings(self) -> Settings:
        """
        The configuration: flags before environment before file before defaults.
        """
        from migrate.config.load import load

        return load(self.config_file, os.environ, self.overrides)

    @property
    def mappings_folder(self) -> Path:
        """
        Where the mappings are; without any configuration, its default place.
        """
        from migrate.config.layers import CONFIG_VARIABLE, DEFAULT_FILE, PREFIX

        named = self.config_file or os.environ.get(CONFIG_VARIABLE)
        if named or os.path.lexists(DEFAULT_FILE):
            return Path(self.settings.mappings)
        return Path(os.environ.get(f"{PREFIX}MAPPINGS") or DEFAULT_MAPPINGS)

    @cached_property
    def mappings(self) -> Mapping[str, ProfileMapping]:
        """
        Every mapping of the configured folder, by name.

        Raises:
            UsageProblem: This folder has neither a configuration nor mappings.
        """
        from migrate.config.layers import DEFAULT_FILE
        from migrate.mapping.files import load

        folder = self.mappings_folder
        missing = not any(os.path.lexists(place) for place in (DEFAULT_MAPPINGS, DEFAULT_FILE))
        if missing and folder == Path(DEFAULT_MAPPINGS):
            raise UsageProblem(
                "Nothing is configured here.",
                where={"missing": f"{DEFAULT_FILE}, {DEFAULT_MAPPINGS}"},
                next_step="Go to their folder, or have them written by profile-migrate init; "
                "to see it work first: profile-migrate demo",
            )
        return load(folder)

    def mapping(self, name: str) -> ProfileMapping:
        """
        One mapping.

        Raises:
            UnknownMapping: There is none of that name; says which there are.
        """
        return pick(self.mappings, name)

    def redact(self, text: str) -> str:
        """
        The text without any secret of the settings, as far as they are loaded.
        """
        return self._redactor(text) if "settings" in vars(self) else text

    @cached_property
    def _redactor(self) -> Redactor:
        return Redactor.of(self.settings.secrets)

    # What the user is told

    def emit(self, result: Mapping[str, Any], human: str) -> None:
        """
        Answer on standard output: one JSON object with `--json`, the text otherwise.

        The object begins with its schema, named after the command. A reader that went away
        (`| head`) loses the answer; what was done stays done and keeps its exit code.
        """
        self.write(self._json_of(result) if self.json else self.redact(human))

    def _json_of(self, result: Mapping[str, Any]) -> str:
        path = click.get_current_context().command_path.split()[1:]
        schema = f"{PROGRAM}.{'-'.join(path)}/1"
        return json.dumps(clean({"schema": schema, **result}, self.redact), default=str)

    def write(self, text: str) -> None:
        """
        Print to standard output as it is, for documents that are no answers: files, scripts, lines.

        Raises:
            OutputFailed: The output cannot take it, for example because a disk is full.
        """
        try:
            click.echo(text, color=self.colour_of(sys.stdout))
        except BrokenPipeError:
            silence_stdout()
        except OSError as exc:
            silence_stdout()
            raise OutputFailed(
                "The result could not be written to standard output.",
                where={"reason": errno.errorcode.get(exc.errno or 0, "unknown")},
                next_step="Make room, or send the output elsewhere, and run the command again.",
            ) from None

    def say(self, text: str) -> None:
        """
        A message for people on standard error; silent with `--quiet`.
        """
        if not self.quiet:
            self.console.line(text)

    def warn(self, text: str) -> None:
        """
        Something that a person must know; `--quiet` does not silence it.
        """
        self.console.line(f"warning: {text}")

    def next_step(self, command: str) -> None:
        """
        The command to run next, as the last line; not with `--quiet` or `--json`.
        """
        if not self.json:
            self.say(f"next: {command}")

    def confirm(self, question: str, *, yes: bool) -> None:
        """
        Ask before something changes, unless `--yes` was given.

        Raises:
            UsageProblem: Nobody can be asked; names the flag.
            Refused: The answer was no.
        """
        if yes:
            return
        if self.no_input or not sys.stdin.isatty():
            raise UsageProblem(
                f"{question} Nobody can be asked here.",
                next_step="Add --yes to the same command.",
            )
        if not click.confirm(question, err=True):
            raise Refused("The answer was no; nothing was changed.")

    def colour_of(self, stream: Any) -> bool:
        """
        Whether the stream takes colour: `--color`, then NO_COLOR, TERM and the terminal.
        """
        if self.color != "auto":
            return self.color == "always"
        plain = bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"
        return not plain and bool(stream.isatty())

    def paint(self, text: str, colour: str, *, err: bool = False) -> str:
        """
        The text in a colour where that is wanted; states must also differ as text.
        """
        stream = sys.stderr if err else sys.stdout
        return click.style(text, fg=colour, bold=True) if self.colour_of(stream) else text


pass_app = click.make_pass_decorator(AppContext)


def clean(value: Any, redact: Callable[[str], str]) -> Any:
    """
    A JSON-like value with every text in it, and no key, filtered.
    """
    match value:
        case str():
            return redact(value)
        case dict():
            return {key: clean(part, redact) for key, part in value.items()}
        case list() | tuple():
            return [clean(part, redact) for part in value]
        case _:
            return value


def silence_stdout() -> None:
    """
    Point standard output at nothing, so that the interpreter's last flush does not fail aloud.
    """
    with suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
