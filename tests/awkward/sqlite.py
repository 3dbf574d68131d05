"""
What SQLite keeps although no column was declared for it, and how its tables can be made.
"""

from __future__ import annotations

from hashlib import sha256

from tests.awkward.cases import Drift, Refused, Schema, Sort, keyed, typed, values

LONG = "x" * 1_000_000
BAD = "CAST(x'ff41' AS TEXT)"


def _sha(text: str) -> str:
    return sha256(text.encode()).hexdigest()


SORTS: dict[str, Sort] = {
    "whole": Sort(
        "INTEGER",
        "7",
        b"7",
        values(
            largest=("9223372036854775807", "9223372036854775807"),
            smallest=("-9223372036854775808", "-9223372036854775808"),
            beyond_a_double=("9007199254740993", "9007199254740993"),
            one_too_many=("9223372036854775808", "!wrong-type"),
            digits_as_text=("'12'", "12"),
            digits_with_blanks=("' 5 '", "5"),
            power_as_text=("'1e2'", "100"),
            word=("'abc'", "!wrong-type"),
            empty_text=("''", "!wrong-type"),
            hex_text=("'0x10'", "!wrong-type"),
            half=("1.5", "!wrong-type"),
            whole_real=("1.0", "1"),
            infinite=("9e999", "!wrong-type"),
            bytes=("x'31'", "!wrong-type"),
            no_utf_8=(BAD, "!invalid-utf8"),
            nothing=("NULL", None),
        ),
    ),
    "unsigned": Sort(
        "UNSIGNED BIG INT",
        "0",
        b"0",
        values(twenty_digits=("18446744073709551615", "!wrong-type"), minus_zero=("-0", "0")),
    ),
    "amount": Sort(
        "DECIMAL(10,2)",
        "1.5",
        b"1.50",
        values(
            whole=("10", "10.00"),
            tenth=("0.1", "0.10"),
            minus_zero=("-0.0", "0.00"),
            text_with_scale=("'1.10'", "1.10"),
            power=("'1e5'", "100000.00"),
            tiny=("1e-7", "0.0000001"),
            huge=("1e22", "10000000000000000000000.00"),
            sixty_five_digits=(f"{'9' * 65}", f"1{'0' * 65}.00"),
            comma=("'1,5'", "!wrong-type"),
            no_number=("'NaN'", "!wrong-type"),
            infinite=("-9e999", "!not-finite"),
            bytes=("x'00'", "!wrong-type"),
            no_utf_8=(BAD, "!invalid-utf8"),
        ),
    ),
    "plain_number": Sort(
        "NUMERIC",
        "1",
        b"1",
        values(no_scale=("2.50", "2.5"), whole_real=("3.0", "3"), nothing=("NULL", None)),
    ),
    "real": Sort(
        "DOUBLE PRECISION",
        "0.5",
        b"0.5",
        values(
            minus_zero_is_zero_to_sqlite=("-0.0", "0"),
            denormal=("5e-324", "5e-324"),
            last_denormal=("2.225073858507201e-308", "2.225073858507201e-308"),
            largest=("1.7976931348623157e308", "1.7976931348623157e+308"),
            infinite=("9e999", "Infinity"),
            minus_infinite=("-9e999", "-Infinity"),
            not_a_number_is_null=("9e999 - 9e999", None),
            exponent_from_fifteen=("1e15", "1e+15"),
            whole=("3", "3"),
            integer_beyond_a_double=("9007199254740993", "9.007199254740992e+15"),
            text=("'NaN'", "!wrong-type"),
            bytes=("x'3f'", "!wrong-type"),
        ),
    ),
    "truth": Sort(
        "BOOLEAN",
        "1",
        b"1",
        values(
            zero=("0", "0"),
            two=("2", "!wrong-type"),
            minus_one=("-1", "!wrong-type"),
            letter=("'t'", "1"),
            word=("'FALSE'", "0"),
            yes=("'yes'", "!wrong-type"),
            digit_as_text=("'1'", "1"),
            whole_real=("1.0", "1"),
            half=("0.5", "!wrong-type"),
            empty=("''", "!wrong-type"),
            byte=("x'01'", "!wrong-type"),
        ),
    ),
    "word": Sort("BOOLEAN", "0", b"false", values(true=("1", "true")), "as: word"),
    "text": Sort(
        "TEXT",
        "'good'",
        b"good",
        values(
            empty=("''", ""),
            null_word=("'NULL'", "NULL"),
            nothing=("NULL", None),
            emoji=("'👩‍🚀'", "👩‍🚀"),
            composed=("char(233)", "\u00e9"),
            decomposed=("'e' || char(769)", "e\u0301"),
            nul=("'a' || char(0) || 'b'", "a\0b"),
            only_nul=("char(0)", "\0"),
            byte_order_mark=("char(65279) || 'a'", "\ufeffa"),
            last_character=("char(1114111)", "\U0010ffff"),
            no_character=("char(65535)", "\uffff"),
            right_to_left=("char(8238) || 'abc'", "\u202eabc"),
            line_ends=("char(13) || char(10) || char(8232)", "\r\n\u2028"),
            blanks=("'  a  '", "  a  "),
            quotes=("'it''s \"%s\" :x $1 \\'", 'it\'s "%s" :x $1 \\'),
            integer=("5", "5"),
            real=("1.5", "1.5"),
            million=(f"replace(hex(zeroblob({len(LONG) // 2})), '0', 'x')", LONG),
            over_large=("replace(hex(zeroblob(4500000)), '0', 'x')", "!too-large"),
            bytes=("x'4142'", "!wrong-type"),
            no_utf_8=(BAD, "!invalid-utf8"),
            lone_surrogate=("CAST(x'eda080' AS TEXT)", "!invalid-utf8"),
            surrogate_pair=("CAST(x'eda0bdedb880' AS TEXT)", "!invalid-utf8"),
            overlong=("CAST(x'c080' AS TEXT)", "!invalid-utf8"),
            half_an_emoji=("CAST(x'f09f98' AS TEXT)", "!invalid-utf8"),
            beyond_unicode=("CAST(x'f4908080' AS TEXT)", "!invalid-utf8"),
        ),
    ),
    "limited": Sort(
        "VARCHAR(3)",
        "'abc'",
        b"abc",
        values(longer=("'longer'", "longer"), blanks=("'a  '", "a  ")),
    ),
    "padded": Sort("CHAR(5)", "'abcde'", b"abcde", values(short=("'a'", "a"))),
    "masked": Sort(
        "TEXT",
        "'good'",
        _sha("good").encode(),
        values(
            empty=("''", _sha("")),
            accent=("'é'", _sha("é")),
            nothing=("NULL", None),
            no_utf_8=(BAD, "!invalid-utf8"),
        ),
        "mask: sha256",
    ),
    "masked_time": Sort(
        "DATETIME",
        "'2024-01-01'",
        _sha("2024-01-01T00:00:00").encode(),
        values(no_day=("'2024-02-30'", "!bad-date")),
        "mask: sha256",
    ),
    "binary": Sort(
        "BLOB",
        "x'00ff'",
        b"\x00\xff",
        values(
            none=("x''", b""),
            no_utf_8=("x'fffe80'", b"\xff\xfe\x80"),
            text=("'abc'", "!wrong-type"),
            integer=("5", "!wrong-type"),
            real=("5.5", "!wrong-type"),
        ),
    ),
    "base64": Sort("BLOB", "x'00ff'", b"AP8=", values(none=("x''", "")), "as: base64"),
    "hex": Sort(
        "VARBINARY(2)", "x'00ff'", b"00ff", values(longer=("x'C0FFEE'", "c0ffee")), "as: hex"
    ),
    "day": Sort(
        "DATE",
        "'2024-02-29'",
        b"2024-02-29",
        values(
            first=("'0001-01-01'", "0001-01-01"),
            last=("'9999-12-31'", "9999-12-31"),
            no_leap_year=("'2023-02-29'", "!bad-date"),
            zeros=("'0000-00-00'", "!bad-date"),
            short=("'2024-1-5'", "!bad-date"),
            with_a_clock=("'2024-02-29 10:00:00'", "!bad-date"),
            digits_are_an_integer=("'20200101'", "!wrong-type"),
            julian=("2451545.5", "!wrong-type"),
            epoch=("0", "!wrong-type"),
            five_digits=("'10000-01-01'", "!bad-date"),
            before_christ=("'-0044-03-15'", "!bad-date"),
            infinite=("'infinity'", "!bad-date"),
            week=("'2024-W01-1'", "!bad-date"),
            empty=("''", "!bad-date"),
            nul=("'2024-02-29' || char(0)", "!bad-date"),
            other_digits=("'２０２４-02-29'", "!bad-date"),
        ),
    ),
    "day_text": Sort(
        "DATE",
        "'2024-02-29'",
        b"2024-02-29",
        values(
            german=("'31.12.1999'", "31.12.1999"),
            zeros=("'0000-00-00'", "0000-00-00"),
            epoch=("86400", "86400"),
            julian=("2451545.5", "2451545.5"),
            bytes=("x'00'", "!wrong-type"),
            no_utf_8=(BAD, "!invalid-utf8"),
        ),
        "as: text",
    ),
    "clock": Sort(
        "TIME",
        "'09:30:00'",
        b"09:30:00",
        values(
            minutes=("'09:30'", "09:30:00"),
            zeros_behind=("'09:30:00.250'", "09:30:00.25"),
            last=("'23:59:59.999999'", "23:59:59.999999"),
            end_of_day=("'24:00:00'", "!bad-time"),
            leap_second=("'23:59:60'", "!bad-time"),
            one_digit=("'9:30'", "!bad-time"),
            zone=("'12:00:00Z'", "!zone-present"),
            too_fine=("'12:00:00.1234567'", "!too-precise"),
            seconds=("34200", "!wrong-type"),
            empty=("''", "!bad-time"),
        ),
    ),
    "moment": Sort(
        "DATETIME",
        "'2024-03-01 09:30:00'",
        b"2024-03-01T09:30:00",
        values(
            day=("'2024-03-01'", "2024-03-01T00:00:00"),
            letter=("'2024-03-01T09:30:00.500'", "2024-03-01T09:30:00.5"),
            six_zeros=("'2024-03-01 09:30:00.000000'", "2024-03-01T09:30:00"),
            hour_of_no_clock=("'2024-03-31 02:30:00'", "2024-03-31T02:30:00"),
            first=("'0001-01-01 00:00:00'", "0001-01-01T00:00:00"),
            last=("'9999-12-31 23:59:59.999999'", "9999-12-31T23:59:59.999999"),
            year_zero=("'0000-01-01 00:00:00'", "!bad-date"),
            no_day=("'2024-02-30 00:00:00'", "!bad-date"),
            end_of_day=("'2024-03-01 24:00:00'", "!bad-date"),
            leap_second=("'2016-12-31 23:59:60'", "!bad-date"),
            zone=("'2024-03-01T09:30:00Z'", "!zone-present"),
            epoch=("1709285400", "!wrong-type"),
            now=("'now'", "!bad-date"),
            nanoseconds=("'2024-03-01 09:30:00.123456789'", "!too-precise"),
        ),
    ),
    "milliseconds": Sort(
        "TIMESTAMP",
        "'1970-01-01 00:00:00'",
        b"0",
        values(
            before=("'1969-12-31 23:59:59.999'", "-1"),
            behind=("'1970-01-01 00:00:00.001'", "1"),
            finer=("'1970-01-01 00:00:00.0005'", "!precision-lost"),
        ),
        "as: epoch_ms",
    ),
    "seconds": Sort(
        "TIMESTAMP",
        "'1970-01-01'",
        b"0",
        values(
            first=("'0001-01-01'", "-62135596800"),
            half=("'1970-01-01 00:00:00.5'", "!precision-lost"),
        ),
        "as: epoch_s",
    ),
    "microseconds": Sort(
        "TIMESTAMPTZ",
        "'1970-01-01 00:00:00+00'",
        b"0",
        values(last=("'9999-12-31 23:59:59.999999Z'", "253402300799999999")),
        "as: epoch_us",
    ),
    "instant": Sort(
        "TIMESTAMP WITH TIME ZONE",
        "'2024-01-01 00:00:00+00:00'",
        b"2024-01-01T00:00:00Z",
        values(
            before_the_hour_is_lost=("'2024-03-31 01:59:59+01'", "2024-03-31T00:59:59Z"),
            first_of_two=("'2024-10-27 02:30:00+02:00'", "2024-10-27T00:30:00Z"),
            second_of_two=("'2024-10-27 02:30:00+01:00'", "2024-10-27T01:30:00Z"),
            letter=("'2024-01-01T00:00:00.120Z'", "2024-01-01T00:00:00.12Z"),
            no_zone=("'2024-01-01 00:00:00'", "!zone-missing"),
            day=("'2024-01-01'", "!zone-missing"),
            before_year_one=("'0001-01-01 00:00:00+14:00'", "!bad-date"),
            behind_the_last_year=("'9999-12-31 23:59:59-01:00'", "!bad-date"),
            no_such_offset=("'2024-01-01 00:00:00+25:00'", "!bad-date"),
            offset_with_seconds=("'1890-01-01 00:00:00+00:53:28'", "!bad-date"),
            no_day=("'2023-02-29 00:00:00+00:00'", "!bad-date"),
        ),
    ),
    "document": Sort(
        "JSON",
        """'{"a": 1}'""",
        b'{"a": 1}',
        values(
            order_and_repeats=(
                """'{"b": 1.10, "a": 1e2, "b": null}'""",
                '{"b": 1.10, "a": 1e2, "b": null}',
            ),
            escaped_nul=("""'{"a": "\\u0000"}'""", '{"a": "\\u0000"}'),
            escaped_half=("""'"\\ud800"'""", '"\\ud800"'),
            null=("'null'", "null"),
            nothing=("NULL", None),
            blanks=("' [ 1 ] '", " [ 1 ] "),
            number_is_a_number=("'1.10'", "1.1"),
            no_json=("'{a'", "{a"),
            bytes=("x'7b7d'", "!wrong-type"),
            no_utf_8=(BAD, "!invalid-utf8"),
        ),
    ),
    "identity": Sort(
        "UUID",
        "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'",
        b"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
        values(
            capitals=(
                "'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'",
                "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11",
            ),
            digits_are_a_number=("'12345678901234567890123456789012'", "!wrong-type"),
            bytes=("x'a0eebc999c0b4ef8bb6d6bb9bd380a11'", "!wrong-type"),
        ),
    ),
    "anything": Sort(
        "",
        "'good'",
        b"good",
        values(
            integer=("5", "5"),
            real=("5.0", "5.0"),
            minus_zero=("-0.0", "-0.0"),
            infinite=("9e999", "Infinity"),
            number_as_text=("'5'", "!ambiguous"),
            infinity_as_text=("'Infinity'", "!ambiguous"),
            bytes=("x'00'", "!wrong-type"),
            empty=("''", ""),
        ),
    ),
}

ROWS = "CREATE TABLE § (id INTEGER PRIMARY KEY, v TEXT); INSERT INTO § VALUES (1, 'a')"

DUE = b"2024-01-01T00:00:00"

SCHEMAS: dict[str, Schema | Refused] = {
    # --- keys that are moved ---
    "ids with gaps and signs": Schema(
        "CREATE TABLE § (id INTEGER PRIMARY KEY); INSERT INTO § VALUES (-9223372036854775808), "
        "(-5), (0), (1), (1000), (9223372036854775807)",
        {str(n): {"id": b"%d" % n} for n in (-(2**63), -5, 0, 1, 1000, 2**63 - 1)},
    ),
    "no rows": Schema("CREATE TABLE § (id INTEGER PRIMARY KEY)"),
    "a key of two columns": Schema(
        "CREATE TABLE § (a TEXT NOT NULL, b INT NOT NULL, PRIMARY KEY (a, b));"
        "INSERT INTO § VALUES ('a:b', 1), ('a', 2), ('a', -1), ('', 0), ('%', 0), ('b', 1)",
        {
            "a%3Ab:1": {"a": b"a:b", "b": b"1"},
            "a:2": {"a": b"a", "b": b"2"},
            "a:-1": {"a": b"a", "b": b"-1"},
            ":0": {"a": b"", "b": b"0"},
            "%25:0": {"a": b"%", "b": b"0"},
            "b:1": {"a": b"b", "b": b"1"},
        },
        source="key: [a, b]",
        key="§:{a}:{b}",
    ),
    "a table without rowid": Schema(
        "CREATE TABLE § (id TEXT PRIMARY KEY, v) WITHOUT ROWID; INSERT INTO § VALUES ('b', 1), "
        "('a', 2), ('C', 3)",
        {"a": {"id": b"a", "v": b"2"}, "b": {"id": b"b", "v": b"1"}, "C": {"id": b"C", "v": b"3"}},
    ),
    "a strict table": Schema(
        "CREATE TABLE § (id INTEGER PRIMARY KEY, v TEXT) STRICT; INSERT INTO § VALUES (1, 5)",
        {"1": {"id": b"1", "v": b"5"}},
    ),
    "a key that tells no case apart": Schema(
        "CREATE TABLE § (id TEXT COLLATE NOCASE PRIMARY KEY); INSERT INTO § VALUES ('b'), ('A'), "
        "('a1'), ('B1'), ('ä'), ('Ä')",
        {k: {"id": k.encode()} for k in ("b", "A", "a1", "B1", "ä", "Ä")},
    ),
    "a key whose blanks do not count": Schema(
        "CREATE TABLE § (id TEXT COLLATE RTRIM PRIMARY KEY); INSERT INTO § VALUES ('a '), ('b'), "
        "(' a'), ('c')",
        {
            "a%20": {"id": b"a "},
            "b": {"id": b"b"},
            "%20a": {"id": b" a"},
            "c": {"id": b"c"},
        },
    ),
    "forms of one letter are two keys": Schema(
        "CREATE TABLE § (id TEXT PRIMARY KEY);INSERT INTO § VALUES (char(233)), ('e' || char(769))",
        {"\u00e9": {"id": "\u00e9".encode()}, "e\u0301": {"id": "e\u0301".encode()}},
    ),
    "uuids in either case are two keys": Schema(
        "CREATE TABLE § (id UUID PRIMARY KEY); INSERT INTO § VALUES ('a0eebc99-9c0b-4ef8-bb6d-"
        "6bb9bd380a11'), ('A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'), ('f47ac10b-58cc-4372-a567-"
        "0e02b2c3d479')",
        {
            k: {"id": k.encode()}
            for k in (
                "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
                "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11",
                "f47ac10b-58cc-4372-a567-0e02b2c3d479",
            )
        },
    ),
    "keys with a NUL and a line end": Schema(
        "CREATE TABLE § (id TEXT PRIMARY KEY); INSERT INTO § VALUES ('a' || char(0)), ('a'), "
        "('a' || char(10)), ('a' || char(0) || 'b')",
        {
            "a%00": {"id": b"a\0"},
            "a": {"id": b"a"},
            "a%0A": {"id": b"a\n"},
            "a%00b": {"id": b"a\0b"},
        },
    ),
    "days as keys": Schema(
        "CREATE TABLE § (id DATE PRIMARY KEY); INSERT INTO § VALUES ('2024-02-29'), "
        "('0001-01-01'), ('2023-02-29')",
        {"2024-02-29": {"id": b"2024-02-29"}, "0001-01-01": {"id": b"0001-01-01"}},
        (("id", "bad-date"),),
    ),
    "one moment in four spellings": Schema(
        "CREATE TABLE § (id DATETIME PRIMARY KEY); INSERT INTO § VALUES ('2024-01-01'), "
        "('2024-01-01 00:00:00'), ('2024-01-01T00:00:00'), ('2024-01-01 00:00:00.000000'), "
        "('2024-01-01 00:00:00.5')",
        {
            "2024-01-01T00%3A00%3A00": {"id": DUE},
            "2024-01-01T00%3A00%3A00.5": {"id": DUE + b".5"},
        },
        (("id", "ambiguous"),) * 3,
    ),
    "one time of day in two spellings": Schema(
        "CREATE TABLE § (id TIME PRIMARY KEY); INSERT INTO § VALUES ('09:30'), ('09:30:00'), "
        "('09:30:00.50')",
        {"09%3A30%3A00": {"id": b"09:30:00"}},
        (("id", "ambiguous"),) * 2,
    ),
    "one instant in two zones": Schema(
        "CREATE TABLE § (id TIMESTAMPTZ PRIMARY KEY); INSERT INTO § VALUES "
        "('2024-01-01 00:00:00+00:00'), ('2024-01-01 01:00:00+01:00'), ('2024-01-01T00:00:00Z')",
        {"2024-01-01T00%3A00%3A00Z": {"id": DUE + b"Z"}},
        (("id", "ambiguous"),) * 2,
    ),
    "decimals as keys": Schema(
        "CREATE TABLE § (id DECIMAL(9,2) PRIMARY KEY); INSERT INTO § VALUES (1), (-2), (2.5)",
        {"1.00": {"id": b"1.00"}, "-2.00": {"id": b"-2.00"}},
        (("id", "wrong-type"),),
    ),
    "what is no integer in a key": Schema(
        "CREATE TABLE § (id INT NOT NULL PRIMARY KEY); INSERT INTO § VALUES (1), ('abc'), (2.5), "
        f"({BAD}), (9), (9e999), (-9e999)",
        {"1": {"id": b"1"}, "9": {"id": b"9"}},
        (
            ("id", "wrong-type"),
            ("id", "wrong-type"),
            ("id", "wrong-type"),
            ("id", "wrong-type"),
            ("id", "invalid-utf8"),
        ),
    ),
    "keys that are no UTF-8": Schema(
        f"CREATE TABLE § (id TEXT PRIMARY KEY); INSERT INTO § VALUES ('a'), ({BAD}), "
        "(CAST(x'fe' AS TEXT)), ('z'), (CAST(x'ff42' AS TEXT))",
        {"a": {"id": b"a"}, "z": {"id": b"z"}},
        (("id", "invalid-utf8"),) * 3,
    ),
    "a key of 512 bytes and one more": Schema(
        "CREATE TABLE § (id TEXT PRIMARY KEY); INSERT INTO § VALUES ('a'), "
        "(substr(hex(zeroblob(400)), 1, 507)), (substr(hex(zeroblob(400)), 1, 508)), ('b')",
        {"a": {"id": b"a"}, "b": {"id": b"b"}, "0" * 507: {"id": b"0" * 507}},
        (("id", "key-too-long"),),
    ),
    "a key of another unique index": Schema(
        "CREATE TABLE § (id INTEGER PRIMARY KEY, mail TEXT NOT NULL UNIQUE);"
        "INSERT INTO § VALUES (1, 'b@x'), (2, 'a@x')",
        {"b@x": {"id": b"1", "mail": b"b@x"}, "a@x": {"id": b"2", "mail": b"a@x"}},
        source="key: [mail]",
        key="§:{mail}",
    ),
    # --- names ---
    "reserved words": Schema(
        'CREATE TABLE "§ select" (id INTEGER PRIMARY KEY, "order" TEXT, "group" TEXT);'
        "INSERT INTO \"§ select\" VALUES (1, 'a', 'b')",
        {"1": {"id": b"1", "order": b"a", "group": b"b"}},
        table="'\"§ select\"'",
    ),
    "signs in names": Schema(
        'CREATE TABLE "§ %s:x$1.é" (id INTEGER PRIMARY KEY, "100%" TEXT, ":x" TEXT, "it\'s" TEXT, '
        '"q""q" TEXT, "back\\slash" TEXT, "$1" TEXT, "tick`" TEXT, "ünï 😀" TEXT, "?" TEXT);'
        'INSERT INTO "§ %s:x$1.é" VALUES (1, 1, 2, 3, 4, 5, 6, 7, 8, 9)',
        {
            "1": {
                "id": b"1",
                "100%": b"1",
                ":x": b"2",
                "it's": b"3",
                'q"q': b"4",
                "back\\slash": b"5",
                "$1": b"6",
                "tick`": b"7",
                "ünï 😀": b"8",
                "?": b"9",
            }
        },
        table="'\"§ %s:x$1.é\"'",
    ),
    "signs in a key's name": Schema(
        "CREATE TABLE § (\"a b%s\" TEXT PRIMARY KEY); INSERT INTO § VALUES ('x'), ('y'), ('z')",
        {k: {"a b%s": k.encode()} for k in "xyz"},
        source="key: ['a b%s']",
        key="§:{a b%s}",
    ),
    "a long name": Schema(
        f"CREATE TABLE § (id INTEGER PRIMARY KEY, {'c' * 128} TEXT); INSERT INTO § VALUES (1, 2)",
        {"1": {"id": b"1", "c" * 128: b"2"}},
    ),
    "a column in capitals": Schema(
        "CREATE TABLE § (ID INTEGER PRIMARY KEY, Name TEXT); INSERT INTO § VALUES (1, 'a')",
        {"1": {"Name": b"a"}},
        source="key: [ID]",
        key="§:{ID}",
        more="fields: {Name: {}}",
    ),
    # --- columns ---
    "generated columns": Schema(
        "CREATE TABLE § (id INTEGER PRIMARY KEY, a INT, b INT AS (a * 2) STORED, "
        "c TEXT AS ('v' || a)); INSERT INTO § (id, a) VALUES (1, 21)",
        {"1": {"id": b"1", "a": b"21", "b": b"42", "c": b"v21"}},
    ),
    "a thousand columns": Schema(
        f"CREATE TABLE § (id INTEGER PRIMARY KEY, {', '.join(f'c{n}' for n in range(1_000))});"
        f"INSERT INTO § (id, c0, c999) VALUES (1, 'a', 'b')",
        {"1": {"id": b"1", "c0": b"a", "c999": b"b"}},
    ),
    "a filter": Schema(
        "CREATE TABLE § (id INTEGER PRIMARY KEY, v TEXT); INSERT INTO § VALUES (1, 'it''s :x %s'), "
        "(2, 'b'), (3, NULL)",
        {"1": {"id": b"1", "v": b"it's :x %s"}},
        source="key: [id], where: \"v = 'it''s :x %s'\"",
    ),
    "a filter over bytes that are no text": Schema(
        "CREATE TABLE § (id INTEGER PRIMARY KEY, v TEXT);"
        f"INSERT INTO § VALUES (1, 'a'), (2, {BAD})",
        {"1": {"id": b"1", "v": b"a"}},
        source="key: [id], where: \"v = 'a'\"",
    ),
    # --- records of text, children ---
    "a string record": Schema(
        "CREATE TABLE § (id INTEGER PRIMARY KEY, a TEXT, b REAL, c BLOB, d JSON);"
        "INSERT INTO § VALUES (1, 'é\"' || char(0), -0.0, x'00ff', '{\"x\": 1.10}'), "
        "(2, NULL, 9e999, NULL, NULL)",
        {
            "1": {"": b'"a":"\xc3\xa9\\"\\u0000","b":0,"c":"AP8=","d":{"x": 1.10},"id":1'},
            "2": {"": b'"b":"Infinity","id":2'},
        },
        type="string",
    ),
    "JSON that is none inside of JSON": Schema(
        "CREATE TABLE § (id INTEGER PRIMARY KEY, d JSON); INSERT INTO § VALUES (1, '[1]'), "
        "(2, '{a'), (3, '[NaN]'), (4, '[2]'), (5, '[1,]'), (6, '')",
        {"1": {"": b'"d":[1],"id":1'}, "4": {"": b'"d":[2],"id":4'}},
        (("d", "invalid-json"),) * 4,
        type="string",
    ),
    "JSON of 101 levels inside of JSON": Schema(
        "CREATE TABLE § (id INTEGER PRIMARY KEY, d JSON);"
        f"INSERT INTO § VALUES (1, '{'[' * 100 + ']' * 100}'), (2, '{'[' * 101 + ']' * 101}'), "
        f"(3, '{'[' * 5_000 + ']' * 5_000}'), (4, '1')",
        {
            "1": {"": f'"d":{"[" * 100 + "]" * 100},"id":1'.encode()},
            "4": {"": b'"d":1,"id":4'},
        },
        (("d", "json-too-deep"),) * 2,
        type="string",
    ),
    "a child that is no UTF-8": Schema(
        "CREATE TABLE § (id INTEGER PRIMARY KEY); CREATE TABLE §_child (id INTEGER PRIMARY KEY, "
        "parent INT, v TEXT, n INTEGER); INSERT INTO § VALUES (1), (2), (3), (4);"
        f"INSERT INTO §_child VALUES (1, 1, 'a', 1), (2, 2, 'b', 2), (3, 2, {BAD}, 3), "
        "(4, 3, NULL, 9223372036854775807), (5, 4, 'd', 'x')",
        {
            "1": {"id": b"1", "list": b'[{"n":1,"v":"a"}]'},
            "3": {"id": b"3", "list": b'[{"n":9223372036854775807}]'},
        },
        (("list.v", "invalid-utf8"), ("list.n", "wrong-type")),
        more="children: {list: {table: §_child, join: {parent: id}, columns: [v, n]}}",
    ),
    "children with nothing, NULL and NUL": Schema(
        "CREATE TABLE § (id INTEGER PRIMARY KEY); CREATE TABLE §_child (id INTEGER PRIMARY KEY, "
        "parent INT, v TEXT); INSERT INTO § VALUES (1), (2), (3); INSERT INTO §_child VALUES "
        "(1, 1, NULL), (2, 1, ''), (3, 1, 'a' || char(0)), (4, NULL, 'orphan'), (5, 9, 'orphan')",
        {
            "1": {"id": b"1", "list": b'[null,"","a\\u0000"]'},
            "2": {"id": b"2", "list": b"[]"},
            "3": {"id": b"3", "list": b"[]"},
        },
        more="children: {list: {table: §_child, join: {parent: id}, column: v}}",
    ),
    # --- refused ---
    "a key of floats": keyed("REAL"),
    "a key of bytes": keyed("BLOB"),
    "a key without a type": keyed(""),
    "a key of truth values": keyed("BOOLEAN"),
    "a key of JSON": keyed("JSON"),
    "nothing unique": Refused("CREATE TABLE § (id INT NOT NULL)", "key-not-unique"),
    "a view": Refused(
        f"{ROWS.replace('§', '§_t')}; CREATE VIEW § AS SELECT * FROM §_t", "key-not-unique"
    ),
    "unique in part of the rows": Refused(
        "CREATE TABLE § (id INT NOT NULL, v); CREATE UNIQUE INDEX §_i ON § (id) WHERE v > 1",
        "key-not-unique",
    ),
    "a unique expression": Refused(
        "CREATE TABLE § (id TEXT NOT NULL); CREATE UNIQUE INDEX §_i ON § (lower(id))",
        "key-not-unique",
    ),
    "unique by a finer order": Refused(
        "CREATE TABLE § (id TEXT NOT NULL COLLATE NOCASE);"
        "CREATE UNIQUE INDEX §_i ON § (id COLLATE BINARY)",
        "key-not-unique",
    ),
    "half of a key": Refused(
        "CREATE TABLE § (id INT NOT NULL, b INT NOT NULL, PRIMARY KEY (id, b))", "key-not-unique"
    ),
    "NULL in a unique key": Refused(
        "CREATE TABLE § (a INT, b INT, UNIQUE (a, b)); INSERT INTO § VALUES (1, 1), (1, NULL), "
        "(1, NULL), (NULL, 1), (NULL, NULL)",
        code="checks-failed",
        source="key: [a, b]",
        key="§:{a}:{b}",
    ),
    "NULL in a primary key": Refused(
        "CREATE TABLE § (id TEXT PRIMARY KEY); INSERT INTO § VALUES (NULL), ('a')",
        code="checks-failed",
    ),
    "bytes in a key of text": Refused(
        "CREATE TABLE § (id TEXT PRIMARY KEY); INSERT INTO § VALUES ('a'), (x'61')",
        code="checks-failed",
    ),
    "a column of a reserved name": Refused(
        "CREATE TABLE § (id INTEGER PRIMARY KEY, _v TEXT)", "reserved-field"
    ),
    "no such table": Refused("", "missing-table"),
    "no such column": typed("TEXT", "missing-column", more="fields: {w: {}}"),
    "a column in another case": typed("TEXT", "missing-column", more="fields: {V: {}}"),
    "no such column in a filter": typed(
        "INT", "missing-column", source='key: [id], where: "w = 1"'
    ),
    "a form of another type": typed("TEXT", "wrong-form", more="fields: {v: {as: epoch_ms}}"),
    "text of bytes": typed("BLOB", "wrong-form", more="fields: {v: {as: text}}"),
    "an unknown form": typed(
        "TEXT", "unknown-form", code="invalid-file", more="fields: {v: {as: iso}}"
    ),
    "an unknown mask": typed(
        "TEXT", "unknown-mask", code="invalid-file", more="fields: {v: {mask: md5}}"
    ),
    "a masked key": Refused(
        ROWS, "key-masked", code="invalid-file", more="fields: {id: {mask: sha256}}"
    ),
    "a dropped key": Refused(
        ROWS, "key-dropped", code="invalid-file", more="fields: {id: {drop: true}, v: {}}"
    ),
    "a function in a filter": Refused(
        ROWS, "where", code="invalid-file", source='key: [id], where: "lower(v) = 1"'
    ),
    "a column in two fields": Refused(
        ROWS, "column-twice", code="invalid-file", more="fields: {v: {}, w: {column: v}}"
    ),
    "a quote in a table's name": Refused(ROWS, "identifier", code="invalid-file", table='"§\'x"'),
    "a template without a prefix": Refused(ROWS, "key-template", code="invalid-file", key="{id}:x"),
    "a join by floats": Refused(
        f"{ROWS}; CREATE TABLE §_child (id INTEGER PRIMARY KEY, parent REAL, v TEXT)",
        "join-type",
        more="children: {list: {table: §_child, join: {parent: id}, column: v}}",
    ),
    "a join by half of the key": Refused(
        f"{ROWS}; CREATE TABLE §_child (id INTEGER PRIMARY KEY, parent TEXT, v TEXT)",
        "join-key",
        more="children: {list: {table: §_child, join: {parent: v}, column: v}}",
    ),
    "JSON that may be NULL in a list": Refused(
        f"{ROWS}; CREATE TABLE §_child (id INTEGER PRIMARY KEY, parent INT, v JSON)",
        "json-null",
        more="children: {list: {table: §_child, join: {parent: id}, column: v}}",
    ),
    "children in the order of JSON": Refused(
        f"{ROWS}; CREATE TABLE §_child (id INTEGER PRIMARY KEY, parent INT, v JSON)",
        "order-type",
        more="children: {list: {table: §_child, join: {parent: id}, order_by: [v], columns: [v]}}",
    ),
    "a collection named as a column": Refused(
        f"{ROWS}; CREATE TABLE §_child (id INTEGER PRIMARY KEY, parent INT, v TEXT)",
        "field-twice",
        more="children: {v: {table: §_child, join: {parent: id}, column: v}}",
    ),
}

FIVE = (
    "CREATE TABLE § (id INTEGER PRIMARY KEY, v TEXT);"
    "INSERT INTO § VALUES (1, 'a'), (2, 'b'), (3, 'c'), (4, 'd'), (5, 'e')"
)

GONE = "A table or column of the source is not there any more"

DRIFTS: dict[str, Drift] = {
    "a column is added": Drift(FIVE, "ALTER TABLE § ADD COLUMN w TEXT", "column 'w' is new"),
    "a column is dropped": Drift(FIVE, "ALTER TABLE § DROP COLUMN v", GONE),
    "a column is renamed": Drift(FIVE, "ALTER TABLE § RENAME COLUMN v TO w", GONE),
    "a column is of another type": Drift(
        FIVE,
        "ALTER TABLE § RENAME TO §_old; CREATE TABLE § (id INTEGER PRIMARY KEY, v INTEGER);"
        "INSERT INTO § SELECT id, 7 FROM §_old",
        "column 'v' was TEXT and is INTEGER",
    ),
    "a column is made anew": Drift(
        "CREATE TABLE § (id INTEGER PRIMARY KEY, v TEXT, w TEXT);"
        "INSERT INTO § VALUES (1, 'a', 'x'), (2, 'b', 'x'), (3, 'c', 'x'), (4, 'd', 'x'), "
        "(5, 'e', 'x')",
        "ALTER TABLE § DROP COLUMN v; ALTER TABLE § ADD COLUMN v TEXT DEFAULT 'wrong'",
        "is another one than before",
    ),
    "the table is gone": Drift(FIVE, "DROP TABLE §", GONE),
    "the table is a view": Drift(
        FIVE,
        "ALTER TABLE § RENAME TO §_old; CREATE VIEW § AS SELECT id, v FROM §_old",
        # A view has neither key nor NOT NULL.
        "column 'id' became NULL",
    ),
    "an index is added": Drift(FIVE, "CREATE INDEX §_v ON § (v)", cells=("c", "d", "e")),
    "another table is added": Drift(FIVE, "CREATE TABLE §_other (x)", cells=("c", "d", "e")),
    "rows are changed": Drift(
        FIVE, "UPDATE § SET v = 'new' WHERE id > 3; DELETE FROM § WHERE id = 5", cells=("c", "new")
    ),
}
