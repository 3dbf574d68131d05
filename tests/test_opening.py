"""
How a backfill begins: every combination of ledger and fence has one answer.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from migrate.errors import MappingChanged, MigrateError, TargetChanged, TargetTaken
from migrate.ledger.store import MappingState
from migrate.model.values import ServerIdentity
from migrate.pipeline.opening import Opening, Way, decide
from migrate.target.fence import FenceState

KNOWN = MappingState(
    "users", "print", 3, 0, "mine", "redis://a:1/0", "standalone", "redis", "7.0.15", fenced=True
)
FENCE = FenceState("fwd", 5, "mine", 0, 0, 3, "print")
SERVER = ServerIdentity("redis://a:1/0", "standalone", "redis", "7.0.15", "r", "p", 0)


def begin(
    known: MappingState | None = KNOWN,
    fence: FenceState | None = FENCE,
    server: ServerIdentity = SERVER,
    *,
    fingerprint: str = "print",
    empty: bool = False,
    start_over: bool = False,
) -> Opening:
    """
    The decision, with everything as it should be unless said otherwise.
    """
    return decide(
        "users",
        fingerprint,
        known,
        fence,
        server,
        empty=lambda: empty,
        start_over=start_over,
        make_run=lambda: "new",
    )


@pytest.mark.parametrize(
    ("arguments", "opening"),
    [
        ({"known": None, "fence": None}, Opening(Way.FIRST, "new", None, 1)),
        ({}, Opening(Way.CONTINUE, "mine", "mine", 3)),
        ({"fence": None, "empty": True}, Opening(Way.REDO, "mine", None, 3)),
        (
            {"known": replace(KNOWN, fenced=False), "fence": None},
            Opening(Way.FIRST, "mine", None, 3),
        ),
        ({"known": replace(KNOWN, fenced=False)}, Opening(Way.FIRST, "mine", "mine", 3)),
        (
            {"known": replace(KNOWN, fenced=False), "fence": None, "fingerprint": "other"},
            Opening(Way.FIRST, "new", None, 4),
        ),
        ({"start_over": True}, Opening(Way.START_OVER, "new", "mine", 3)),
        (
            {"start_over": True, "fingerprint": "other"},
            Opening(Way.START_OVER, "new", "mine", 4),
        ),
        (
            {"start_over": True, "known": None, "fence": None},
            Opening(Way.START_OVER, "new", None, 1),
        ),
        (
            {"start_over": True, "known": None, "fence": replace(FENCE, revision=8)},
            Opening(Way.START_OVER, "new", "mine", 8),
        ),
        (
            {"start_over": True, "server": replace(SERVER, address="redis://b:1/0")},
            Opening(Way.START_OVER, "new", "mine", 3),
        ),
    ],
)
def test_a_backfill_begins(arguments: dict[str, object], opening: Opening) -> None:
    """
    The way, the run, the fence to expect and the revision follow from what is known.
    """
    assert begin(**arguments) == opening  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "refusal"),
    [
        ({"known": None}, TargetTaken),
        ({"fence": replace(FENCE, run="theirs")}, TargetTaken),
        (
            {"known": replace(KNOWN, fenced=False), "fence": replace(FENCE, run="theirs")},
            TargetTaken,
        ),
        ({"server": replace(SERVER, address="redis://b:1/0")}, TargetChanged),
        (
            {"server": replace(SERVER, address="redis://b:1/0"), "fence": None, "empty": True},
            TargetChanged,
        ),
        ({"server": replace(SERVER, topology="sentinel")}, TargetChanged),
        ({"fence": None, "server": replace(SERVER, version="8.0.2"), "empty": True}, TargetChanged),
        (
            {"fence": None, "server": replace(SERVER, flavour="valkey"), "empty": True},
            TargetChanged,
        ),
        ({"fence": None, "empty": False}, TargetChanged),
        ({"fingerprint": "other"}, MappingChanged),
    ],
)
def test_a_backfill_is_refused_with_the_way_out(
    arguments: dict[str, object], refusal: type[MigrateError]
) -> None:
    """
    What might overwrite the wrong data is refused with exit 4 and names --start-over.
    """
    with pytest.raises(refusal) as refused:
        begin(**arguments)  # type: ignore[arg-type]

    assert refused.value.exit_code == 4
    assert "--start-over" in refused.value.next_step


def test_an_upgraded_server_with_our_fence_goes_on() -> None:
    """
    The fence proves that the data moved along: a new version of the server is no other server.
    """
    assert begin(server=replace(SERVER, version="8.0.2", run_id="s")).way is Way.CONTINUE
