"""
The page, the JUnit file and the summary of a verification: what they say, and what cannot get out.
"""

from __future__ import annotations

import json
import random
import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Callable
from html.parser import HTMLParser
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from migrate.model.verdict import HARD, Verdict
from migrate.ops.report import facts, html, junit, summary

VERDICTS = sorted(verdict.value for verdict in HARD)

HOSTILE = [
    "</script><img src=x onerror=alert(1)>",
    "<b>field</b>",
    "x" * 3_000,
    "\u202eevil\u2028\u2029\x00\x1b[2J",
    "مرحبا بالعالم",
    "<!--",
    "{{7*7}}${alert(1)}",
    "']]>\ufffe&amp;",
    "| a | `b` **c** [d](http://x)",
]


def result(**changes: Any) -> dict[str, Any]:
    """
    A clean result of level deep.
    """
    return {
        "schema": "profile-migrate.verify/1",
        "mapping": "users",
        "level": "deep",
        "continuous": False,
        "verdict": "PASS",
        "exit_code": 0,
        "complete": True,
        "run": "41",
        "passes": 1,
        "scope": {
            "rows_sql": 1_000_000,
            "rows_estimated": False,
            "records_redis": 1_000_000,
            "compared": 1_000_000,
            "where": "deleted_at IS NULL",
            "sample": None,
        },
        "bound": None,
        "counts": {"OK": 999_990, "IN_FLIGHT": 4, "EXPIRED": 6},
        "kinds": {},
        "fields": {},
        "open_rejects": {},
        "not_checked": ["Masked fields: phone."],
        "trusted_digests": False,
        "partitions": [
            {
                "number": number,
                "rows": 20_000,
                "compared": 20_000,
                "hard": 0,
                "seconds": 1.5,
                "done": True,
            }
            for number in range(50)
        ],
        "samples": [],
        "fingerprint": "f3a1c09b77d24be1",
        "tool": "0.4.0",
        "epoch": 12,
        "redis": {
            "address": "redis://r:6379/0",
            "flavour": "redis",
            "version": "7.2.4",
            "topology": "standalone",
        },
        "source": {"address": "postgresql://db/app", "dialect": "postgresql", "version": "15.18"},
        "started_at": "2026-11-21T10:00:00Z",
        "finished_at": "2026-11-21T10:01:40Z",
        "seconds": 100.0,
        "rows_per_s": 10_000.0,
        **changes,
    }


def sample(verdict: str, key: str, **changes: Any) -> dict[str, Any]:
    """
    One difference.
    """
    side = {"type": "string", "length": 12, "digest": "a1b2c3d4e5f60718"}
    return {
        "verdict": verdict,
        "kind": "value",
        "key": key,
        "field": "email",
        "expected": side,
        "found": side | {"digest": "9f8e7d6c5b4a3021"},
        **changes,
    }


def mismatch() -> dict[str, Any]:
    """
    10,000 differences, of which 50 of each verdict are shown.
    """
    shown = [sample(verdict, f"profile:{n}") for verdict in VERDICTS for n in range(50)]
    counts = {verdict: 10_000 // len(VERDICTS) for verdict in VERDICTS}
    return result(verdict="MISMATCH", exit_code=3, counts={"OK": 990_000, **counts}, samples=shown)


def hostile() -> dict[str, Any]:
    """
    Every text is something that a page, an XML file or a table could take for its own.
    """
    chance = random.Random(1)
    shown = [
        sample(
            VERDICTS[n % len(VERDICTS)],
            "profile:" + chance.choice(HOSTILE),
            kind=chance.choice(HOSTILE),
            field=chance.choice(HOSTILE),
            expected={"type": "s", "length": 1, "digest": "ab", "value": chance.choice(HOSTILE)},
        )
        for n in range(40)
    ]
    return result(
        mapping="users<script>alert(1)</script>",
        verdict="MISMATCH",
        exit_code=3,
        level="full",
        trusted_digests=True,
        counts=dict.fromkeys(VERDICTS, 7),
        kinds=dict.fromkeys(HOSTILE, 3),
        fields={text + str(n): {text: 1} for n in range(20) for text in HOSTILE},
        open_rejects=dict.fromkeys(HOSTILE, 2),
        not_checked=HOSTILE,
        samples=shown,
        tool=HOSTILE[0],
    )


def stopped() -> dict[str, Any]:
    """
    A run that did not reach the end.
    """
    return result(verdict="INCOMPLETE", exit_code=5, complete=False, counts={"OK": 407_000})


RESULTS: dict[str, Callable[[], dict[str, Any]]] = {
    "pass": result,
    "mismatch": mismatch,
    "hostile": hostile,
    "incomplete": stopped,
    "nearly empty": lambda: {"mapping": "users", "level": "count", "verdict": "INCOMPLETE"},
}


class Page(HTMLParser):
    """
    What a browser would make of a page.
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.scripts: list[str] = []
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = tag
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            self.scripts[-1] += data
        else:
            self.texts.append(data)

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    @property
    def said(self) -> str:
        return " ".join(" ".join(self.texts).split())


@pytest.mark.parametrize("kind", RESULTS)
def test_the_same_result_gives_the_same_bytes(kind: str) -> None:
    """
    All three formats are functions of the result alone.
    """
    one, other = RESULTS[kind](), RESULTS[kind]()

    assert (html(one), junit(one), summary(one)) == (html(other), junit(other), summary(other))


@pytest.mark.parametrize("kind", RESULTS)
def test_nothing_is_fetched_and_nothing_runs_but_our_own(kind: str) -> None:
    """
    No outside address in any attribute or style, a policy that forbids them, two scripts of ours.
    """
    text = html(RESULTS[kind]())
    page = Page(text)

    outside = [
        (tag, name, value)
        for tag, attributes in page.tags
        for name, value in attributes.items()
        if name in {"src", "srcset", "data", "action", "poster"}
        or (name == "href" and not (value or "").startswith("#"))
        or name.startswith("on")
    ]
    assert [one for one in outside if not (one[2] or "").startswith("data:")] == []
    assert "url(" not in text.lower().replace("url(data:", "")
    assert "@import" not in text
    policies = [a["content"] for t, a in page.tags if t == "meta" and "http-equiv" in a]
    assert any("default-src 'none'" in (policy or "") for policy in policies)
    assert not {"img", "iframe", "object", "embed", "link"} & {
        tag
        for tag, attributes in page.tags
        if not (attributes.get("href") or "").startswith("data:")
    }
    assert len(page.scripts) <= 2


@pytest.mark.parametrize("kind", RESULTS)
def test_the_result_itself_is_in_the_page(kind: str) -> None:
    """
    As JSON that reads back, whatever stands in it.
    """
    wanted = RESULTS[kind]()
    page = Page(html(wanted))

    [data] = [
        script
        for script, (_, attributes) in zip(
            page.scripts, [one for one in page.tags if one[0] == "script"], strict=True
        )
        if attributes.get("type") == "application/json"
    ]

    assert json.loads(data)["mapping"] == wanted["mapping"]
    assert json.loads(data).get("counts") == wanted.get("counts")


@pytest.mark.parametrize(
    ("kind", "word"), [("pass", "PASS"), ("mismatch", "MISMATCH"), ("incomplete", "INCOMPLETE")]
)
def test_the_banner_says_the_verdict(kind: str, word: str) -> None:
    """
    In a word and by its class; what is incomplete is never dressed as passed.
    """
    page = Page(html(RESULTS[kind]()))
    classes = " ".join(str(attributes.get("class")) for _, attributes in page.tags)

    assert word in page.said
    assert f"banner {word.lower()}" in classes
    assert sum(f"banner {other}" in classes for other in ("pass", "mismatch", "incomplete")) == 1


def test_what_was_not_checked_and_what_was_trusted_is_said() -> None:
    """
    Both stand on the page, in words.
    """
    deep, full = Page(html(result())).said, Page(html(hostile())).said

    assert "Masked fields: phone." in deep
    assert "No stored digest was trusted" in deep
    assert "No stored digest was trusted" not in full


def test_the_page_can_be_heard_and_walked_through() -> None:
    """
    Language, title, main landmark, headings in order, headers of tables with their scope.
    """
    page = Page(html(mismatch()))
    names = [tag for tag, _ in page.tags]
    levels = [int(tag[1]) for tag in names if re.fullmatch(r"h[1-6]", tag)]

    assert page.tags[0][0] == "html"
    assert page.tags[0][1].get("lang") == "en"
    assert {"title", "main", "nav"} <= set(names)
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert all(attributes.get("scope") for tag, attributes in page.tags if tag == "th")
    labelled = sum(tag == "table" and "aria-label" in attributes for tag, attributes in page.tags)
    assert names.count("caption") + labelled == names.count("table")


def test_the_page_stays_small() -> None:
    """
    Ten thousand differences and the worst texts fit into ten megabytes.
    """
    assert len(html(mismatch()).encode()) < 1_000_000
    long = "y" * 200_000
    huge = [sample(verdict, long, field=long) for verdict in VERDICTS for _ in range(50)]
    assert len(html(result(verdict="MISMATCH", samples=huge)).encode()) <= 10_000_000


def test_the_colours_can_be_read() -> None:
    """
    Text on the page, on panels and on the banners has a contrast of 4.5 at least, light and dark.
    """
    style = (resources.files("migrate.ops.report") / "page.css").read_text(encoding="utf-8")
    light = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", style.partition("@media")[0]))
    dark = light | dict(
        re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", style.partition("@media")[2].partition("* {")[0])
    )
    for colours in (light, dark):
        pairs = [(ink, paper) for ink in ("ink", "soft", "link") for paper in ("paper", "panel")]
        pairs += [("on-banner", banner) for banner in ("pass", "mismatch", "incomplete")]
        low = [pair for pair in pairs if contrast(colours[pair[0]], colours[pair[1]]) < 4.5]
        assert low == []


def contrast(one: str, other: str) -> float:
    """
    Of two colours, as WCAG 2.1 defines it.
    """

    def light(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        red, green, blue = (
            part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
        )
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    high, low = sorted((light(one), light(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_every_hard_verdict_is_hard_in_the_report() -> None:
    """
    The words of the report and the verdicts of the engine are the same.
    """
    assert {one.name for one in facts.VERDICTS} == {one.value.lower() for one in Verdict}
    assert {one.name for one in facts.VERDICTS if one.hard} == {one.value.lower() for one in HARD}


@pytest.mark.parametrize("kind", RESULTS)
def test_junit_is_xml_whatever_is_in_it(kind: str) -> None:
    """
    It parses, and the number of failures is that of the cases that failed.
    """
    suite = ET.fromstring(junit(RESULTS[kind]()))  # noqa: S314 - our own text
    suite = suite if suite.tag == "testsuite" else suite[0]

    assert int(suite.get("failures", "0")) == len(suite.findall("testcase/failure"))
    assert int(suite.get("tests", "0")) == len(suite.findall("testcase"))


def test_junit_fails_for_each_verdict_that_was_found() -> None:
    """
    And not for a clean result; one that is incomplete has an error, so that it is no success.
    """
    clean, wrong, short = (
        ET.fromstring(junit(one))  # noqa: S314 - our own text
        for one in (result(), mismatch(), stopped())
    )

    assert clean.findall(".//failure") == []
    assert len(wrong.findall(".//failure")) == len(VERDICTS)
    assert len(short.findall(".//error")) == 1


def test_the_summary_is_one_table_of_markdown() -> None:
    """
    The verdict first; nothing in the data makes a cell, a link or an element of its own.
    """
    text = summary(hostile())

    assert "MISMATCH" in text.splitlines()[0]
    assert "<img" not in text
    assert "<script" not in text
    assert "](http" not in text
    assert "PASS" in summary(result()).splitlines()[0]


def test_the_command_to_repeat_it_is_one_that_exists() -> None:
    """
    Level sample needs its number of rows.
    """
    again = facts.command(result(level="sample", scope={"sample": 300}))

    assert again == "profile-migrate verify users --level sample --sample 300"


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.mark.skipif(CHROMIUM is None, reason="Install chromium to look at the page in a browser.")
def test_a_browser_shows_it_without_a_word_of_complaint(tmp_path: Path) -> None:
    """
    The hostile page is rendered from its file; no script of the data has run.
    """
    file = tmp_path / "report.html"
    file.write_text(html(hostile()), encoding="utf-8")
    flags = [
        *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"),
        *("--disable-background-networking", "--disable-component-update", "--dump-dom"),
    ]

    shown = subprocess.run(
        [str(CHROMIUM), *flags, f"--user-data-dir={tmp_path}/profile", file.as_uri()],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    page = Page(shown.stdout)
    assert "MISMATCH" in page.said
    assert "img" not in {tag for tag, _ in page.tags}
