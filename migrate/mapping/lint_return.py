"""
Rules of what belongs to the way back to SQL: what a delete means, and who makes new ids.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from migrate.documents.reader import Document, words
from migrate.documents.shape import suggest
from migrate.errors import Problem
from migrate.mapping.partial import has, key_of, problem_at, section_at, value_at
from migrate.mapping.where import FilterError, parse_where
from migrate.model.filter import columns_of


def _delete_leaves_the_filter(document: Document) -> Iterator[Problem]:
    columns = section_at(document, "source", "delete", "set")
    if not columns:
        return
    where = value_at(document, "source", "where")
    if not has(document, ("source", "where")):
        yield problem_at(
            document,
            ("source", "delete"),
            "delete-where",
            "Without a filter the row would stay in the mapping, and be moved again.",
            'Add `where`, for example "deleted_at IS NULL", or remove `delete`.',
            key=True,
        )
    elif isinstance(where, str) and not _looked_at(where, columns):
        yield problem_at(
            document,
            ("source", "delete", "set"),
            "delete-where",
            "The filter looks at none of these columns, so that the row would stay in the mapping.",
            "Set a column that `where` looks at.",
            key=True,
        )


def _looked_at(where: str, columns: dict[str, object]) -> bool:
    try:
        return bool(columns_of(parse_where(where)) & columns.keys())
    except FilterError:
        return True  # told already


def _delete_keeps_the_key(document: Document) -> Iterator[Problem]:
    for name in section_at(document, "source", "delete", "set"):
        if name in key_of(document):
            yield problem_at(
                document,
                ("source", "delete", "set", name),
                "delete-key",
                f"`{words(name)}` is part of the key: another key is another row.",
                "Set another column.",
                key=True,
            )


def _ids_are_of_the_key(document: Document) -> Iterator[Problem]:
    key, ids = key_of(document), section_at(document, "ids")
    if not ids or not key:
        return
    column = ids.get("column")
    if isinstance(column, str) and column not in key:
        yield problem_at(
            document,
            ("ids", "column"),
            "ids-column",
            f"`{words(column)}` is not a column of `source.key`.",
            suggest(column, key, "Key columns"),
        )
    elif "column" not in ids and len(key) > 1:
        yield problem_at(
            document,
            ("ids",),
            "ids-column",
            "The key has several columns, and it is not said which of them holds the id.",
            f"Add `column:` with one of {', '.join(map(words, key))}.",
            key=True,
        )


RULES: tuple[Callable[[Document], Iterator[Problem]], ...] = (
    _delete_leaves_the_filter,
    _delete_keeps_the_key,
    _ids_are_of_the_key,
)
