"""
The page, the JUnit file and the summary of a verification: what they say, and what cannot get out.
"""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from hashlib import sha256
from html.parser import HTMLParser
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from migrate.model.verdict import HARD, Verdict
from migrate.ops.report import facts, html, junit, summary
from migrate.ops.report.strip import SHAPES
from tests.browser import Browser, BrowserGone, browser_path, browsing
from tests.project import ROOT

VERDICTS = sorted(verdict.value for verdict in HARD)

HOSTILE = [
    "</script><img src=x onerror=alert(1)>",
    "<b>field</b>",
    "x" * 3_000,
    "\u202eevil\u2028\u2029\x00\x1b[2J",
    "مرحبا بالعالم",
    "<!--",
    "{{7*7}}${alert(1)}",
    "']]>\ufffe\uffff\ufdd0\U0001fffe&amp;",
    "| a | `b` **c** [d](http://x)",
    "- [ ] item",
    "1. www.example.org",
    "    indented",
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
    All three formats are functions of the result alone, in whatever order its parts came.
    """
    one = RESULTS[kind]()
    other = json.loads(json.dumps(dict(reversed(one.items()))))

    assert (html(one), junit(one), summary(one)) == (html(other), junit(other), summary(other))


def test_another_process_gives_the_same_bytes() -> None:
    """
    Nothing depends on the order of a set or on the time.
    """
    program = (
        "import sys; from tests.test_report import digest_of_all; sys.stdout.write(digest_of_all())"
    )
    other = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONHASHSEED": "1", "PYTHONPATH": str(ROOT)},
    )

    assert other.stdout == digest_of_all()


def digest_of_all() -> str:
    """
    One number for all bytes of all formats.
    """
    whole = "".join(write(make()) for make in RESULTS.values() for write in (html, junit, summary))
    return sha256(whole.encode()).hexdigest()


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
    text = html(mismatch())
    assert len(text.encode()) < 1_000_000
    assert text.count("<details") == 1 + 50 * len(VERDICTS)
    assert text.count(f"… and {10_000 // len(VERDICTS) - 50:,} more were counted") == len(VERDICTS)
    long = "y" * 40_000
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
        pairs += [("ink", "mark")]
        pairs += [("on-banner", banner) for banner in ("pass", "mismatch", "incomplete")]
        low = [pair for pair in pairs if contrast(colours[pair[0]], colours[pair[1]]) < 4.5]
        assert low == []
        cells = [f"{state}-cell" for state in ("clean", "hard", "open")]
        faint = [cell for cell in cells if contrast(colours[cell], colours["paper"]) < 3]
        assert faint == []


def test_no_state_is_told_by_colour_alone() -> None:
    """
    Cells differ in height as well, what differs has a sign and a word, what is hard says so.
    """
    text = html(mismatch())

    assert len(set(SHAPES.values())) == len(SHAPES)
    assert text.count('<span class="badge">hard</span>') == len(VERDICTS)
    rows = re.findall(r'<tr class="differs">.*?</tr>', text)
    assert rows
    assert all("≠" in row and ">differs<" in row for row in rows)


def test_the_data_cannot_turn_or_hide_what_is_read() -> None:
    """
    Every format spells out control characters, direction marks and what is no character.
    """
    for text in (html(hostile()), junit(hostile()), summary(hostile())):
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2067]", text)
        assert not [sign for sign in text if (ord(sign) & 0xFFFE) == 0xFFFE]
        assert not re.search("[\ufdd0-\ufdef\u2028\u2029]", text)


@pytest.mark.parametrize(
    ("one", "other"),
    [("a", "a\u200b"), ("Jos\u00e9", "Jose\u0301"), ("a b", "a\u00a0b"), ("x", "x\ufeff")],
    ids=["no width", "decomposed", "no-break space", "byte order mark"],
)
def test_a_difference_that_cannot_be_seen_is_spelled_out(one: str, other: str) -> None:
    """
    Two values that look the same are shown by the numbers of their characters.
    """
    sides = ({"type": "text", "value": value} for value in (one, other))
    expected, found = sides
    page = html(result(samples=[sample("DIFFERENT", "k", expected=expected, found=found)]))

    assert re.search(r"<mark>[^<]*\\[ux][0-9a-f]{2,}", page)


def test_a_sample_says_what_it_compares() -> None:
    """
    A field by its name, versions where there is none, and nothing of a side that is absent.
    """
    version = {"type": "text", "length": 1, "digest": "a1"}
    lost = sample("MISSING", "k", kind="", field="", expected=version, found={"type": "absent"})
    page = Page(html(result(samples=[lost, sample("DIFFERENT", "j")])))

    assert "k , version" in page.said
    assert "j , another value , field email" in page.said
    assert "not shown" not in page.said
    assert "verify --show-values keeps them" in page.said


def test_times_are_told_in_utc() -> None:
    """
    Seconds since 1970 in the result are a date and a time in the page and in JUnit.
    """
    ended = result(started_at=1_795_272_090.49, finished_at=1_795_272_100.5)

    assert "2026-11-21T14:41:30Z" in Page(html(ended)).said
    assert ET.fromstring(junit(ended)).get("timestamp") == "2026-11-21T14:41:30Z"  # noqa: S314


def test_a_sample_of_rows_is_not_said_to_be_all_of_them() -> None:
    """
    Nor are records that nobody looked for said to be none.
    """
    some = result(level="sample", scope={"sample": 300, "compared": 300, "rows_sql": 300})

    assert facts.coverage(some) == "a random sample of 300 rows"
    assert "records in Redis" not in dict(facts.environment(some))


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
    assert "www." not in text
    items = [line[2:] for line in text.splitlines() if line.startswith("- ")]
    assert [item for item in items if not re.match(r"[A-Za-z&]", item)] == []
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert {row.count("|") for row in rows} == {4}
    assert "PASS" in summary(result()).splitlines()[0]


def test_the_command_to_repeat_it_is_one_that_exists() -> None:
    """
    Level sample needs its number of rows.
    """
    again = facts.command(result(level="sample", scope={"sample": 300}))

    assert again == "profile-migrate verify users --level sample --sample 300"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """
    One browser for all pages: starting it takes longer than looking.
    """
    path = browser_path()
    if path is None:
        pytest.skip("Needs a browser: install chromium, or put google-chrome on the PATH.")
    with ExitStack() as stack:
        try:
            started = stack.enter_context(browsing(path, tmp_path_factory.mktemp("browser")))
        except BrowserGone as gone:
            pytest.skip(f"Needs a browser that starts; {path} does not: {gone}")
        yield started


def opened(browser: Browser, folder: Path, kind: str) -> None:
    """
    Open the page of such a result from a file.
    """
    file = folder / "report.html"
    file.write_text(html(RESULTS[kind]()), encoding="utf-8")
    browser.open(file)


@pytest.mark.parametrize("kind", ["pass", "mismatch", "hostile", "incomplete"])
def test_a_browser_shows_it_without_a_request_or_a_complaint(
    browser: Browser, tmp_path: Path, kind: str
) -> None:
    """
    Whatever is clicked, only the file is read, and no script of the data runs.

    The console stays empty, and the page is never wider than a phone.
    """
    opened(browser, tmp_path, kind)
    browser.width(360)

    browser.value("document.querySelectorAll('summary, label, a').forEach(one => one.click())")

    asked = [told["request"]["url"] for told in browser.told("Network.requestWillBeSent")]
    assert {url.partition("#")[0] for url in asked} == {(tmp_path / "report.html").as_uri()}
    complaints = ("Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled")
    assert browser.told(*complaints, "Page.javascriptDialogOpening") == []
    assert browser.value("document.images.length") == 0
    assert browser.value("document.documentElement.scrollWidth") <= 360


def test_samples_are_chosen_and_opened_by_keyboard(browser: Browser, tmp_path: Path) -> None:
    """
    A box hides the samples of its verdict and shows them again, and says how many are left.
    """
    opened(browser, tmp_path, "mismatch")
    every, shown = 50 * len(VERDICTS), "document.getElementById('chosen').textContent"
    browser.value("document.querySelector('#chooser input').focus()")
    assert browser.value(shown) == f"{every} samples are shown"

    browser.press(" ")
    assert browser.value(shown) == f"{every - 50} samples are shown"
    assert browser.value("document.getElementById('samples-1').checkVisibility()") is False
    assert browser.value("document.getElementById('samples-2').checkVisibility()") is True
    browser.press("Tab")
    assert browser.value("document.activeElement.value") == "samples-2"
    browser.value("document.querySelector('#chooser input').click()")
    assert browser.value(shown) == f"{every} samples are shown"

    browser.value("document.querySelectorAll('#samples-1 summary')[1].focus()")
    browser.press("Enter")
    assert browser.value("document.querySelectorAll('#samples-1 details')[1].open") is True


def test_a_screen_reader_hears_the_verdict_and_every_part(browser: Browser, tmp_path: Path) -> None:
    """
    The verdict is in the first heading; tables, regions and the strip have names.

    Landmarks are there, and a count that is announced when it changes.
    """
    opened(browser, tmp_path, "mismatch")

    heard = browser.heard()

    roles = {role for role, _ in heard}
    assert {"banner", "navigation", "main", "contentinfo", "status"} <= roles
    headings = [name for role, name in heard if role == "heading"]
    assert headings[0].endswith("MISMATCH")
    assert headings[1] == "What was not checked"
    assert [name for role, name in heard if role in {"table", "region", "image"} and not name] == []
    assert [name for role, name in heard if role == "image"] == [
        "50 partitions: 50 done without a hard difference, 0 with hard differences, 0 not done"
    ]
    assert {"columnheader", "rowheader"} <= roles
    regions = [name for role, name in heard if role == "region"]
    assert len(regions) == 7
    assert set(regions) <= set(headings)
