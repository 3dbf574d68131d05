"""
Sub-commands by name, imported when one is used.

Help, completion and suggestions come from the table alone, so that they answer at once.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import click


class Entry(NamedTuple):
    """
    One line of a table of commands.

    Args:
        target: Where the command is: `module:attribute`.

        help: What it does, in one line.
    """

    target: str
    help: str


def paragraphs(text: str | None) -> str | None:
    r"""
    A help text with click's mark for lines that keep their breaks, which docstrings spell `\b`.
    """
    return text.replace("\\b", "\b") if text else text


class LazyCommand(click.Command):
    """
    Stands for a command whose module is imported when the command is parsed.
    """

    def __init__(self, name: str, entry: Entry) -> None:
        super().__init__(name, help=entry.help, short_help=entry.help, add_help_option=False)
        self.target = entry.target

    def load(self) -> click.Command:
        """
        The command itself.
        """
        module, _, attribute = self.target.partition(":")
        command = getattr(importlib.import_module(module), attribute)
        if not isinstance(command, click.Command):
            raise TypeError(f"{self.target} is not a command")
        return command

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        """
        The context of the real command: click goes on with the command that it names.
        """
        return self.load().make_context(info_name, args, parent=parent, **extra)


class LazyGroup(click.Group):
    """
    A group whose commands come from a table, in the table's order.
    """

    def add_table(self, entries: Mapping[str, Entry]) -> None:
        """
        Add every line of a table.
        """
        for name, entry in entries.items():
            self.add_command(LazyCommand(name, entry))

    def list_commands(self, ctx: click.Context) -> list[str]:
        """
        In the order of the table: the life of a migration, not the alphabet.
        """
        return list(self.commands)
