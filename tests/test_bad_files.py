"""
Bad mappings: each gives every problem at once, with rule, line, column and what to write instead.

The table is the promise; the bad configurations are in test_bad_config.py.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from migrate.errors import ExitCode, InvalidFiles, Problem
from migrate.mapping.files import load

Expected = list[tuple[str, int, int]]

GOOD = """\
version: 1
name: users
source:
  table: users
  key: [id]
  where: "deleted_at IS NULL"
target:
  key: "user:{id}"
fields:
  email: {column: email_address}
  phone: {}
"""


def changed(old: str, new: str) -> str:
    """
    The good mapping with one line written otherwise.
    """
    assert GOOD.count(old) == 1
    return GOOD.replace(old, new)


def found_in(path: Path) -> tuple[Problem, ...]:
    """
    Every problem that loading tells, in less than a second.
    """
    start = time.process_time()
    with pytest.raises(InvalidFiles) as caught:
        load(path)
    assert time.process_time() - start < 5
    assert caught.value.exit_code == ExitCode.USAGE
    return caught.value.problems


def looked(one: str, name: str = "by_x") -> str:
    """
    The good mapping with a lookup in its thirteenth line.
    """
    return GOOD + f"lookups:\n  {name}: {one}\n"


def target(more: str, text: str = GOOD) -> str:
    """
    A mapping with one more line in its target, the ninth.
    """
    return text.replace('key: "user:{id}"\n', f'key: "user:{{id}}"\n  {more}\n')


def deleted(more: str, text: str = GOOD) -> str:
    """
    A mapping that says in its source what a delete means.
    """
    return text.replace("target:", f"  delete: {more}\ntarget:")


NO_FILTER = changed('  where: "deleted_at IS NULL"\n', "")

LINKED: dict[str, tuple[str, Expected]] = {
    # lookups, expiry, and the way back
    "a lookup without a key": (looked("{unique: true}"), [("missing-key", 13, 3)]),
    "a lookup as text": (looked('"user:email:{email}"'), [("wrong-type", 13, 9)]),
    "no lookups": (GOOD + "lookups: {}\n", [("empty-value", 12, 10)]),
    "lookups without a value": (GOOD + "lookups:\n", [("empty-value", 12, 1)]),
    "an unknown key of a lookup": (
        looked('{key: "user:email:{email}", uniqe: true}'),
        [("unknown-key", 13, 37)],
    ),
    "an unknown type of a lookup": (
        looked('{type: zset, key: "user:email:{email}"}'),
        [("unknown-word", 13, 16)],
    ),
    "a lookup of one record that is not unique": (
        looked('{key: "user:email:{email}"}'),
        [("lookup-unique", 13, 3)],
    ),
    "a lookup of one record that is said not to be unique": (
        looked('{key: "user:email:{email}", unique: false}'),
        [("lookup-unique", 13, 3)],
    ),
    "a unique set": (
        looked('{type: set, key: "user:email:{email}", unique: true}'),
        [("lookup-unique", 13, 48)],
    ),
    "a unique key for all records": (
        looked('{key: "user:all:x", unique: true}'),
        [("lookup-unique", 13, 15)],
    ),
    "a sorted set without a score": (
        looked('{type: sorted_set, key: "users:phone:{phone}"}'),
        [("lookup-score", 13, 3)],
    ),
    "a set with a score": (
        looked('{type: set, key: "users:phone:{phone}", score: email}'),
        [("lookup-score", 13, 49)],
    ),
    "a unique key with a score": (
        looked('{key: "user:email:{email}", unique: true, score: phone}'),
        [("lookup-score", 13, 51)],
    ),
    "a lookup without a prefix": (
        looked('{key: "{email}", unique: true}'),
        [("key-template", 13, 16)],
    ),
    "a lookup in our own prefix": (
        looked('{type: set, key: "profile-migrate:{email}"}'),
        [("key-template", 13, 27)],
    ),
    "a lookup with a format": (
        looked('{type: set, key: "users:phone:{phone:>9}"}'),
        [("key-template", 13, 45)],
    ),
    "a lookup over two fields side by side": (
        looked('{type: set, key: "users:x:{phone}{email}"}'),
        [("key-template", 13, 42)],
    ),
    "a lookup with a field twice": (
        looked('{type: set, key: "users:x:{phone}:{phone}"}'),
        [("key-template", 13, 43)],
    ),
    "a lookup of a column and not of its field": (
        looked('{key: "user:email:{email_address}", unique: true}'),
        [("lookup-field", 13, 27)],
    ),
    "a lookup of a key column that is no field": (
        looked('{type: set, key: "users:ids:{id}"}'),
        [("lookup-field", 13, 37)],
    ),
    "a score that is no field": (
        looked('{type: sorted_set, key: "users:seen", score: seen_at}'),
        [("lookup-field", 13, 54)],
    ),
    "a lookup of a dropped field": (
        looked('{type: set, key: "users:phone:{phone}"}').replace(
            "phone: {}", "phone: {drop: true}"
        ),
        [("lookup-field", 13, 39)],
    ),
    "a lookup of a masked field": (
        looked('{type: set, key: "users:phone:{phone}"}').replace(
            "phone: {}", "phone: {mask: sha256}"
        ),
        [("lookup-field", 13, 39)],
    ),
    "a score of a masked field": (
        looked('{type: sorted_set, key: "users:all", score: phone}').replace(
            "phone: {}", "phone: {mask: sha256}"
        ),
        [("lookup-field", 13, 53)],
    ),
    "a lookup of a collection": (
        looked('{type: set, key: "users:role:{roles}"}')
        + "children:\n  roles: {table: r, join: {a: id}, column: x}\n",
        [("lookup-field", 13, 38)],
    ),
    "a score within a collection": (
        looked('{type: sorted_set, key: "users:all", score: roles.at}')
        + "children:\n  roles: {table: r, join: {a: id}, columns: [at]}\n",
        [("lookup-field", 13, 53)],
    ),
    "a lookup that meets the records": (
        looked('{type: set, key: "user:{phone}"}'),
        [("key-template-collides", 13, 26)],
    ),
    "two lookups that meet": (
        looked('{type: set, key: "users:x:{phone}"}')
        + '  by_y: {type: set, key: "users:x:{email}"}\n',
        [("key-template-collides", 14, 26)],
    ),
    "two lookups with one key": (
        looked('{type: sorted_set, key: "users:all", score: phone}')
        + '  by_y: {type: sorted_set, key: "users:all", score: email}\n',
        [("key-template-collides", 14, 33)],
    ),
    "a name of a lookup that hides": (
        looked('{type: set, key: "users:x:{phone}"}', '"a\\u200bb"'),
        [("identifier", 13, 3)],
    ),
    "lookups of string records": (
        target("type: string", looked('{key: "user:email:{email}", unique: true}')),
        [("lookup-record", 13, 1)],
    ),
    "a set of records that expire": (
        target("ttl: {seconds: 60}", looked('{type: set, key: "users:phone:{phone}"}')),
        [("lookup-ttl", 14, 16)],
    ),
    "a sorted set of records that expire": (
        target(
            "ttl: {column: expires_at}",
            looked('{type: sorted_set, key: "users:all", score: phone}'),
        ),
        [("lookup-ttl", 14, 16)],
    ),
    "ttl as a number": (target("ttl: 60"), [("wrong-type", 9, 8)]),
    "ttl as another word": (target("ttl: never"), [("unknown-word", 9, 8)]),
    "ttl of nothing": (target("ttl: {}"), [("ttl-form", 9, 8)]),
    "ttl of both": (target("ttl: {seconds: 60, column: expires_at}"), [("ttl-form", 9, 8)]),
    "ttl of no seconds": (target("ttl: {seconds: 0}"), [("out-of-range", 9, 18)]),
    "ttl of seconds in quotes": (target('ttl: {seconds: "60"}'), [("wrong-type", 9, 18)]),
    "ttl of milliseconds": (target("ttl: {seconds: 86400000000}"), [("out-of-range", 9, 18)]),
    "ttl of parts of a second": (target("ttl: {seconds: 1.5}"), [("wrong-type", 9, 18)]),
    "ttl of a list": (target("ttl: {column: [a, b]}"), [("wrong-type", 9, 17)]),
    "ttl of a hostile column": (
        target('ttl: {column: "x; DROP TABLE users"}'),
        [("identifier", 9, 17)],
    ),
    "ttl with an unknown key": (target("ttl: {minutes: 5}"), [("ttl-form", 9, 8)]),
    "a reserved name for expiry": (
        target("reserved: {expires: phone}"),
        [("reserved-name", 12, 3)],
    ),
    "two reserved names for lookups": (
        target("reserved: {lookups: _e}"),
        [("reserved-name", 9, 3)],
    ),
    "a delete without columns": (deleted("{set: {}}"), [("empty-value", 7, 17)]),
    "a delete without set": (deleted("{}"), [("missing-key", 7, 3)]),
    "a delete as a word": (deleted("soft"), [("wrong-type", 7, 11)]),
    "a delete with an unknown key": (
        deleted("{sets: {deleted_at: now}}"),
        [("missing-key", 7, 3), ("unknown-key", 7, 12)],
    ),
    "a delete without a filter": (
        deleted("{set: {deleted_at: now}}", NO_FILTER),
        [("delete-where", 6, 3)],
    ),
    "a delete that stays in the filter": (
        deleted("{set: {gone: true}}"),
        [("delete-where", 7, 12)],
    ),
    "a delete that changes the key": (
        deleted("{set: {deleted_at: now, id: 0}}"),
        [("delete-key", 7, 35)],
    ),
    "a delete of a list": (deleted("{set: {deleted_at: [now]}}"), [("wrong-type", 7, 30)]),
    "a delete of a real number": (deleted("{set: {deleted_at: 1.5}}"), [("wrong-type", 7, 30)]),
    "a delete of a hostile column": (
        deleted('{set: {deleted_at: now, "x--": 1}}'),
        [("identifier", 7, 35)],
    ),
    "ids by nobody": (GOOD + "ids: {column: id}\n", [("missing-key", 12, 1)]),
    "ids by the database": (GOOD + "ids: {made_by: database}\n", [("unknown-word", 12, 16)]),
    "ids as a word": (GOOD + "ids: sql\n", [("wrong-type", 12, 6)]),
    "ids without a value": (GOOD + "ids:\n", [("empty-value", 12, 1)]),
    "ids of another column": (
        GOOD + "ids: {made_by: sql, column: email}\n",
        [("ids-column", 12, 29)],
    ),
    "ids of a key of two columns": (
        GOOD.replace("[id]", "[id, tenant]").replace("{id}", "{tenant}:{id}")
        + "ids: {made_by: sql}\n",
        [("ids-column", 12, 1)],
    ),
    "ids with an unknown key": (
        GOOD + "ids: {made_by: sql, sequences: s}\n",
        [("unknown-key", 12, 21)],
    ),
    "ids of a hostile sequence": (
        GOOD + 'ids: {made_by: sql, sequence: "s; DROP TABLE users"}\n',
        [("identifier", 12, 31)],
    ),
}

BAD: dict[str, tuple[str | bytes, Expected]] = {
    # the file
    "empty": ("", [("file-empty", 1, 1)]),
    "only a comment": ("# later\n", [("file-empty", 1, 1)]),
    "not UTF-8": (GOOD.encode() + b"# caf\xe9\n", [("file-encoding", 12, 6)]),
    "UTF-16": (GOOD.encode("utf-16"), [("file-encoding", 1, 1)]),
    "control character": (changed("users\n  key", "us\x07ers\n  key"), [("file-character", 4, 12)]),
    "a list": ("- users\n", [("wrong-type", 1, 1)]),
    "a word": ("users\n", [("wrong-type", 1, 1)]),
    # YAML
    "tag": (changed("table: users", "table: !!str users"), [("yaml-tag", 4, 10)]),
    "tag that runs code": (
        changed("name: users", "name: !!python/object/apply:os.system [id]"),
        [("yaml-tag", 2, 7)],
    ),
    "anchor and alias": (
        changed("phone: {}", "phone: &p {}\n  fax: *p"),
        [("yaml-anchor", 11, 10), ("yaml-alias", 12, 8)],
    ),
    "merge key": (changed("phone: {}", "<<: {phone: {}}"), [("yaml-merge", 11, 3)]),
    "duplicate key": (changed("phone: {}", "email: {}"), [("duplicate-key", 11, 3)]),
    "key that is a number": (changed("phone: {}", "1: {}"), [("yaml-key", 11, 3)]),
    "two documents": (GOOD + "---\n" + GOOD, [("yaml-documents", 12, 1)]),
    "tab": (changed("  table", "\ttable"), [("yaml-syntax", 4, 1)]),
    "open quote": (changed('"user:{id}"', '"user:{id}'), [("yaml-syntax", 8, 8)]),
    "open bracket": (changed("[id]", "[id"), [("yaml-syntax", 5, 8)]),
    "template without quotes": (
        changed('"user:{id}"', "{tenant}:{id}"),
        [("yaml-syntax", 8, 16)],
    ),
    "deep nesting": ("fields: " + "{a: " * 5000, [("yaml-depth", 1, 133)]),
    "billion laughs": (
        "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n",
        [
            ("missing-key", 1, 1),
            ("missing-key", 1, 1),
            ("missing-key", 1, 1),
            ("missing-key", 1, 1),
            ("unknown-key", 1, 1),
            ("yaml-anchor", 1, 4),
            ("unknown-key", 2, 1),
            ("yaml-anchor", 2, 4),
            ("yaml-alias", 2, 8),
            ("yaml-alias", 2, 12),
            ("unknown-key", 3, 1),
            ("yaml-alias", 3, 5),
            ("yaml-alias", 3, 9),
        ],
    ),
    # keys and their kinds
    "unknown key": (changed("where:", "were:"), [("unknown-key", 6, 3)]),
    "unknown section": (changed("fields:", "feilds:"), [("unknown-key", 9, 1)]),
    "missing keys": (
        "version: 1\nname: users\nsource:\n  table: users\ntarget: {}\n",
        [("missing-key", 3, 1), ("missing-key", 5, 1)],
    ),
    "missing sections": (
        "version: 1\nname: users\n",
        [("missing-key", 1, 1), ("missing-key", 1, 1)],
    ),
    "no version": (changed("version: 1\n", ""), [("missing-key", 1, 1)]),
    "another version": (changed("version: 1", "version: 2"), [("language-version", 1, 10)]),
    "version in quotes": (changed("version: 1", 'version: "1"'), [("unknown-word", 1, 10)]),
    "number for text": (changed("name: users", "name: 12"), [("wrong-type", 2, 7)]),
    "truth value for text": (changed("[id]", "[true]"), [("wrong-type", 5, 9)]),
    "section for text": (changed('"user:{id}"', "{id}"), [("wrong-type", 8, 8)]),
    "text for a list": (changed("[id]", "id"), [("wrong-type", 5, 8)]),
    "text for a section": (changed("phone: {}", "phone: mobile"), [("wrong-type", 11, 10)]),
    "text for a truth value": (
        changed("phone: {}", "phone: {drop: yes}"),
        [("wrong-type", 11, 17)],
    ),
    "fields without a value": (
        GOOD[: GOOD.index("  email")],
        [("empty-value", 9, 1)],
    ),
    "where without a value": (
        changed('where: "deleted_at IS NULL"', "where:"),
        [("empty-value", 6, 3)],
    ),
    "no key columns": (
        changed("[id]", "[]"),
        [("empty-value", 5, 8)],
    ),
    # names
    "name in capitals": (changed("name: users", "name: Users"), [("mapping-name", 2, 7)]),
    "name that leaves the folder": (
        changed("name: users", "name: ../users"),
        [("mapping-name", 2, 7)],
    ),
    "injection in a table": (
        changed("table: users", "table: 'users; DROP TABLE users'"),
        [("identifier", 4, 10)],
    ),
    "injection by a quote": (
        changed("table: users", "table: 'users\" WHERE 1=1 --'"),
        [("identifier", 4, 10)],
    ),
    "three parts of a table": (changed("table: users", "table: a.b.c"), [("identifier", 4, 10)]),
    "injection in a key column": (
        changed("[id]", '["id/**/OR/**/1=1"]'),
        [("identifier", 5, 9), ("key-template-column", 8, 8), ("key-template-column", 8, 14)],
    ),
    "injection in a column": (
        changed("email_address", '"x\\" FROM secrets --"'),
        [("identifier", 10, 19)],
    ),
    "NUL in a column": (changed("email_address", '"a\\0b"'), [("identifier", 10, 19)]),
    "newline in a field": (changed("phone: {}", '"a\\nb": {}'), [("identifier", 11, 3)]),
    "empty column": (changed("email_address", "''"), [("identifier", 10, 19)]),
    "endless column": (changed("email_address", "x" * 129), [("identifier", 10, 19)]),
    # the key template
    "attribute in the template": (
        changed("{id}", "{id.__class__}"),
        [("key-template", 8, 17)],
    ),
    "format in the template": (changed("{id}", "{id:>9}"), [("key-template", 8, 17)]),
    "no placeholder": (changed("{id}", "id"), [("key-template", 8, 9)]),
    "no prefix": (changed("user:{id}", "{id}"), [("key-template", 8, 9)]),
    "our own prefix": (changed("user:{id}", "profile-migrate:{id}"), [("key-template", 8, 9)]),
    "open brace": (changed("{id}", "{id"), [("key-template", 8, 14)]),
    "placeholders side by side": (
        changed(
            'key: [id]\n  where: "deleted_at IS NULL"\ntarget:\n  key: "user:{id}"',
            'key: [a, b]\ntarget:\n  key: "user:{a}{b}"',
        ),
        [("key-template", 7, 17)],
    ),
    "unknown placeholder": (
        changed("{id}", "{idd}"),
        [("key-template-column", 8, 8), ("key-template-column", 8, 14)],
    ),
    "key column not in the template": (
        changed("[id]", "[id, tenant]"),
        [("key-template-column", 8, 8)],
    ),
    "key column twice": (changed("[id]", "[id, id]"), [("key-column-twice", 5, 13)]),
    # the filter
    "second statement in the filter": (
        changed("IS NULL", "IS NULL; DROP TABLE users"),
        [("where", 6, 29)],
    ),
    "function in the filter": (
        changed("deleted_at IS NULL", "pg_sleep(9) IS NULL"),
        [("where", 6, 11)],
    ),
    "subquery in the filter": (
        changed("deleted_at IS NULL", "id IN (SELECT 1)"),
        [("where", 6, 18)],
    ),
    "comment in the filter": (changed("IS NULL", "IS NULL -- x"), [("where", 6, 30)]),
    "deep filter": (changed("deleted_at IS NULL", "(" * 5000), [("where", 6, 44)]),
    "filter over two lines": (
        changed('"deleted_at IS NULL"', "|\n    id = 1\n    OR now() = id"),
        [("where", 6, 10)],
    ),
    # fields
    "reserved field": (changed("phone: {}", "_v: {}"), [("reserved-name", 11, 3)]),
    "reserved field by another name": (
        changed('"user:{id}"', '"user:{id}"\n  reserved: {digest: phone}'),
        [("reserved-name", 12, 3)],
    ),
    "reserved names alike": (
        changed('"user:{id}"', '"user:{id}"\n  reserved: {digest: _v}'),
        [("reserved-name", 9, 22)],
    ),
    "unknown form": (changed("phone: {}", "phone: {as: iso8061}"), [("unknown-form", 11, 15)]),
    "form of a dropped field": (
        changed("phone: {}", "phone: {drop: true, as: text}"),
        [("drop-with-form", 11, 23)],
    ),
    "column in two fields": (
        changed("phone: {}", "mail: {column: email_address}"),
        [("column-twice", 11, 3)],
    ),
    "column moved and dropped": (
        changed("phone: {}", "email_address: {drop: true}"),
        [("dropped-and-moved", 11, 3)],
    ),
    "key dropped": (changed("phone: {}", "id: {drop: true}"), [("key-dropped", 11, 8)]),
    "everything dropped": (
        changed("email: {column: email_address}\n  phone: {}", "phone: {drop: true}"),
        [("no-fields", 9, 1)],
    ),
    # children
    "children of the wrong shape": (
        GOOD + "children:\n  roles: {table: user_roles, joins: {user_id: id}}\n",
        [("missing-key", 13, 3), ("unknown-key", 13, 30)],
    ),
    "a child with both columns and column": (
        GOOD + "children:\n  r: {table: t, join: {a: id}, column: x, columns: [x]}\n",
        [("child-columns", 13, 3)],
    ),
    "children in a plain value": (
        GOOD
        + "children:\n  r: {table: t, join: {a: id}, column: x,\n"
        + "    children: {s: {table: u, join: {b: a}, column: y}}}\n",
        [("child-columns", 14, 5)],
    ),
    "a child named as a field": (
        GOOD + "children:\n  phone: {table: t, join: {a: id}, column: x}\n",
        [("field-twice", 13, 3)],
    ),
    "a child with a reserved name": (
        GOOD + "children:\n  _v: {table: t, join: {a: id}, column: x}\n",
        [("reserved-name", 13, 3)],
    ),
    "an inner child named as a member": (
        GOOD
        + "children:\n  r:\n    table: t\n    join: {a: id}\n    columns: [s, s]\n"
        + "    children:\n      s: {table: u, join: {b: a}, column: y}\n",
        [("column-twice", 16, 18), ("field-twice", 18, 7)],
    ),
    # lookups, expiry, and the way back
    **LINKED,
    # what a later version builds
    "type json": (changed('"user:{id}"', '"user:{id}"\n  type: json'), [("not-yet", 9, 3)]),
    "type RedisJSON": (
        changed('"user:{id}"', '"user:{id}"\n  type: RedisJSON'),
        [("not-yet", 9, 3)],
    ),
    "type misspelt": (changed('"user:{id}"', '"user:{id}"\n  type: hsh'), [("unknown-word", 9, 9)]),
    "mask misspelt": (changed("phone: {}", "phone: {mask: sha25}"), [("unknown-mask", 11, 17)]),
    "a masked key": (
        changed("phone: {}", "id: {mask: sha256}"),
        [("key-masked", 11, 8)],
    ),
    # many at once
    "one mistake a section": (
        """\
version: 3
name: Users
source:
  tabel: users
  key: [id, id]
  where: "now() > id"
target:
  key: "user:{id!r}"
  type: sett
fields:
  _t: {}
  email: {as: txet, mask: sha256}
  email: {}
  phone: &p {drop: maybe}
lookups: {}
""",
        [
            ("language-version", 1, 10),
            ("mapping-name", 2, 7),
            ("missing-key", 3, 1),
            ("unknown-key", 4, 3),
            ("key-column-twice", 5, 13),
            ("where", 6, 11),
            ("key-template", 8, 17),
            ("unknown-word", 9, 9),
            ("reserved-name", 11, 3),
            ("unknown-form", 12, 15),
            ("duplicate-key", 13, 3),
            ("yaml-anchor", 14, 10),
            ("wrong-type", 14, 20),
            ("empty-value", 15, 10),
        ],
    ),
}


@pytest.mark.parametrize(("content", "expected"), BAD.values(), ids=BAD)
def test_a_bad_mapping_is_told_whole(
    tmp_path: Path, content: str | bytes, expected: Expected
) -> None:
    """
    Exactly these problems, each at its line and column, each with its fix.
    """
    file = tmp_path / "users.yaml"
    file.write_bytes(content.encode() if isinstance(content, str) else content)

    problems = found_in(file)

    assert sorted((p.rule, p.line, p.column) for p in problems) == sorted(expected)
    for problem in problems:
        assert problem.file == str(file)
        assert problem.message.endswith((".", "|", ":")), problem.message
        assert problem.fix, problem


def test_the_good_mapping_is_good(tmp_path: Path) -> None:
    """
    What the table changes has no problem of its own.
    """
    (tmp_path / "users.yaml").write_text(GOOD)

    assert list(load(tmp_path)) == ["users"]


def test_a_directory_and_a_missing_file_are_told(tmp_path: Path) -> None:
    """
    A path of the wrong kind is an error of the file as a whole.
    """
    (tmp_path / "users.yaml").mkdir()

    assert [(p.rule, p.line) for p in found_in(tmp_path)] == [("file-directory", 0)]
    assert [(p.rule, p.line) for p in found_in(tmp_path / "none.yaml")] == [("file-missing", 0)]


def test_two_mappings_cannot_share_a_name_or_a_key(tmp_path: Path) -> None:
    """
    A name given twice and templates that could render the same key name the other file.
    """
    (tmp_path / "a.yaml").write_text(GOOD)
    (tmp_path / "b.yaml").write_text(changed("{id}", "v{id}"))
    (tmp_path / "c.yaml").write_text(
        changed("user:{id}", "user:{id}:x").replace("users\ns", "c\ns")
    )

    problems = found_in(tmp_path)

    assert [(Path(p.file).name, p.rule, p.line, p.column) for p in problems] == [
        ("b.yaml", "mapping-name-twice", 2, 7),
        ("b.yaml", "key-template-collides", 8, 8),
    ]
    assert all(str(tmp_path / "a.yaml") in p.message for p in problems)


def test_no_value_of_a_mapping_is_repeated(tmp_path: Path) -> None:
    """
    Whatever is wrong with them, filters and values do not reach the error.
    """
    file = tmp_path / "users.yaml"
    file.write_text(
        changed("deleted_at IS NULL", "email = 'CANARY' + 1")
        .replace("version: 1", "version: CANARY")
        .replace("name: users", "name: CANARY")
        .replace("email_address", "[CANARY]")
        .replace("phone: {}", "phone: {as: CANARY, drop: CANARY}")
    )

    assert "CANARY" not in " ".join(map(str, found_in(file)))
