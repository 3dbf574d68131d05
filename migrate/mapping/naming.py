"""
Names that a scaffold makes up: of mappings, fields and collections, from those of SQL.

Every name here is one that the mapping language takes, whatever the database calls its things.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Collection

MAX_MADE = 50
"""Characters of a name that is made up, so that a number behind it has room."""

_LOWER_UPPER = re.compile(r"([a-z0-9])([A-Z])")
_UPPER_WORD = re.compile(r"([A-Z]+)([A-Z][a-z])")
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_WORDS = frozenset({"null", "true", "false", "yes", "no", "on", "off", "y", "n"})
_HISSING = ("x", "z", "ch", "sh", "ss")


def snake(name: str) -> str:
    """
    A name in small letters with `_` between its words: `CustomerId` is `customer_id`.

    Letters of any script stay; what is neither letter nor digit separates words. May be empty.
    """
    text = _UPPER_WORD.sub(r"\1_\2", _LOWER_UPPER.sub(r"\1_\2", name)).lower()
    parts = "".join(c if c.isalnum() else " " for c in unicodedata.normalize("NFC", text)).split()
    return "_".join(parts)[:MAX_MADE].strip("_")


def ascii_snake(name: str) -> str:
    """
    The same in ASCII, begun by a letter, as names of mappings are. May be empty.
    """
    bare = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    text = snake(bare)
    return f"t_{text}"[:MAX_MADE] if text[:1].isdigit() else text


def field_name(column: str, taken: Collection[str]) -> str:
    """
    A field for a column that none of the others has.
    """
    return unused(snake(column) or "field", taken)


def unused(name: str, taken: Collection[str]) -> str:
    """
    The name, or the first with a number behind it that is not taken.
    """
    found, number = name, 2
    while found in taken:
        found, number = f"{name}_{number}", number + 1
    return found


def plural(word: str) -> str:
    """
    A word for many, by the rules that fit most table names; one that ends with `s` is left alone.
    """
    if word.endswith("y") and word[-2:-1] not in ("a", "e", "i", "o", "u", ""):
        return f"{word[:-1]}ies"
    if word.endswith(_HISSING):
        return f"{word}es"
    return word if word.endswith("s") or not word[-1:].isascii() else f"{word}s"


def singular(word: str) -> str:
    """
    A word for one, as far as its ending tells.
    """
    if word.endswith("ies") and len(word) > 4:
        return f"{word[:-3]}y"
    if word.endswith(tuple(f"{end}es" for end in _HISSING)):
        return word[:-2]
    return word[:-1] if word.endswith("s") and not word.endswith(("ss", "us")) else word


def collection_name(table: str, parent: str) -> str:
    """
    A field for the rows of a table inside of another: `invoice_line` in `invoice` are `lines`.
    """
    name, above = snake(table) or "rows", snake(parent)
    for prefix in (f"{above}_", f"{singular(above)}_"):
        if len(prefix) > 1 and name.startswith(prefix):
            name = name.removeprefix(prefix)
            break
    return plural(name)


def table_text(schema: str | None, table: str) -> str:
    """
    A table as `source.table` takes it, in double quotes where a dot would divide it.
    """
    parts = [part for part in (schema, table) if part is not None]
    return ".".join(f'"{part}"' if "." in part else part for part in parts)


def column_text(column: str) -> str:
    """
    A column as `where` takes it.
    """
    return column if _PLAIN.fullmatch(column) and column.islower() else f'"{column}"'


def yaml_text(text: str) -> str:
    """
    A text as YAML, in double quotes where it could be read as something else.
    """
    if _PLAIN.fullmatch(text) and text.lower() not in _WORDS:
        return text
    return json.dumps(text, ensure_ascii=False)


def yaml_list(texts: Collection[str]) -> str:
    """
    Texts as a list in one line.
    """
    return f"[{', '.join(map(yaml_text, texts))}]"


def shown(text: str) -> str:
    """
    A name for a comment or a message: nothing in it ends the line or hides.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
