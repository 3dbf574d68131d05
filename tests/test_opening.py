"""
How a backfill begins: every combination of ledger and fence has one answer.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from migrate.errors import MappingChanged, MigrateError, Refused, TargetChanged, TargetTaken
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


def test_a_cluster_that_lost_some_fences_is_filled_again() -> None:
    """
    Some slots without a fence: records are lost with them, so nothing that was done counts.
    """
    assert begin(fence=replace(FENCE, missing=5_461)) == Opening(Way.REDO, "mine", None, 3)
    died = replace(KNOWN, fenced=False)
    assert begin(died, replace(FENCE, missing=1)) == Opening(Way.FIRST, "mine", None, 3)


def test_a_cluster_with_fences_of_two_runs_is_refused() -> None:
    """
    Somebody else's records are in some slots; starting over takes all of them.
    """
    mixed = replace(FENCE, mixed=True)

    with pytest.raises(TargetTaken):
        begin(fence=mixed)
    assert begin(fence=mixed, start_over=True).way is Way.START_OVER


def test_an_upgraded_server_with_our_fence_goes_on() -> None:
    """
    The fence proves that the data moved along: a new version of the server is no other server.
    """
    assert begin(server=replace(SERVER, version="8.0.2", run_id="s")).way is Way.CONTINUE


@pytest.mark.parametrize("known", [None, KNOWN, replace(KNOWN, fenced=False, run="begun")])
@pytest.mark.parametrize("fingerprint", ["print", "other"])
def test_a_purged_fence_is_taken_over_by_a_new_run(
    known: MappingState | None, fingerprint: str
) -> None:
    """
    Whatever the ledger still knows, with a revision above those of records that had to stay.
    """
    fence = replace(FENCE, mode="purged")

    assert begin(known, fence, fingerprint=fingerprint) == Opening(Way.FIRST, "new", "mine", 4)
    assert begin(known, fence, start_over=True).expected == "mine"


def test_a_purged_fence_of_another_ledger_is_not_ours() -> None:
    """
    The ledger knows records of another run: somebody has to look.
    """
    with pytest.raises(TargetTaken):
        begin(fence=replace(FENCE, mode="purged", run="theirs"))


@pytest.mark.parametrize("start_over", [False, True])
@pytest.mark.parametrize("known", [None, KNOWN])
def test_a_purge_that_is_not_over_is_finished_first(
    known: MappingState | None, start_over: bool
) -> None:
    """
    A closed fence is refused with the command that goes on, whatever was asked for.
    """
    with pytest.raises(Refused, match="being purged") as caught:
        begin(known, replace(FENCE, mode="closed"), start_over=start_over)

    assert caught.value.next_step.endswith("profile-migrate rollback users --purge")


def test_a_purge_that_kept_records_is_outnumbered() -> None:
    """
    Shapes that the ledger kept say which revision those may have.
    """
    opening = decide(
        "users", "print", None, None, SERVER, empty=lambda: True, written=7, make_run=lambda: "new"
    )

    assert opening == Opening(Way.FIRST, "new", None, 8)
