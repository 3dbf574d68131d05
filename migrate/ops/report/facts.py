"""
What a verification result says, in the words and in the order that every renderer uses.

Plain text and numbers only; how they are escaped is the business of each format.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

Result = Mapping[str, Any]
"""The object of `profile-migrate.verify/1`, described in docs/json.md."""

Sample = Mapping[str, Any]
"""One entry of its `samples`."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """
    A verdict as people read it.

    Args:
        meaning: One sentence.

        hard: Whether one of them is enough for a mismatch.
    """

    name: str
    meaning: str
    hard: bool = False


VERDICTS = (
    Verdict("missing", "The row should have a record and has none.", hard=True),
    Verdict("orphan", "The record, or an entry of it, belongs to no row.", hard=True),
    Verdict("different", "Row and record are of one version and do not hold the same.", hard=True),
    Verdict("lost_event", "The row is newer than its record, and no change is waiting.", hard=True),
    Verdict("resurrected", "The row was deleted, and its record is alive.", hard=True),
    Verdict("split_brain", "The record is newer than its row.", hard=True),
    Verdict("collision", "The key of the record holds something of another owner.", hard=True),
    Verdict("ok", "Row and record hold the same."),
    Verdict("in_flight", "It changed during the comparison, or its change is waiting."),
    Verdict("pending", "The row was not copied yet."),
    Verdict("expired", "The time of the record is over, as it should be."),
    Verdict("rejected", "The row could not become a record and is in the list of rejects."),
)
"""Every verdict, the hard ones first."""

KINDS = {
    "value": "another value",
    "type": "another type",
    "ttl": "another time to live",
    "lookup": "an entry of a lookup",
    "child": "a child row",
    "extra_field": "a field too many",
    "absent_field": "a field too few",
    "digest": "fields changed behind the stored digest",
    "tombstone": "a tombstone beside a living row",
}
"""What is wrong with the records, by kind."""

GLYPHS = {"PASS": "✓", "MISMATCH": "≠", "INCOMPLETE": "…"}
"""A sign for each outcome, always beside its word."""

_PLACES = {verdict.name: place for place, verdict in enumerate(VERDICTS)}


def word(name: object) -> str:
    """
    The name of a verdict or kind in one spelling, whatever case and separator it came with.
    """
    return str(name).lower().replace("-", "_")


def readable(name: object) -> str:
    """
    The name of a verdict or kind within a sentence: `lost event`.
    """
    return word(name).replace("_", " ")


def outcome(result: Result) -> str:
    """
    PASS, MISMATCH or INCOMPLETE; what is none of them counts as INCOMPLETE.
    """
    said = str(result.get("verdict", "")).upper()
    return said if said in GLYPHS else "INCOMPLETE"


def counts(result: Result) -> list[tuple[Verdict, int]]:
    """
    How many of each verdict, the hard ones first; those that did not occur are 0.

    A verdict that this version does not know is listed last, as a hard one.
    """
    given = {word(name): int(count) for name, count in (result.get("counts") or {}).items()}
    known = [(verdict, given.pop(verdict.name, 0)) for verdict in VERDICTS]
    unknown = (Verdict(name, "This version does not know it.", hard=True) for name in sorted(given))
    return known + [(verdict, given[verdict.name]) for verdict in unknown]


def hard_total(result: Result) -> int:
    """
    How many hard differences there are.
    """
    return sum(count for verdict, count in counts(result) if verdict.hard)


def rejects(result: Result) -> list[tuple[str, int]]:
    """
    Open rejects by reason, the most frequent first.
    """
    return _most_first(result.get("open_rejects") or {})


def kinds(result: Result) -> list[tuple[str, int]]:
    """
    Differences by kind, the most frequent first.
    """
    return _most_first(result.get("kinds") or {})


def fields(result: Result) -> list[tuple[str, Mapping[str, int]]]:
    """
    Fields that differ with their counts by kind, the most frequent first.
    """
    named = {str(name): by_kind for name, by_kind in (result.get("fields") or {}).items()}
    totals = _most_first({name: sum(by_kind.values()) for name, by_kind in named.items()})
    return [(name, named[name]) for name, _ in totals]


def _most_first(given: Mapping[str, int]) -> list[tuple[str, int]]:
    pairs = ((str(name), int(count)) for name, count in given.items())
    return sorted(pairs, key=lambda pair: (-pair[1], pair[0]))


def samples(result: Result) -> list[tuple[str, list[Sample]]]:
    """
    The examples by verdict, the hard verdicts first, in the order of the result.
    """
    groups: dict[str, list[Sample]] = {}
    for sample in result.get("samples") or ():
        groups.setdefault(word(sample.get("verdict", "")), []).append(sample)
    return sorted(groups.items(), key=lambda item: (_PLACES.get(item[0], len(_PLACES)), item[0]))


def number(value: float | None) -> str:
    """
    A number with separators of thousands; what is not known says so.
    """
    if value is None:
        return "not known"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.1f}"


def plural(count: int, one: str, many: str) -> str:
    """
    A count with its noun: `1 row`, `2 rows`.
    """
    return f"{count:,} {one if count == 1 else many}"


def sentence(result: Result) -> str:
    """
    The whole result in one sentence, with what was compared before what was found.
    """
    stopped = "" if result.get("complete") else " before it stopped"
    return f"Compared {coverage(result)}{stopped}: {findings(result)}."


def coverage(result: Result) -> str:
    """
    How much was compared of how much: `980 of about 1,000 rows (98 %)`.

    A sample is never said to be all of the rows.
    """
    scope = result.get("scope") or {}
    compared, rows = scope.get("compared") or 0, scope.get("rows_sql")
    if scope.get("sample"):
        return f"a random sample of {plural(compared, 'row', 'rows')}"
    if rows is None:
        return f"{compared:,} of an unknown number of rows"
    about = "about " if scope.get("rows_estimated") else ""
    return f"{compared:,} of {about}{plural(rows, 'row', 'rows')}{_share(compared, rows)}"


def _share(part: int, whole: int) -> str:
    """
    Rounded down, so that 100 % is said of nothing less; nothing where it would be above.
    """
    if not whole or part > whole:
        return ""
    tenths = part * 1000 // whole
    if part and not tenths:
        return " (less than 0.1 %)"
    return f" ({tenths / 10:g} %)"


def findings(result: Result) -> str:
    """
    What was found: hard differences, open rejects, and the bound that a sample proves.
    """
    hard, waiting = hard_total(result), sum(count for _, count in rejects(result))
    found = plural(hard, "hard difference", "hard differences") if hard else "no hard difference"
    if waiting:
        found += f", {plural(waiting, 'open reject', 'open rejects')}"
    bound = result.get("bound")
    if bound:
        found += (
            f"; at most {bound['at_most'] * 100:.3g} % of the rows differ,"
            f" at {bound['confidence'] * 100:g} % confidence"
        )
    return found


def trust(result: Result) -> str:
    """
    What the comparison rests on: counts, stored digests, or the fields themselves.
    """
    if result.get("level") == "count":
        return "Rows and records were counted; no record was compared with its row."
    if result.get("trusted_digests"):
        return (
            "Stored digests were trusted: a field changed behind the digest of its record"
            " is found by level deep only."
        )
    return "No stored digest was trusted: fields were read and compared."


def not_checked(result: Result) -> list[str]:
    """
    What the result says nothing about.
    """
    given = [str(text) for text in result.get("not_checked") or ()]
    if not result.get("complete"):
        given.insert(0, "Rows and records that the run did not reach before it stopped.")
    return given


def partition_states(result: Result) -> list[tuple[Mapping[str, Any], str]]:
    """
    Each partition with what became of it: `hard`, `clean` or `open`.
    """
    return [(one, _state(one)) for one in result.get("partitions") or ()]


def _state(partition: Mapping[str, Any]) -> str:
    if partition.get("hard"):
        return "hard"
    return "clean" if partition.get("done") else "open"


def command(result: Result) -> str:
    """
    The command that makes such a comparison again, ready for a shell.
    """
    if result.get("command"):
        return str(result["command"])
    words = ["profile-migrate", "verify", str(result.get("mapping", ""))]
    words += ["--level", str(result.get("level", "full"))]
    sample = (result.get("scope") or {}).get("sample")
    words += ["--sample", str(sample)] if sample else []
    return shlex.join([*words, "--continuous"] if result.get("continuous") else words)


def environment(result: Result) -> Sequence[tuple[str, str]]:
    """
    Where, when and with what it was compared; what is not known is left out.
    """
    source, redis = result.get("source") or {}, result.get("redis") or {}
    rate = result.get("rows_per_s")
    pairs = [
        ("mapping", result.get("mapping")),
        ("level", result.get("level")),
        ("continuous", _passes(result)),
        ("rows of SQL selected by", (result.get("scope") or {}).get("where")),
        _records(result),
        ("source", _joined(source, "dialect", "version", "address")),
        ("redis", _joined(redis, "flavour", "version", "topology", "address")),
        ("tool", result.get("tool")),
        ("fingerprint of the mapping", result.get("fingerprint")),
        ("epoch", result.get("epoch")),
        ("run", result.get("run")),
        ("started at", instant(result.get("started_at"))),
        ("finished at", instant(result.get("finished_at"))),
        ("seconds", _counted(result.get("seconds"))),
        ("rows a second", None if rate is None else f"{rate:,.0f}"),
        ("exit code", result.get("exit_code")),
    ]
    return [(name, str(value)) for name, value in pairs if value not in (None, "")]


def instant(value: float | str | None) -> str | None:
    """
    A time as ISO 8601 in UTC, to the second; a text is taken as it is.
    """
    if not isinstance(value, int | float):
        return value
    return f"{datetime.fromtimestamp(int(value), UTC):%Y-%m-%dT%H:%M:%SZ}"


def _counted(value: float | None) -> str | None:
    return None if value is None else number(value)


def _records(result: Result) -> tuple[str, str | None]:
    """
    How many records were seen; a sample does not look for them.
    """
    scope = result.get("scope") or {}
    reached = "" if result.get("complete") else " reached before it stopped"
    seen = None if scope.get("sample") else scope.get("records_redis")
    return f"records in Redis{reached}", _counted(seen)


def _passes(result: Result) -> str:
    if not result.get("continuous"):
        return "no"
    return f"yes, {plural(result.get('passes') or 0, 'pass', 'passes')}"


def _joined(store: Mapping[str, Any], *names: str) -> str:
    return ", ".join(str(store[name]) for name in names if store.get(name) not in (None, ""))
