"""
Key templates: what is a template, that keys are never shared, and which templates could collide.
"""

from __future__ import annotations

import itertools
import pickle
import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from migrate.mapping.template import ALWAYS_ESCAPED, Template, TemplateError, escape

TEXT = st.text(st.characters(codec="utf-8"), max_size=8) | st.text(
    st.sampled_from("ab:%-{}*?[]\\ \n\x00\x7f25Aé→"), max_size=6
)
SEPARATOR = st.sampled_from([":", "-", "|", "::", "a:", "→", "}}:", "_x", ".", "/%"])


@st.composite
def templates(draw: st.DrawFn) -> Template:
    """
    A template of one to four placeholders.
    """
    count = draw(st.integers(1, 4))
    text = draw(st.sampled_from(["profile:", "p/-", "x.{{", "é_p"]))
    for number in range(count):
        text += ("" if number == 0 else draw(SEPARATOR)) + f"{{c{number}}}"
    return Template.parse(text + draw(st.sampled_from(["", ":", "x", "}}", "%41"])))


def refused(text: str) -> TemplateError:
    with pytest.raises(TemplateError) as caught:
        Template.parse(text)
    return caught.value


def test_a_placeholder_is_replaced_by_its_component() -> None:
    """
    The usual template gives the usual key.
    """
    template = Template.parse("profile:{id}")

    assert template.names == ("id",)
    assert template.render(["42"]) == b"profile:42"


def test_components_come_in_the_order_of_the_placeholders() -> None:
    """
    Names, starts and components share one order, that of the text.
    """
    template = Template.parse("pr:{b}:{a}:x")

    assert template.names == ("b", "a")
    assert template.starts == (3, 7)
    assert template.render(["1", "2"]) == b"pr:1:2:x"


def test_doubled_braces_are_literal() -> None:
    """
    A hash tag of Redis Cluster can be written around a placeholder.
    """
    template = Template.parse("profile:{{{tenant}}}:{id}")

    assert template.render(["t", "7"]) == b"profile:{t}:7"


@pytest.mark.parametrize("character", sorted(ALWAYS_ESCAPED))
def test_risky_characters_are_escaped(character: str) -> None:
    """
    Separators, braces, glob and control characters never come from a component as they are.
    """
    shown = f"%{ord(character):02X}"

    assert escape(character) == shown
    assert Template.parse("profile:{id}").render([character]) == b"profile:" + shown.encode()


def test_other_text_stays_readable() -> None:
    """
    Letters of any script, emoji and usual punctuation are kept as UTF-8.
    """
    text = "Zoë-عمر_😀@example.org/+"

    assert Template.parse("profile:{id}").render([text]) == b"profile:" + text.encode()


def test_bytes_beyond_ascii_are_escaped() -> None:
    """
    A binary component gives a key that is text.
    """
    assert Template.parse("profile:{id}").render([b"a\xff:\x00"]) == b"profile:a%FF%3A%00"


def test_an_unusual_separator_is_escaped_in_components() -> None:
    """
    What tells two components apart is never part of one.
    """
    template = Template.parse("profile:{a}-{b}")

    assert template.render(["x-y", "z"]) == b"profile:x%2Dy-z"


@given(templates(), st.data())
def test_different_keys_never_render_alike(template: Template, data: st.DataObject) -> None:
    """
    Rendering is injective, whatever the components hold.
    """
    components = st.tuples(*(TEXT for _ in template.names))
    one, two = data.draw(components), data.draw(components)
    assume(one != two)

    assert template.render(one) != template.render(two)


@given(TEXT, TEXT, TEXT, TEXT)
def test_composite_keys_are_injective_at_their_border(a: str, b: str, c: str, d: str) -> None:
    """
    Text cannot move from one component into the next.
    """
    template = Template.parse("profile:{a}-{b}")
    assume((a, b) != (c, d))

    assert template.render([a, b]) != template.render([c, d])


@given(TEXT)
def test_the_only_percent_signs_are_escapes(text: str) -> None:
    """
    A component can be read back: unquoting gives the text.
    """
    shown = escape(text)
    back = re.sub(r"((?:%[0-9A-F]{2})+)", lambda m: _unquote(m[1]), shown)

    assert back == text


def _unquote(escaped: str) -> str:
    return bytes.fromhex(escaped.replace("%", "")).decode()


def test_a_template_crosses_process_borders() -> None:
    """
    Workers get templates by pickle.
    """
    template = Template.parse("profile:{a}-{b}")

    assert pickle.loads(pickle.dumps(template)) == template  # noqa: S301 - our own bytes


@pytest.mark.parametrize(
    ("text", "offset"),
    [
        ("", 0),
        ("profile:", 0),
        ("{id}", 0),
        ("p:{id}", 0),
        ("user{id}", 0),
        ("profile:{}", 8),
        ("profile:{ }", 8),
        ("profile:{id", 8),
        ("profile:id}", 10),
        ("profile:{id.__class__}", 11),
        ("profile:{id[0]}", 11),
        ("profile:{id!r}", 11),
        ("profile:{id:>9}", 11),
        ("profile:{id()}", 11),
        ("profile:{ id}", 9),
        ("profile:{id }", 11),
        ("profile:{a\tb}", 10),
        ("profile:{id}:{id}", 13),
        ("profile:{a}{b}", 11),
        ("profile:{a}x{b}", 11),
        ("profile:{a}%{b}", 11),
        ("profile:{a}:{b}7{c}", 15),
        ("profile:\n{id}", 8),
        ("profile:\u200b{id}", 8),
        ("profile-migrate:{id}", 0),
        ("profile-migrate:fence:{id}", 0),
        ("profile-{id}:x", 0),
        ("p" * 300 + ":{id}", 256),
    ],
)
def test_what_is_not_a_template_is_refused(text: str, offset: int) -> None:
    """
    Every refusal says where, what and what to write instead.
    """
    error = refused(text)

    assert (error.offset, bool(error.message), bool(error.fix)) == (offset, True, True)


def test_a_key_that_only_resembles_the_reserved_prefix_is_ours() -> None:
    """
    A component cannot hold the colon that the reserved prefix ends with.
    """
    assert Template.parse("profile-{id}").render(["migrate:x"]) == b"profile-migrate%3Ax"


@pytest.mark.parametrize(
    ("one", "two", "same"),
    [
        ("profile:{id}", "profile:{key}", True),
        ("profile:{id}", "account:{id}", False),
        ("profile:{id}", "profile:x:{id}", False),
        ("profile:{id}", "profile:x{id}", True),
        ("profile:{a}:{b}", "profile:x:{id}", True),
        ("profile:{a}:{b}", "profile:{id}", False),
        ("profile:{a}-{b}", "profile:{id}", True),
        ("profile:{id}", "profile:{id}:roles", False),
        ("profile:{id}x", "profile:{id}y", False),
        ("profile:{id}", "profile:%3A{id}", True),
        ("profile:{id}", "profile:%41{id}", False),
        ("profile:{id}", "profile:%zz{id}", False),
        ("profile:{id}", "profile:{{{id}}}", False),
    ],
)
def test_overlap_is_exact(one: str, two: str, same: bool) -> None:
    """
    Two templates overlap where some key belongs to both, and in either direction.
    """
    left, right = Template.parse(one), Template.parse(two)

    assert (left.overlaps(right), right.overlaps(left)) == (same, same)


ALPHABET = "a:-"

small = st.builds(
    lambda head, sep, tail: Template.parse("k::" + head + "{x}" + (sep and sep + "{y}") + tail),
    st.text(ALPHABET, max_size=1),
    st.sampled_from(["", ":", "-"]),
    st.text(ALPHABET, max_size=1),
)


def language(template: Template) -> set[str]:
    """
    Every key of a template, up to six characters of a small alphabet behind the prefix.
    """
    component = f"[{re.escape(''.join(sorted(set(ALPHABET) - template.escaped)))}]*"
    pattern = re.compile(component.join(map(re.escape, template.literals)))
    tails = itertools.chain.from_iterable(itertools.product(ALPHABET, repeat=n) for n in range(7))
    keys = ("k::" + "".join(tail) for tail in tails)
    return {key for key in keys if pattern.fullmatch(key)}


@given(small, small)
def test_overlap_agrees_with_trying_every_key(one: Template, two: Template) -> None:
    """
    The automaton finds a shared key where and only where there is one.
    """
    assert one.overlaps(two) == bool(language(one) & language(two))


@given(templates(), templates(), st.data())
def test_a_shared_key_is_never_missed(one: Template, two: Template, data: st.DataObject) -> None:
    """
    Templates that do not overlap never render alike, whatever the components hold.
    """
    left = one.render(data.draw(st.tuples(*(TEXT for _ in one.names))))
    right = two.render(data.draw(st.tuples(*(TEXT | st.binary(max_size=3) for _ in two.names))))

    assert left != right or one.overlaps(two)


BYTES = st.binary(max_size=6) | st.sampled_from([b"\xc3\xa9", b"\xff:", b"\xe2\x86\x92", b"%41"])
DECOYS = st.text(st.sampled_from("ab:%-{}|._xX+/→é0123456789ABCDEFabcdef\x00 "), max_size=24)


def as_bytes(component: str | bytes) -> bytes:
    return component if isinstance(component, bytes) else component.encode()


@given(templates(), st.data())
def test_a_key_is_read_back_to_its_components(template: Template, data: st.DataObject) -> None:
    """
    Matching is the inverse of rendering.
    """
    components = data.draw(st.tuples(*(TEXT for _ in template.names)))

    assert template.match(template.render(components)) == components


@given(templates(), st.data())
def test_a_key_of_bytes_is_read_back(template: Template, data: st.DataObject) -> None:
    """
    Of components that were bytes the same bytes come back, as text where they are text.
    """
    components = data.draw(st.tuples(*(BYTES for _ in template.names)))

    found = template.match(template.render(components))

    assert found is not None
    assert tuple(map(as_bytes, found)) == components


@given(templates(), st.data())
def test_only_own_keys_match(template: Template, data: st.DataObject) -> None:
    """
    Whatever the key: it does not match, or rendering what matched gives it again.
    """
    middle = data.draw(DECOYS.map(str.encode) | st.binary(max_size=16))
    whole = st.sampled_from([template.prefix + middle, middle])
    key = data.draw(whole)

    found = template.match(key)

    assert found is None or template.render(found) == key


@given(templates(), st.data())
def test_a_damaged_key_is_never_taken_for_another_text(
    template: Template, data: st.DataObject
) -> None:
    """
    One byte that is changed, added or lost gives no match, or the match of exactly that key.
    """
    key = template.render(data.draw(st.tuples(*(TEXT for _ in template.names))))
    at = data.draw(st.integers(0, len(key)))
    cut = data.draw(st.integers(0, 1))
    damaged = key[:at] + data.draw(st.binary(max_size=1)) + key[at + cut :]

    found = template.match(damaged)

    assert found is None or template.render(found) == damaged


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("profile:{id}", b"profile:a:b"),
        ("profile:{id}", b"profile"),
        ("profile:{id}", b"Profile:1"),
        ("profile:{id}", b"xprofile:1"),
        ("profile:{id}", b"profile:%41"),
        ("profile:{id}", b"profile:%3a"),
        ("profile:{id}", b"profile:%"),
        ("profile:{id}", b"profile:%3"),
        ("profile:{id}", b"profile:%ZZ"),
        ("profile:{id}", b"profile:a b"),
        ("profile:{id}", b"profile:*"),
        ("profile:{id}", b"profile:\xff"),
        ("profile:{id}", b"profile:\xed\xa0\x80"),
        ("profile:{id}", "profile:é%FF".encode()),
        ("profile:{id}", b"profile:1\n"),
        ("profile:{id}:x", b"profile:1"),
        ("profile:{a}:{b}", b"profile:1"),
        ("profile:{a}:{b}", b"profile:1:2:3"),
        ("profile:{a}-{b}", b"profile:1-2-3"),
        ("profile:{{{a}}}:{b}", b"profile:1:2"),
        ("profiles:created", b"profiles:created:1"),
        ("profiles:created", b"profiles:create"),
    ],
)
def test_a_key_that_is_never_rendered_does_not_match(text: str, key: bytes) -> None:
    """
    Separators, escapes of another spelling, other bytes, and keys that only begin alike.
    """
    assert Template.parse(text, fixed=True).match(key) is None


@pytest.mark.parametrize(
    ("text", "key", "components"),
    [
        ("profile:{id}", b"profile:", ("",)),
        ("profile:{id}", b"profile:a%3Ab", ("a:b",)),
        ("profile:{id}", b"profile:%C3%A9", (b"\xc3\xa9",)),
        ("profile:{id}", "profile:é".encode(), ("é",)),
        ("profile:{a}-{b}", b"profile:x%2Dy-z", ("x-y", "z")),
        ("profile:{{{a}}}:{b}", b"profile:{t}:7", ("t", "7")),
        ("profile:%41{id}", b"profile:%417", ("7",)),
        ("profiles:created", b"profiles:created", ()),
    ],
)
def test_a_key_shows_its_components(
    text: str, key: bytes, components: tuple[str | bytes, ...]
) -> None:
    """
    Text as text; what only bytes can render as bytes.
    """
    assert Template.parse(text, fixed=True).match(key) == components


def test_a_long_key_is_matched_at_once() -> None:
    """
    Keys of others are as long as they like: matching takes time in proportion, no more.
    """
    template = Template.parse("profile:{a}a:{b}a:{c}a:x")
    key = b"profile:" + b"a" * 200_000 + b":"

    assert template.match(key) is None


@pytest.mark.parametrize(
    ("text", "prefix"),
    [
        ("profile:{id}:x", b"profile:"),
        ("é_p{{{id}", "é_p{".encode()),
        ("all:created", b"all:created"),
    ],
)
def test_a_prefix_is_the_bytes_before_the_first_placeholder(text: str, prefix: bytes) -> None:
    """
    Literal braces are single there; a template without a placeholder is all prefix.
    """
    assert Template.parse(text, fixed=True).prefix == prefix


@pytest.mark.parametrize("text", ["all", "profile-migrate:all", "all:{", "al:{a}:{a}"])
def test_a_template_without_a_placeholder_keeps_the_other_rules(text: str) -> None:
    """
    A prefix of its own, never ours, and the same grammar.
    """
    with pytest.raises(TemplateError):
        Template.parse(text, fixed=True)


def test_bytes_of_ascii_render_as_their_text() -> None:
    """
    Which of the two a component is makes a difference beyond ASCII only.
    """
    template = Template.parse("profile:{a}-{b}")

    assert template.render([b"x-:", b"~"]) == template.render(["x-:", "~"])
