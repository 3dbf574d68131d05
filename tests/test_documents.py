"""
YAML with positions: what is read, what is refused, and how a model's errors find their place.
"""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path
from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from migrate.documents.reader import MAX_BYTES, Document, Value, read, scan
from migrate.documents.shape import check, refuse, suggest, validate
from migrate.errors import InvalidFiles, Problem


@pytest.fixture
def write(tmp_path: Path) -> Writer:
    return Writer(tmp_path / "file.yaml")


class Writer:
    """
    Puts text into one file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self, content: str | bytes) -> Path:
        self.path.write_bytes(content.encode() if isinstance(content, str) else content)
        return self.path


def problems(path: Path) -> list[tuple[str, int, int]]:
    """
    Rule, line and column of everything that reading finds.
    """
    with pytest.raises(InvalidFiles) as caught:
        read(path)
    assert all(p.message and p.fix and p.file == str(path) for p in caught.value.problems)
    return [(p.rule, p.line, p.column) for p in caught.value.problems]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),
        ("on", "on"),
        ("Yes", "Yes"),
        ("12:30", "12:30"),
        ("2024-01-01", "2024-01-01"),
        ("1_000", "1_000"),
        ("=", "="),
        ("089", 89),
        ("010", 10),
        ("0o17", 15),
        ("0x1F", 31),
        ("-7", -7),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("+.inf", float("inf")),
        ("True", True),
        ("FALSE", False),
        ("tRUE", "tRUE"),
        ("~", None),
        ("null", None),
        ("", None),
        ("'1'", "1"),
        ('"null"', "null"),
        ("|\n  a\n  b", "a\nb\n"),
        (">-\n  a\n  b", "a b"),
        ("[1, [a, {}]]", [1, ["a", {}]]),
        ("{x: {y: z}}", {"x": {"y": "z"}}),
        ("caf\u00e9 😀", "caf\u00e9 😀"),
    ],
)
def test_scalars_follow_the_core_schema(write: Writer, text: str, value: Value) -> None:
    """
    Only what YAML 1.2 calls a number, truth value or null is one; quotes always make text.
    """
    document = read(write(f"key: {text}\n"))

    assert document.data == {"key": value}


def test_positions_are_those_of_keys_and_values(write: Writer) -> None:
    """
    Lines and columns count from 1, in characters.
    """
    document = read(write("a:\n  é: {c: [x, 'y z']}\nempty:\n"))

    assert document.position(("a",), key=True) == (1, 1)
    assert document.position(("a", "é"), key=True) == (2, 3)
    assert document.position(("a", "é")) == (2, 6)
    assert document.position(("a", "é", "c", 1)) == (2, 14)
    assert document.position(("empty",)) == (3, 1)


def test_an_unknown_place_falls_back_to_the_section_around_it(write: Writer) -> None:
    """
    Every place has a position, however deep and missing.
    """
    document = read(write("x: 1\na:\n  b: {c: 1}\n"))

    assert document.position(("a", "b", "nothing", 3, "deep")) == (3, 3)
    assert document.position(("nothing",), key=True) == (1, 1)
    assert Document("none", None).position(("a",)) == (1, 1)


@pytest.mark.parametrize(
    ("text", "offset", "column"),
    [
        ("a: plain text", 6, 10),
        ("a: 'it''s it'", 5, 11),
        ('a: "\\x41\\u00e9\\"b"', 3, 17),
        ("a:   é=x", 2, 8),
        ("a: |\n  text", 2, 4),
    ],
)
def test_a_character_inside_a_value_has_its_column(
    write: Writer, text: str, offset: int, column: int
) -> None:
    """
    Exact on one line, escapes included; the start of the value where it spans lines.
    """
    document = read(write(text + "\n"))

    assert document.inside(("a",), offset) == (1, column)


def test_a_byte_order_mark_is_not_part_of_the_file(write: Writer) -> None:
    """
    Files of Windows editors are read, and columns are not shifted.
    """
    document = read(write(b"\xef\xbb\xbfa: 1\r\nb: 2\r\n"))

    assert document.data == {"a": 1, "b": 2}
    assert document.position(("a",), key=True) == (1, 1)


def test_the_repr_of_a_document_shows_no_value(write: Writer) -> None:
    """
    A document that ends up in a log or a trace gives nothing away.
    """
    document = read(write("password: canary-1\n'canary-2': x\n"))

    assert "canary" not in repr(document)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", [("file-empty", 1, 1)]),
        (b"# only a comment\n", [("file-empty", 1, 1)]),
        (b"---\n", [("file-empty", 1, 1)]),
        (b"a: 1\nb: caf\xe9\n", [("file-encoding", 2, 7)]),
        ("a: 1".encode("utf-16"), [("file-encoding", 1, 1)]),
        (b"\xef\xbb\xbf\xff", [("file-encoding", 1, 1)]),
        (b"a: x\x00y\nb: \x1b[31m\n", [("file-character", 1, 5), ("file-character", 2, 4)]),
        (b"x" * (MAX_BYTES + 1), [("file-too-large", 0, 0)]),
        (b"- a\n" * 21_000, [("file-too-large", 19_999, 3)]),
        (b"a: 1\n---\nb: 2\n", [("yaml-documents", 2, 1)]),
        (b"%YAML 1.1\n---\na: 1\n", [("yaml-directive", 1, 1)]),
        (b"a: !!python/object/apply:os.system [id]\n", [("yaml-tag", 1, 4)]),
        (b"a: !env HOME\nb: !x!y z\n", [("yaml-tag", 1, 4), ("yaml-tag", 2, 4)]),
        (b"a: &x 1\nb: *x\n", [("yaml-alias", 2, 4), ("yaml-anchor", 1, 4)]),
        (b"<<: {a: 1}\n", [("yaml-merge", 1, 1)]),
        (b"a: 1\nb: {a: 1, a: 2}\na: 3\n", [("duplicate-key", 2, 11), ("duplicate-key", 3, 1)]),
        (b"1: a\ntrue: b\n~: c\n", [("yaml-key", 1, 1), ("yaml-key", 2, 1), ("yaml-key", 3, 1)]),
        (b"? [a]\n: b\n{c: d}: e\n", [("yaml-key", 1, 3), ("yaml-key", 3, 1)]),
        (b"*x : 1\n", [("yaml-alias", 1, 1)]),
        (b"a: " + b"9" * 5000, [("yaml-number", 1, 4)]),
        (b"key: {tenant}:{id}\n", [("yaml-syntax", 1, 14)]),
        (b"a:\n\tb: 1\n", [("yaml-syntax", 2, 1)]),
        (b"a: 'x\nb: 1\n", [("yaml-syntax", 1, 4)]),
        (b'a: "\\q"\n', [("yaml-syntax", 1, 6)]),
        (b"a: [1\nb: 2\n", [("yaml-syntax", 1, 4)]),
        (b"a: b: c\n", [("yaml-syntax", 1, 5)]),
        (b"a:\n   b: 1\n  c: 2\n", [("yaml-syntax", 3, 3)]),
        (b"a: @x\n", [("yaml-syntax", 1, 4)]),
    ],
)
def test_what_is_not_allowed_is_refused_with_its_place(
    write: Writer, content: bytes, expected: list[tuple[str, int, int]]
) -> None:
    """
    Each feature outside the subset has a rule, a line, a column and a fix; all come at once.
    """
    assert sorted(problems(write(content))) == sorted(expected)


def test_what_was_refused_before_a_syntax_error_is_told_with_it(write: Writer) -> None:
    """
    A file that stops making sense still has the problems before that told.
    """
    assert problems(write("a: &x 1\na: 2\nb: [\n")) == [
        ("yaml-anchor", 1, 4),
        ("duplicate-key", 2, 1),
        ("yaml-syntax", 3, 4),
    ]


@pytest.mark.parametrize("line", ["key: {tenant}:{id}", "key: {{id}}:x", "- {id}-x"])
def test_a_template_without_quotes_is_recognised(write: Writer, line: str) -> None:
    """
    The commonest syntax error of a mapping is told by its fix.
    """
    with pytest.raises(InvalidFiles) as caught:
        read(write(line + "\n"))

    assert all("in quotes" in p.fix for p in caught.value.problems)


def test_paths_that_are_no_files_are_refused(tmp_path: Path) -> None:
    """
    A directory, a missing file, a pipe and an impossible path each say what they are.
    """
    os.mkfifo(tmp_path / "pipe")

    assert problems(tmp_path) == [("file-directory", 0, 0)]
    assert problems(tmp_path / "missing.yaml") == [("file-missing", 0, 0)]
    assert problems(tmp_path / "pipe") == [("file-kind", 0, 0)]
    assert problems(tmp_path / "a\x00b") == [("file-unreadable", 0, 0)]
    assert problems(tmp_path / ("x" * 300)) == [("file-unreadable", 0, 0)]


def test_a_file_without_permission_is_refused(write: Writer) -> None:
    """
    An unreadable file is named, without a stack trace.
    """
    path = write("a: 1\n")
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user reads every file; run as another user than root")

    assert problems(path) == [("file-unreadable", 0, 0)]
    path.chmod(stat.S_IRUSR | stat.S_IWUSR)


def bomb() -> str:
    lines = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    lines += [f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]" for a, b in zip("abcdefgh", "bcdefghi")]  # noqa: B905
    return "\n".join(lines)


@pytest.mark.parametrize(
    "content",
    [
        bomb(),
        "a: " + "[" * 5000,
        "a: " + "{a: " * 5000,
        "- " * 5000 + "x",
        "\n".join(" " * n + "a:" for n in range(1400)),
        "a: &a [*a]",
        "a: [" + "&x 1," * 5000 + "]",
        "{" + "a: 1, " * 5000 + "}",
        "? " * 5000,
        "a: '" + "''" * 100_000 + "'",
        "!" * 100_000,
    ],
    ids=lambda text: text[:12].replace("\n", " "),
)
def test_no_input_costs_more_than_seconds(write: Writer, content: str) -> None:
    """
    Billion laughs, deep nesting and floods of errors are answered at once, without recursion.
    """
    path = write(content)
    found: list[Problem] = []
    start = time.process_time()

    scan(path, found)

    assert time.process_time() - start < 5
    assert found or content.endswith("'")
    assert len(found) <= 101


@given(st.text(st.sampled_from("ab: -[]{},&*!|>'\"%@`#?\n\t1~<é"), max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    """
    No content gives another error than ours, and every position lies in the file.
    """
    path = _SCRATCH / "any.yaml"
    path.write_text(text)
    found: list[Problem] = []

    document = scan(path, found)

    assert document is not None or found
    lines = text.count("\n") + 2
    assert all(1 <= p.line <= lines and p.column >= 1 for p in found)


@pytest.fixture(autouse=True, scope="module")
def _scratch(tmp_path_factory: pytest.TempPathFactory) -> None:
    global _SCRATCH  # noqa: PLW0603 - hypothesis and function-scoped fixtures do not mix
    _SCRATCH = tmp_path_factory.mktemp("documents")


_SCRATCH = Path()


class Strict(BaseModel):
    """
    As the models of real files are.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)


class Server(Strict):
    """
    A section with limits, words and a secret.
    """

    port: int = Field(ge=1, le=65535)
    mode: Literal["auto", "sentinel", "cluster"] = "auto"
    password: str | None = None
    tags: list[str] = Field(default_factory=list, max_length=2)

    @field_validator("password")
    @classmethod
    def _no_stars(cls, value: str | None) -> str | None:
        if value and "*" in value:
            raise refuse("star", "No {star}.", "Remove it.", offset=value.index("*"))
        return value


class Settings(Strict):
    """
    A file with sections by name.
    """

    version: Literal[1]
    name: Annotated[str, Field(min_length=1, pattern="^[a-z]+$")]
    redis: dict[str, Server] = Field(default_factory=dict)
    ratio: float = 1.0
    verify: bool = True

    @model_validator(mode="after")
    def _named(self) -> Settings:
        if self.name in self.redis:
            raise refuse("same-name", "Same name.", "Rename.", at=("redis", self.name), key=True)
        if self.ratio == 0:
            raise ValueError("the ratio is nothing")
        return self


def told(write: Writer, text: str) -> list[str]:
    """
    What validation says about a file, without the file's name.
    """
    with pytest.raises(InvalidFiles) as caught:
        validate(Settings, read(write(text)))
    return [str(p).removeprefix(f"{p.file}:") for p in caught.value.problems]


def test_a_document_that_fits_becomes_the_model(write: Writer) -> None:
    """
    Shape checking hands out the frozen model.
    """
    document = read(write("version: 1\nname: a\nredis: {main: {port: 1}}\n"))

    expected = Settings(version=1, name="a", redis={"main": Server(port=1)})
    assert validate(Settings, document) == expected


def test_a_section_can_be_checked_alone(write: Writer) -> None:
    """
    With a prefix only that section is read, and positions are those of the file.
    """
    document = read(write("x:\n  y:\n    prot: 5\n"))
    found: list[Problem] = []

    assert check(Server, document, found, loc_prefix=("x", "y")) is None
    assert [(p.rule, p.line, p.column) for p in found] == [
        ("missing-key", 2, 3),
        ("unknown-key", 3, 5),
    ]


def test_every_problem_is_told_at_once_with_the_nearest_word(write: Writer) -> None:
    """
    Unknown keys point at the key, missing ones at the section, the rest at the value.
    """
    text = """\
version: 2
nmae: x
redis:
  main: {mode: sentinal, password: 12}
  other: {port: 0, tags: [a, b, c]}
  third: 5
ratio: lots
verify: "yes"
"""

    assert told(write, text) == [
        "1:1: [missing-key] The file has no `name`. Add `name:` here.",
        "1:10: [unknown-word] `version` must be 1. Write 1.",
        (
            "2:1: [unknown-key] `nmae` is not a known key. Did you mean `name`? "
            "Known: name, ratio, redis, verify, version."
        ),
        "4:3: [missing-key] `redis.main` has no `port`. Add `port:` here.",
        (
            "4:16: [unknown-word] `redis.main.mode` must be auto, sentinel or cluster "
            "(got `sentinal`). Did you mean `sentinel`?"
        ),
        (
            "4:36: [wrong-type] `redis.main.password` must be text, not a number. "
            "Put the value in quotes."
        ),
        "5:17: [out-of-range] `redis.other.port` must be at least 1. Change the value.",
        "5:26: [out-of-range] `redis.other.tags` must have at most 2 entries. Change the value.",
        (
            "6:10: [wrong-type] `redis.third` must be a section of keys, not a number. "
            "Write `key: value` lines below it, indented."
        ),
        "7:8: [wrong-type] `ratio` must be a number, not text. Write a number without quotes.",
        (
            "8:9: [wrong-type] `verify` must be true or false, not text. "
            "Write true or false, without quotes."
        ),
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("- a\n", "1:1: [wrong-type] The file must be a section of keys, not a list."),
        ("just text\n", "1:1: [wrong-type] The file must be a section of keys, not text."),
        ("version: 1\nname:\n", "2:1: [wrong-type] `name` must be text, not empty."),
        ("version: 1\nname: ''\n", "2:7: [empty-value] `name` is empty."),
        ("version: 1\nname: A\n", "2:7: [invalid-value] `name` does not have the form ^[a-z]+$."),
        ("version: 1\nname: {id}\n", "2:7: [wrong-type] `name` must be text, not a section."),
        ("version: 1\nname: a\nredis: []\n", "3:8: [wrong-type] `redis` must be a section"),
        ("version: 1\nname: a\nredis:\n", "3:1: [wrong-type] `redis` must be a section of keys"),
        (
            "version: 1\nname: a\nredis:\n  b: {port: 1}\n  a: {port: 2}\n",
            "5:3: [same-name] Same name. Rename.",
        ),
        ("version: 1\nname: a\nratio: 0\n", "1:1: [invalid-value] The file: the ratio is nothing"),
        (
            "version: 1\nname: a\nredis: {b: {port: 1, password: 'x''*'}}\n",
            "3:36: [star] No {star}. Remove it.",
        ),
    ],
)
def test_each_kind_of_mistake_has_its_words(write: Writer, text: str, expected: str) -> None:
    """
    The message is ours: what must be there, what is, and the fix.
    """
    (only,) = told(write, text)

    assert only.startswith(expected)


def test_no_value_is_shown_but_a_word_that_is_nearly_right(write: Writer) -> None:
    """
    A secret in the wrong place does not reach the error, whatever the mistake is.
    """
    text = """\
version: 1
name: CANARY-1
redis:
  main: {port: CANARY-2, mode: CANARY-3, password: [CANARY-4], tags: {CANARY: 5}}
ratio: CANARY-6
"""

    shown = told(write, text)

    assert len(shown) == 6
    assert "CANARY" not in "".join(shown)


def test_a_refused_value_is_not_complained_about_twice(write: Writer) -> None:
    """
    What the reader refused has no shape, and nothing is said about it.
    """
    found: list[Problem] = []
    document = scan(write("version: !!int 1\nname: *x\nredis: {<<: {a: 1}, b: {<<: *y}}\n"), found)
    assert document is not None
    count = len(found)

    assert check(Settings, document, found) is None
    assert found[count:] == []


def test_the_nearest_word_comes_before_the_list() -> None:
    """
    A suggestion where one is near, the list always.
    """
    assert suggest("isp8601", ["iso8601", "text"]) == (
        "Did you mean `iso8601`? Known: iso8601, text."
    )
    assert suggest("zzz", ["iso8601", "text"]) == "Known: iso8601, text."
