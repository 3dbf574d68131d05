"""
Walks through a runbook as a person would: block after block, literally, in a user's folder.

A block must end with the exit code and the output that the book shows; what only a person can do
is done by the test. Whether the system is well afterwards is for the test to judge.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.project import ROOT, Project
from tests.runbook_files import MANUAL, Block, Book
from tests.servers import Missing, embedded_redis

TOOLS = ("bash", "redis-cli", "sqlite3", "ps", "tail", "timeout")
"""What a person needs beside the program; the embedded Redis brings its own redis-cli."""

UNMET = "!"
"""Before a block's name: it ends otherwise than shown, and the box below it is followed."""

_PROGRAM = "profile-migrate"


@dataclass(slots=True)
class Walk:
    """
    One way through a book.

    Args:
        path: Names of blocks in the order in which the person comes to them.

        values: Of the variables in the first block, instead of those that are printed there.

        by_hand: What the person does, by the name of a manual block.
    """

    book: Book
    path: Sequence[str]
    project: Project
    values: Mapping[str, str]
    by_hand: Mapping[str, Callable[[], object]] = field(default_factory=dict)
    _done: int = 0

    def __post_init__(self) -> None:
        self.project.environment = {
            **self.project.environment,
            "PATH": f"{self._tools()}{os.pathsep}{os.environ['PATH']}{os.pathsep}{_redis_folder()}",
        }
        for tool in TOOLS:
            if not shutil.which(tool, path=self.project.environment["PATH"]):
                raise Missing(f"The runbooks are rehearsed with '{tool}', which is not installed.")

    def through(self, last: str) -> None:
        """
        Go on up to this block, and through it.
        """
        names = self.path[self._done :]
        for name in names[: names.index(last) + 1]:
            self._step(name)
            self._done += 1

    def to_the_end(self) -> None:
        """
        Go on to the end of the path.
        """
        self.through(self.path[-1])

    def _step(self, name: str) -> None:
        block = self.book.block(name.removeprefix(UNMET))
        assert "test" not in block.attributes, f"{name} is not for rehearsals"
        if block.language == MANUAL:
            self.by_hand[block.id]()
        elif block.exports:
            self._set(block)
        else:
            self._run(block, met=not name.startswith(UNMET))

    def _set(self, block: Block) -> None:
        """
        Let the shell set the variables, with this test's values, and keep them for later blocks.
        """
        patterns = self.book.front["vars"]
        lines = [
            f"export {name}={shlex.quote(self.values[name]) if name in self.values else written}"
            for name, written in block.exports.items()
        ]
        code, out = self._bash("\n".join([*lines, "env -0"]), block.timeout_s)
        assert code == block.exit, out
        found = dict(one.partition("=")[::2] for one in out.split("\0"))
        for name in block.exports:
            assert re.fullmatch(patterns[name], found[name]), f"{name} is '{found[name]}'"
        ours = {name: found[name] for name in block.exports}
        self.project.environment = {**self.project.environment, **ours}

    def _run(self, block: Block, *, met: bool) -> None:
        [command] = block.commands
        call = self._call(command)
        if call is None:
            code, out = self._bash(command, block.timeout_s)
        else:
            ran = self.project.run(*call)
            code, out = ran.exit, ran.shown
        fits = code == block.exit and matches(block.expected, out)
        assert fits == met, f"{self.book.name}:{block.line} {block.id}: exit {code}\n{out}"

    def _call(self, command: str) -> list[str] | None:
        """
        The arguments of a plain call of the program, which needs no process of its own.
        """
        words = shlex.split(command)
        if words[0] != _PROGRAM or re.search(r"[|<>;&()`\\]", command):
            return None
        environment = self.project.environment
        return [re.sub(r"\$([A-Z_]+)", lambda m: environment[m[1]], word) for word in words[1:]]

    def _bash(self, script: str, timeout_s: float) -> tuple[int, str]:
        ended = subprocess.run(
            ["bash", "--noprofile", "--norc", "-c", script],
            cwd=self.project.folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), **self.project.environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        return ended.returncode, ended.stdout

    def _tools(self) -> Path:
        """
        A folder with the program as it is installed elsewhere.
        """
        folder = self.project.folder.parent / "bin"
        folder.mkdir(exist_ok=True)
        program = folder / _PROGRAM
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -W error -m migrate "$@"\n')
        program.chmod(0o755)
        return folder


def matches(expected: str, shown: str) -> bool:
    """
    Whether an output is the one that a book shows: `...` is anything, blanks are all alike.

    A blank before or after `...` keeps words whole: `... complete ...` is not "incomplete".
    """
    if not expected:
        return True
    parts = []
    for part in re.sub(r"\s+", " ", expected).split("..."):
        before = r"(?:^|\s)" if part.startswith(" ") and part.strip() else ""
        after = r"(?:\s|$)" if part.endswith(" ") and part.strip() else ""
        parts.append(before + re.escape(part.strip()) + after)
    text = re.sub(r"\s+", " ", shown).strip()
    return re.fullmatch(".*".join(parts), text) is not None


def _redis_folder() -> str:
    try:
        return str(embedded_redis().parent)
    except Missing:
        return ""
