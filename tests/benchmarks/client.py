"""
A second client of Redis: reads single records at a modest rate, and keeps how long each took.

Run as a program: `client.py <port> <requests a second> <folder> [<core>]`, until the file `stop` is
there.
It reads keys of its own, so that it sees the same whatever a backfill has done so far.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from pathlib import Path

HOST = "127.0.0.1"
KEYS = 1_000
PREFIX = "other-client:"


def commands() -> list[bytes]:
    """
    GET and HGETALL by turns, over all keys.
    """
    found = []
    for number in range(KEYS):
        kind = "string" if number % 2 else "hash"
        name = "GET" if number % 2 else "HGETALL"
        key = f"{PREFIX}{kind}:{number}"
        found.append(f"*2\r\n${len(name)}\r\n{name}\r\n${len(key)}\r\n{key}\r\n".encode())
    return found


def fill(connection: socket.socket) -> None:
    """
    Write the keys that are read.
    """
    for number in range(KEYS):
        kind = "string" if number % 2 else "hash"
        key = f"{PREFIX}{kind}:{number}"
        line = f"SET {key} {'x' * 200}" if number % 2 else f"HSET {key} a {'x' * 100} b {'y' * 100}"
        connection.sendall(line.encode() + b"\r\n")
        answer = connection.recv(4096)
        if answer[:1] not in b"+:":
            raise RuntimeError(answer.decode(errors="replace"))


def read(connection: socket.socket, rate: float, stop: Path) -> list[float]:
    """
    Ask at this rate until told to stop; seconds from each question to its answer.
    """
    taken = []
    asked = commands()
    due = time.perf_counter()
    while not stop.exists():
        for command in asked[:50]:
            due = max(due + 1 / rate, time.perf_counter() - 1 / rate)
            time.sleep(max(0.0, due - time.perf_counter()))
            began = time.perf_counter()
            connection.sendall(command)
            # An answer of ours fits into one segment of the loopback device.
            if not connection.recv(65_536):
                raise RuntimeError("Redis has closed the connection")
            taken.append(time.perf_counter() - began)
        asked = asked[50:] + asked[:50]
    return taken


def main(port: str, rate: str, folder: str, core: str = "") -> None:
    """
    Fill, say that it begins, read, and leave the latencies in a file.
    """
    if core:
        os.sched_setaffinity(0, {int(core)})
    place = Path(folder)
    with socket.create_connection((HOST, int(port))) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        fill(connection)
        (place / "begun").touch()
        taken = read(connection, float(rate), place / "stop")
    (place / "latencies.json").write_text(json.dumps(taken))


if __name__ == "__main__":
    main(*sys.argv[1:])
