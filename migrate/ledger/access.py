"""
How commands get at the ledger: one way to open it, and one to hold a mapping while they work.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from migrate.errors import MigrateError
from migrate.ledger.lock import LEASE_S
from migrate.ledger.store import Ledger, Lock
from migrate.model.events import Notify, silent
from migrate.model.settings import SourceConfig


def open_ledger(
    config: SourceConfig,
    *,
    wall: Callable[[], float],
    sleep: Callable[[float], None] = time.sleep,
    notify: Notify = silent,
) -> Ledger:
    """
    The ledger of a project, made where it is missing.
    """
    return Ledger(config, wall=wall, sleep=sleep, notify=notify)


@contextmanager
def held(ledger: Ledger, mapping: str) -> Iterator[Lock]:
    """
    Hold a mapping's lock and renew it while the block runs.
    """
    lock = ledger.lock(mapping)
    over = threading.Event()

    def renew() -> None:
        while not over.wait(LEASE_S / 3):
            try:
                if not ledger.renew(lock):
                    return  # taken over: the fence keeps us from writing
            except MigrateError:
                continue  # the run itself will meet the same trouble and say so

    thread = threading.Thread(target=renew, name="lock-lease", daemon=True)
    thread.start()
    try:
        yield lock
    finally:
        over.set()
        thread.join()
        try:
            ledger.unlock(lock)
        except MigrateError:
            # A lock that cannot be given back lapses with this process.
            over.set()
