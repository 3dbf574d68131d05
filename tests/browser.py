"""
A Chromium without a window, driven over two pipes by the protocol of its developer tools.

Opens files only; asks no network and no package for help.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

NAMES = ("google-chrome", "chromium", "chromium-browser")
PATIENCE_S = 60.0

FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
    *("--no-first-run", "--disable-sync", "--disable-background-networking"),
    *("--disable-component-update", "--disable-extensions", "--remote-debugging-pipe"),
)

LAUNCH = """
import fcntl, os, sys
commands, answers = (fcntl.fcntl(int(given), fcntl.F_DUPFD, 10) for given in sys.argv[1:3])
os.dup2(commands, 3)
os.dup2(answers, 4)
os.execv(sys.argv[3], sys.argv[3:])
"""
"""Gives the browser its pipes under the numbers that it expects."""

KEYS = {"Tab": ("Tab", 9, ""), "Enter": ("Enter", 13, "\r"), " ": ("Space", 32, " ")}

Message = dict[str, Any]


class BrowserGone(Exception):
    """
    The browser did not start, or went away.
    """


def browser_path() -> str | None:
    """
    The browser of this machine, if it has one.
    """
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Browser:
    """
    One page; `events` are all that the browser told of it so far.
    """

    def __init__(self, commands: int, answers: int) -> None:
        self._commands = commands
        self._answers = answers
        self._buffer = b""
        self._number = 0
        self._page: Message = {}
        self.events: list[Message] = []

    def attach(self) -> None:
        """
        Take the page that the browser starts with, and hear of all that it does.
        """
        targets = self.call("Target.getTargets")["targetInfos"]
        page = next(one["targetId"] for one in targets if one["type"] == "page")
        attached = self.call("Target.attachToTarget", targetId=page, flatten=True)
        self._page = {"sessionId": attached["sessionId"]}
        for domain in ("Page", "Runtime", "Network", "Log", "Accessibility"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: object) -> Message:
        """
        Ask the browser for something and wait for its answer.
        """
        self._number += 1
        asked = {"id": self._number, "method": method, "params": params, **self._page}
        left = json.dumps(asked).encode() + b"\0"
        while left:
            left = left[os.write(self._commands, left) :]
        while (message := self._next()).get("id") != self._number:
            self.events.append(message)
        if "error" in message:
            raise AssertionError((method, message["error"]))
        result: Message = message["result"]
        return result

    def _next(self) -> Message:
        deadline = time.monotonic() + PATIENCE_S
        while b"\0" not in self._buffer:
            left = max(deadline - time.monotonic(), 0)
            if not select.select([self._answers], [], [], left)[0]:
                raise BrowserGone("It did not answer in time.")
            got = os.read(self._answers, 1 << 20)
            if not got:
                raise BrowserGone("It closed its pipe.")
            self._buffer += got
        text, _, self._buffer = self._buffer.partition(b"\0")
        message: Message = json.loads(text)
        return message

    def open(self, file: Path) -> None:
        """
        Open a file and wait until it is loaded; what was told of others is forgotten.
        """
        self.events.clear()
        self.call("Page.navigate", url=file.as_uri())
        while not self.told("Page.loadEventFired"):
            self.events.append(self._next())

    def told(self, *methods: str) -> list[Message]:
        """
        What the browser told under these names.
        """
        return [event["params"] for event in self.events if event.get("method") in methods]

    def value(self, expression: str) -> Any:
        """
        What an expression of JavaScript is in the page.
        """
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def press(self, key: str) -> None:
        """
        Press a key and let it go.
        """
        code, number, text = KEYS[key]
        about = {"key": key, "code": code, "windowsVirtualKeyCode": number}
        self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **about)
        self.call("Input.dispatchKeyEvent", type="keyUp", **about)

    def width(self, pixels: int) -> None:
        """
        Make the window so wide.
        """
        size = {"width": pixels, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", **size)

    def heard(self) -> list[tuple[str, str]]:
        """
        Role and name of everything that a screen reader comes across.
        """
        nodes = self.call("Accessibility.getFullAXTree")["nodes"]
        return [
            (str(node["role"]["value"]), str(node.get("name", {}).get("value", "")))
            for node in nodes
            if not node["ignored"]
        ]

    def close(self) -> None:
        """
        End the browser.
        """
        self._page = {}
        with suppress(BrowserGone, OSError):
            self.call("Browser.close")


@contextmanager
def browsing(path: str, folder: Path) -> Iterator[Browser]:
    """
    The browser at this path, with a profile of its own in the folder.

    Raises:
        BrowserGone: It does not start here.
    """
    for_it, commands = os.pipe()
    answers, from_it = os.pipe()
    launch = [sys.executable, "-I", "-S", "-c", LAUNCH, str(for_it), str(from_it)]
    process = subprocess.Popen(
        [*launch, path, *FLAGS, f"--user-data-dir={folder}", "about:blank"],
        pass_fds=(for_it, from_it),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(for_it)
    os.close(from_it)
    browser = Browser(commands, answers)
    try:
        try:
            browser.attach()
        except OSError as error:
            raise BrowserGone(str(error)) from error
        yield browser
    finally:
        browser.close()
        os.close(commands)
        os.close(answers)
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=10)
        process.kill()
        process.wait()
