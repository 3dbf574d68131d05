"""
The alert rules hold together with the metrics and the runbooks, and fire when they should.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from migrate.ops.collector import SERVED
from migrate.ops.metrics import FAMILIES
from tests.runbook_files import Book, read

ROOT = Path(__file__).parent.parent
FILES = sorted((ROOT / "runbooks" / "alerts").glob("*.yml"))
BOOKS: dict[str, Book] = {
    f"runbooks/{path.name}": read(path)
    for path in sorted((ROOT / "runbooks").glob("*.md"))
    if path.name != "README.md"
}

FIELDS = {"alert", "expr", "for", "labels", "annotations"}
ANNOTATIONS = {"summary", "description", "runbook_url"}

BY_PROMETHEUS = {"job", "instance"}
"""Labels that every scraped series gets."""


def rules() -> list[dict[str, Any]]:
    """
    Every rule of every file.
    """
    loaded = [YAML(typ="safe").load(path.read_text(encoding="utf-8")) for path in FILES]
    return [rule for one in loaded for group in one["groups"] for rule in group["rules"]]


RULES = {rule["alert"]: rule for rule in rules()}
each_rule = pytest.mark.parametrize("rule", RULES.values(), ids=RULES)


def selectors(expression: str) -> list[tuple[str, set[str]]]:
    """
    Each metric of an expression with the labels that it is selected by.
    """
    found = re.findall(r"(profile_migrate_\w+)(?:\{([^}]*)\})?", expression)
    return [(name, set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", inside))) for name, inside in found]


def grouped_by(expression: str) -> set[str]:
    """
    Labels by which an expression groups or matches.
    """
    lists = re.findall(r"\b(?:by|on|ignoring|without|group_left)\s*\(([^)]*)\)", expression)
    return {label for one in lists for label in re.findall(r"\w+", one)}


def test_each_alert_is_defined_once() -> None:
    """
    There are rules, and no two have one name.
    """
    assert RULES
    assert len(RULES) == len(rules())


@each_rule
def test_a_rule_has_what_it_needs(rule: dict[str, Any]) -> None:
    """
    A name of ours, how long it must hold, how bad it is, and what to tell whoever is woken.
    """
    assert set(rule) == FIELDS
    assert re.fullmatch(r"ProfileMigrate([A-Z][a-z]+)+", rule["alert"])
    assert re.fullmatch(r"[1-9]\d*[mh]", rule["for"])
    assert set(rule["labels"]) == {"severity"}
    assert rule["labels"]["severity"] in ("page", "ticket")
    assert set(rule["annotations"]) == ANNOTATIONS
    assert all(text.strip() for text in rule["annotations"].values())


@each_rule
def test_a_rule_names_metrics_and_labels_that_exist(rule: dict[str, Any]) -> None:
    """
    Each metric of a rule is served, with the labels that the rule selects, groups and shows.
    """
    used = selectors(rule["expr"])
    carried = {label for name, _ in used for label in SERVED[name].labels}

    assert used
    for name, labels in used:
        assert labels <= set(SERVED[name].labels), name
    assert grouped_by(rule["expr"]) <= carried | BY_PROMETHEUS
    shown = re.findall(r"\$labels\.(\w+)", json.dumps(rule["annotations"]))
    assert set(shown) <= carried | BY_PROMETHEUS


@each_rule
def test_a_rule_and_its_runbook_name_each_other(rule: dict[str, Any]) -> None:
    """
    The runbook of a rule is a file of the project, and its front matter lists the alert.
    """
    book = BOOKS[rule["annotations"]["runbook_url"]]

    assert rule["alert"] in book.front["alerts"]


def test_runbooks_name_alerts_that_exist() -> None:
    """
    An alert in the front matter of a book is a rule that names this book.
    """
    for name, book in BOOKS.items():
        for alert in book.front["alerts"]:
            assert RULES[alert]["annotations"]["runbook_url"] == name


def test_both_ways_of_metrics_agree() -> None:
    """
    A metric that is both in the text file and served has one type, one help text, one meaning.
    """
    both = set(FAMILIES) & set(SERVED)

    assert "profile_migrate_run_exit_code" in both
    assert {name: SERVED[name] for name in both} == {name: FAMILIES[name] for name in both}


# --- promtool ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def promtool() -> str:
    """
    Prometheus' own checker of rules.
    """
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("promtool is not on the PATH: it comes with Prometheus")
    return found


@dataclass(frozen=True, slots=True)
class Case:
    """
    What is scraped, and which alert that must and must not raise.

    Args:
        series: Values by series, in promtool's notation; a minute apart.

        quiet: A moment at which nothing is wrong yet, or not for long enough.

        firing: A moment at which the alert fires.

        labels: Of the alert that fires.

        over: A moment at which it is over.
    """

    series: dict[str, str]
    quiet: str
    firing: str
    over: str
    labels: dict[str, str] = field(default_factory=dict)


AT = {"job": "profile-migrate", "instance": "127.0.0.1:8765"}
USERS = {**AT, "mapping": "users"}
TARGET = {**AT, "redis": "target"}


def of(name: str, **labels: str) -> str:
    inside = ",".join(f'{label}="{value}"' for label, value in {**AT, **labels}.items())
    return f"profile_migrate_{name}{{{inside}}}"


MEMORY = {
    of("redis_memory_used_bytes", redis="target"): "50x10 90x20 50x10",
    of("redis_memory_max_bytes", redis="target"): "100x60",
    of("throttle_redis_memory_ratio"): "0.85x60",
}

CASES = {
    "ProfileMigrateBackfillStuck": Case(
        {of("checkpoint_age_seconds", mapping="users"): "0+60x20 5x20"},
        quiet="11m",
        firing="12m",
        labels=USERS,
        over="22m",
    ),
    "ProfileMigrateBackfillInterrupted": Case(
        {of("run_state", mapping="users", state="interrupted"): "0x5 1x20 0x5"},
        quiet="15m",
        firing="16m",
        labels={**USERS, "state": "interrupted"},
        over="28m",
    ),
    "ProfileMigrateRunFailed": Case(
        {
            of("run_exit_code", mapping="users"): "0x5 5x20 _x20",
            of("run_exit_code", mapping="others"): "3x60",
        },
        quiet="10m",
        firing="11m",
        labels=USERS,
        over="40m",
    ),
    "ProfileMigrateRejectsOpen": Case(
        {
            of("open_rejects", mapping="users", reason="too-long"): "0x5 2x30 _x20",
            of("open_rejects", mapping="users", reason="collision"): "0x5 3x30 _x20",
        },
        quiet="20m",
        firing="21m",
        labels={"mapping": "users"},
        over="50m",
    ),
    "ProfileMigrateParityMismatch": Case(
        {
            of("open_mismatches", mapping="users", verdict="missing"): "0x5 2x20 0x20",
            of("open_mismatches", mapping="users", verdict="different"): "0x5 1x20 0x20",
            of("open_mismatches", mapping="others", verdict="missing"): "0x60",
        },
        quiet="10m",
        firing="11m",
        labels=USERS,
        over="28m",
    ),
    "ProfileMigrateVerifyStale": Case(
        {
            of("verify_max_age_seconds"): "600x60",
            # Verified at minute 0, and again at minute 40.
            of("verify_last_success_timestamp_seconds", mapping="users"): "0x39 2400x20",
            of("run_finished_timestamp_seconds", mapping="users"): "0x60",
            of("run_state", mapping="users", state="complete"): "1x60",
            # One that goes on, and one that was purged: neither is complete.
            of("run_finished_timestamp_seconds", mapping="others"): "0x60",
            of("run_state", mapping="others", state="complete"): "0x60",
        },
        quiet="25m",
        firing="26m",
        labels=USERS,
        over="41m",
    ),
    "ProfileMigrateVerifyIncomplete": Case(
        {
            of("verify_running", mapping="users", level="deep"): "1x40 0x20",
            of("verify_saved_timestamp_seconds", mapping="users", level="deep"): "0x60",
            of("verify_running", mapping="users", level="full"): "0x60",
            of("verify_saved_timestamp_seconds", mapping="users", level="full"): "0x60",
        },
        quiet="15m",
        firing="16m",
        labels={**USERS, "level": "deep"},
        over="42m",
    ),
    "ProfileMigrateRedisMemoryHigh": Case(
        MEMORY, quiet="15m", firing="16m", labels=TARGET, over="33m"
    ),
    "ProfileMigrateRedisMemoryOverThrottle": Case(
        {**MEMORY, of("run_state", mapping="users", state="running"): "1x60"},
        quiet="15m",
        firing="16m",
        labels=TARGET,
        over="33m",
    ),
    "ProfileMigrateRedisAway": Case(
        {of("redis_up", redis="target"): "1x5 0x20 1x20"},
        quiet="10m",
        firing="11m",
        labels=TARGET,
        over="28m",
    ),
    "ProfileMigrateLedgerAway": Case(
        {of("ledger_up"): "1x5 0x20 1x20"}, quiet="10m", firing="11m", labels=AT, over="28m"
    ),
    "ProfileMigrateExporterGone": Case(
        {of("ledger_up"): "1x5 _x40 1x20"}, quiet="12m", firing="25m", over="50m"
    ),
}
"""One for each rule."""

NEVER_VERIFIED = Case(
    {
        of("verify_max_age_seconds"): "600x60",
        of("run_finished_timestamp_seconds", mapping="users"): "0x60",
        of("run_state", mapping="users", state="complete"): "1x40 0x20",
    },
    quiet="25m",
    firing="26m",
    labels=USERS,
    over="42m",
)
"""Complete, and without any verification."""


def test_every_rule_has_a_case() -> None:
    """
    No rule is left untried where promtool is at hand.
    """
    assert set(CASES) == set(RULES)


def test_promtool_takes_the_rules(promtool: str) -> None:
    """
    Prometheus itself reads every file without a complaint.
    """
    ran = subprocess.run(
        [promtool, "check", "rules", *map(str, FILES)], capture_output=True, text=True, check=False
    )

    assert (ran.returncode, ran.stderr) == (0, ""), ran.stdout + ran.stderr


@pytest.mark.parametrize(
    ("name", "case"),
    [*CASES.items(), ("ProfileMigrateVerifyStale", NEVER_VERIFIED)],
    ids=[*CASES, "never-verified"],
)
def test_an_alert_fires_when_it_should(
    promtool: str, tmp_path: Path, name: str, case: Case
) -> None:
    """
    Quiet just before its time, firing with the right labels, and quiet again when all is well.
    """
    rule = RULES[name]
    fired = {**case.labels, **rule["labels"], "alertname": name, "alertstate": "firing"}
    labels = ",".join(f'{label}="{value}"' for label, value in fired.items())
    expression = f'ALERTS{{alertname="{name}",alertstate="firing"}}'
    sample = {"labels": f"ALERTS{{{labels}}}", "value": 1}
    moments = [("0m", []), (case.quiet, []), (case.firing, [sample]), (case.over, [])]

    check(
        promtool,
        tmp_path / "case.yml",
        case.series,
        [(expression, moment, samples) for moment, samples in moments],
    )


@pytest.mark.parametrize("name", CASES)
def test_without_any_series_only_the_exporter_is_missed(
    promtool: str, tmp_path: Path, name: str
) -> None:
    """
    Where nothing is scraped at all, no alert speaks but the one about that.
    """
    gone = name == "ProfileMigrateExporterGone"
    labels = ",".join(
        f'{label}="{value}"'
        for label, value in {
            **RULES[name]["labels"],
            "alertname": name,
            "alertstate": "firing",
        }.items()
    )
    samples = [{"labels": f"ALERTS{{{labels}}}", "value": 1}] if gone else []

    check(
        promtool,
        tmp_path / "case.yml",
        {'up{job="other"}': "1x60"},
        [(f'ALERTS{{alertname="{name}",alertstate="firing"}}', "60m", samples)],
    )


def check(
    promtool: str,
    file: Path,
    series: dict[str, str],
    expected: list[tuple[str, str, list[dict[str, Any]]]],
) -> None:
    """
    Have promtool evaluate the rules over these series.

    Args:
        expected: What an expression must be at a moment.
    """
    # JSON is YAML.
    file.write_text(
        json.dumps(
            {
                "rule_files": [str(path) for path in FILES],
                "evaluation_interval": "1m",
                "tests": [
                    {
                        "interval": "1m",
                        "input_series": [
                            {"series": one, "values": values} for one, values in series.items()
                        ],
                        "promql_expr_test": [
                            {"expr": expression, "eval_time": moment, "exp_samples": samples}
                            for expression, moment, samples in expected
                        ],
                    }
                ],
            }
        ),
        encoding="utf-8",
    )
    ran = subprocess.run(
        [promtool, "test", "rules", file], capture_output=True, text=True, check=False
    )

    assert ran.returncode == 0, ran.stdout + ran.stderr
