"""
Checks a document against a pydantic model and says in our words where it does not fit.

Every problem at once, each at the line and column of the key or value that is wrong, with the
nearest valid word. Values are not shown, except a wrong word that is close to a right one.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, cast, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from migrate.documents.reader import QUOTE_TEMPLATE, Document, Loc, Value, words
from migrate.errors import InvalidFiles, Problem

Model = TypeVar("Model", bound=BaseModel)


def validate(model: type[Model], document: Document, *, loc_prefix: Loc = ()) -> Model:
    """
    The document, or the section of it at `loc_prefix`, as a value of the model.

    Raises:
        InvalidFiles: With every place that does not fit.
    """
    problems: list[Problem] = []
    value = check(model, document, problems, loc_prefix=loc_prefix)
    if value is None:
        raise InvalidFiles(problems)
    return value


def check(
    model: type[Model],
    document: Document,
    problems: list[Problem],
    *,
    loc_prefix: Loc = (),
) -> Model | None:
    """
    As `validate`, but adds to `problems` and returns None where something does not fit.

    Places that could not be read have been reported by the reader and are passed over, so the
    result may be None with nothing added.
    """
    try:
        return model.model_validate(section(document.data, loc_prefix))
    except ValidationError as error:
        for details in error.errors(include_url=False):
            problem = _problem(model, document, details, loc_prefix)
            if problem is not None:
                problems.append(problem)
        return None


def refuse(
    rule: str,
    message: str,
    fix: str,
    *,
    at: Loc = (),
    key: bool = False,
    offset: int | None = None,
) -> PydanticCustomError:
    """
    The error that a model's own validator raises to have a rule, a fix and an exact place.

    Args:
        message: Without values.

        at: Place below the validated value, for checks of a whole section.

        key: Point at the key instead of the value.

        offset: Character of the text value that is wrong.
    """
    context = {"fix": fix, "at": at, "key": key, "offset": offset, "ours": message}
    # The template is fixed: a message with braces of its own must not be formatted.
    return PydanticCustomError(rule, "refused", context)


def nearest(word: str, known: Iterable[str]) -> str | None:
    """
    The valid word that was probably meant, or None.
    """
    by_folded = {k.casefold(): k for k in known}
    found = difflib.get_close_matches(word.casefold(), by_folded, n=1, cutoff=0.6)
    return by_folded[found[0]] if found else None


def suggest(word: str, known: Sequence[str], what: str = "Known") -> str:
    """
    The fix for an unknown word: the nearest one and the list of all.
    """
    meant = nearest(word, known)
    listed = f"{what}: {', '.join(known)}." if known else ""
    return " ".join(filter(None, (meant and f"Did you mean `{meant}`?", listed)))


def dotted(loc: Loc) -> str:
    """
    A place as people say it: `source.key[0]`.
    """
    text = ""
    for part in loc:
        text += f"[{part}]" if isinstance(part, int) else f".{words(part)}"
    return text.removeprefix(".")


def section(data: Value, loc: Loc) -> Value:
    """
    The value at a place of a tree.
    """
    inner: Any = data
    for part in loc:
        inner = inner[part]
    return cast("Value", inner)


def _problem(
    model: type[BaseModel], document: Document, details: ErrorDetails, prefix: Loc
) -> Problem | None:
    kind = details["type"]
    context: Mapping[str, Any] = details.get("ctx", {})
    loc = prefix + _real(details["loc"], section(document.data, prefix), kind)
    if document.is_broken(loc) or (kind == "missing" and (*loc[:-1], "<<") in document.broken):
        return None
    at, of_key = loc, kind in _AT_KEY
    if "ours" in context:
        # pydantic adds a part of its own to the place of a dict's key.
        at, of_key = (*loc, *context["at"]), context["key"] or details["loc"][-1:] == ("[key]",)
        rule, message, fix = kind, context["ours"], context["fix"]
    else:
        explain = _EXPLAIN.get(kind, _explain_other)
        rule, message, fix = explain(_Case(model, loc, len(prefix), details, context))
    if kind == "missing":
        at, of_key = loc[:-1], True
    if context.get("offset") is not None:
        line, column = document.inside(at, context["offset"])
    else:
        line, column = document.position(at, key=of_key)
    return Problem(document.path, line, column, rule, message, fix)


_AT_KEY = frozenset({"extra_forbidden", "invalid_key"})


def _real(loc: Loc, data: Value, kind: str) -> Loc:
    """
    A pydantic place without what it adds: names of union members, tags and `[key]`.
    """
    real: list[str | int] = []
    for number, part in enumerate(loc):
        if isinstance(data, dict) and part in data:
            data = data[str(part)]
        elif isinstance(data, list) and isinstance(part, int) and part < len(data):
            data = data[part]
        elif not (kind == "missing" and number == len(loc) - 1):
            continue
        real.append(part)
    return tuple(real)


class _Case:
    """
    One pydantic error with what is needed to explain it.
    """

    def __init__(
        self,
        model: type[BaseModel],
        loc: Loc,
        depth: int,
        details: ErrorDetails,
        context: Mapping[str, Any],
    ) -> None:
        self.model = model
        self.loc = loc
        self.below = loc[depth:]
        self.name = f"`{dotted(loc)}`" if loc else "The file"
        self.input = details.get("input")
        self.context = context
        self.message = details["msg"]


Explanation = tuple[str, str, str]
"""Rule, message, fix."""


def _explain_unknown_key(case: _Case) -> Explanation:
    word, where = str(case.loc[-1]), case.loc[:-1]
    known = sorted(_keys_of(case.model, case.below[:-1]))
    of = f" of `{dotted(where)}`" if where else ""
    message = f"`{words(word)}` is not a known key{of}."
    return "unknown-key", message, suggest(word, known) or "Remove it."


def _explain_missing(case: _Case) -> Explanation:
    around = f"`{dotted(case.loc[:-1])}`" if case.loc[:-1] else "The file"
    key = words(str(case.loc[-1]))
    return "missing-key", f"{around} has no `{key}`.", f"Add `{key}:` here."


def _explain_text(case: _Case) -> Explanation:
    message = f"{case.name} must be text, not {_kind_of(case.input)}."
    if isinstance(case.input, bool | int | float):
        return "wrong-type", message, "Put the value in quotes."
    if isinstance(case.input, dict) and None in case.input.values():
        return "wrong-type", message, QUOTE_TEMPLATE
    return "wrong-type", message, "Write text after the colon."


def _explain_type(wanted: str, fix: str) -> Callable[[_Case], Explanation]:
    def explain(case: _Case) -> Explanation:
        return (
            "wrong-type",
            f"{case.name} must be {wanted}, not {_kind_of(case.input)}.",
            fix,
        )

    return explain


def _explain_word(case: _Case) -> Explanation:
    expected = str(case.context.get("expected") or case.context.get("expected_tags") or "")
    known = re.findall(r"'([^']*)'", expected) or [expected]
    listed = " or ".join(filter(None, (", ".join(known[:-1]), known[-1])))
    given = case.input if isinstance(case.input, str) else ""
    meant = nearest(given, known)
    # Only a word that is nearly right is shown: anything else may be a secret in a wrong place.
    shown = f" (got `{words(given)}`)" if meant and given != meant else ""
    message = f"{case.name} must be {listed}{shown}."
    return (
        "unknown-word",
        message,
        f"Did you mean `{meant}`?" if meant else f"Write {listed}.",
    )


def _explain_limit(phrase: str, name: str) -> Callable[[_Case], Explanation]:
    def explain(case: _Case) -> Explanation:
        limit = case.context.get(name)
        return (
            "out-of-range",
            f"{case.name} must {phrase} {limit}.",
            "Change the value.",
        )

    return explain


def _explain_length(case: _Case) -> Explanation:
    least, most = case.context.get("min_length"), case.context.get("max_length")
    if least == 1:
        return (
            "empty-value",
            f"{case.name} is empty.",
            "Write a value, or remove the key.",
        )
    limit = f"at least {least}" if least is not None else f"at most {most}"
    what = "characters" if isinstance(case.input, str) else "entries"
    return (
        "out-of-range",
        f"{case.name} must have {limit} {what}.",
        "Change the value.",
    )


def _explain_pattern(case: _Case) -> Explanation:
    message = f"{case.name} does not have the form {case.context.get('pattern')}."
    return "invalid-value", message, "Change the value."


def _explain_ours(case: _Case) -> Explanation:
    message = case.message.removeprefix("Value error, ").removeprefix("Assertion failed, ")
    return "invalid-value", f"{case.name}: {message}", "Change the value."


def _explain_other(case: _Case) -> Explanation:
    return (
        "invalid-value",
        f"{case.name} does not fit.",
        "See the reference of this file.",
    )


_SECTION = _explain_type("a section of keys", "Write `key: value` lines below it, indented.")
_LIST = _explain_type("a list", "Write it in brackets: [a, b].")
_WHOLE = _explain_type("a whole number", "Write digits without quotes.")
_NUMBER = _explain_type("a number", "Write a number without quotes.")
_TRUTH = _explain_type("true or false", "Write true or false, without quotes.")

_EXPLAIN: dict[str, Callable[[_Case], Explanation]] = {
    "extra_forbidden": _explain_unknown_key,
    "missing": _explain_missing,
    "string_type": _explain_text,
    "literal_error": _explain_word,
    "enum": _explain_word,
    "union_tag_invalid": _explain_word,
    "union_tag_not_found": _SECTION,
    "model_type": _SECTION,
    "model_attributes_type": _SECTION,
    "dict_type": _SECTION,
    "list_type": _LIST,
    "tuple_type": _LIST,
    "int_type": _WHOLE,
    "int_from_float": _WHOLE,
    "int_parsing": _WHOLE,
    "float_type": _NUMBER,
    "float_parsing": _NUMBER,
    "finite_number": _explain_type("a finite number", "Write a number."),
    "bool_type": _TRUTH,
    "bool_parsing": _TRUTH,
    "greater_than": _explain_limit("be above", "gt"),
    "greater_than_equal": _explain_limit("be at least", "ge"),
    "less_than": _explain_limit("be below", "lt"),
    "less_than_equal": _explain_limit("be at most", "le"),
    "string_too_short": _explain_length,
    "string_too_long": _explain_length,
    "too_short": _explain_length,
    "too_long": _explain_length,
    "string_pattern_mismatch": _explain_pattern,
    "value_error": _explain_ours,
    "assertion_error": _explain_ours,
}

_KINDS: tuple[tuple[type, str], ...] = (
    # bool before int: every truth value is an int to Python
    (bool, "true or false"),
    (int, "a number"),
    (float, "a number"),
    (str, "text"),
    (dict, "a section"),
    (list, "a list"),
)


def _kind_of(value: object) -> str:
    return next((name for kind, name in _KINDS if isinstance(value, kind)), "empty")


def _keys_of(model: type[BaseModel], loc: Loc) -> set[str]:
    """
    The keys that are known in the section at `loc`: of every model that may stand there.
    """
    types: list[Any] = [model]
    for part in loc:
        types = [inner for t in types for inner in _step(t, part)]
    models = [t for t in types if isinstance(t, type) and issubclass(t, BaseModel)]
    return {field.alias or name for m in models for name, field in m.model_fields.items()}


def _step(kind: Any, part: str | int) -> list[Any]:
    """
    The types, unions taken apart, that may stand below a type at one step of a place.
    """
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        fields = {field.alias or name: field for name, field in kind.model_fields.items()}
        return _members(fields[part].annotation) if part in fields else []
    arguments = get_args(kind)
    if get_origin(kind) in (list, tuple, Sequence) and isinstance(part, int):
        return _members(arguments[0])
    if get_origin(kind) in (dict, Mapping) and isinstance(part, str):
        return _members(arguments[1])
    return []


def _members(kind: Any) -> list[Any]:
    origin = get_origin(kind)
    if origin is Annotated:
        return _members(get_args(kind)[0])
    if origin in (Union, UnionType):
        return [member for inner in get_args(kind) for member in _members(inner)]
    return [] if origin is Literal else [kind]
