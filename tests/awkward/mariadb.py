"""
What MariaDB keeps where it is not strict, and how its tables can be made.
"""

from __future__ import annotations

from hashlib import sha256

from tests.awkward.cases import Drift, Refused, Schema, Sort, keyed, typed, values

LONG = "x" * 1_000_000
UUID = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"


def _sha(text: str) -> str:
    return sha256(text.encode()).hexdigest()


# The tests' own session is not strict: whatever a server ever took can be written.
SORTS: dict[str, Sort] = {
    "tiny": Sort(
        "tinyint", "7", b"7", values(smallest=("-128", "-128"), cut_by_the_server=("300", "127"))
    ),
    "two_digits": Sort("tinyint(2)", "1", b"1", values(two=("2", "2"))),
    "medium": Sort("mediumint unsigned", "7", b"7", values(largest=("16777215", "16777215"))),
    "large": Sort(
        "bigint",
        "7",
        b"7",
        values(
            largest=("9223372036854775807", "9223372036854775807"),
            smallest=("-9223372036854775808", "-9223372036854775808"),
            beyond_a_double=("9007199254740993", "9007199254740993"),
            nothing=("NULL", None),
        ),
    ),
    "unsigned_": Sort(
        "bigint unsigned",
        "7",
        b"7",
        values(largest=("18446744073709551615", "18446744073709551615"), zero=("-5", "0")),
    ),
    "zeros": Sort("int(8) zerofill", "42", b"42", values(nothing_else=("0", "0"))),
    "truth": Sort(
        "tinyint(1)",
        "1",
        b"1",
        values(
            no=("FALSE", "0"),
            two=("2", "!wrong-type"),
            minus_one=("-1", "!wrong-type"),
            word=("'yes'", "0"),
            nothing=("NULL", None),
        ),
    ),
    "word": Sort(
        "boolean", "TRUE", b"true", values(no=("0", "false"), two=("2", "!wrong-type")), "as: word"
    ),
    "truth_text": Sort(
        "boolean", "1", b"1", values(two=("2", "2"), minus_one=("-1", "-1")), "as: text"
    ),
    "amount": Sort(
        "decimal(10,2)",
        "1.5",
        b"1.50",
        values(
            whole=("10", "10.00"),
            power=("1e5", "100000.00"),
            cut_by_the_server=("1e9", "99999999.99"),
        ),
    ),
    "widest": Sort(
        "decimal(65,0)",
        "1",
        b"1",
        values(sixty_five_digits=("9" * 65, "9" * 65), negative=(f"-{'9' * 65}", f"-{'9' * 65}")),
    ),
    "finest": Sort(
        "decimal(65,30)", "1", b"1." + b"0" * 30, values(last=("-1e-30", f"-0.{'0' * 29}1"))
    ),
    "no_whole": Sort("decimal(3,3)", "0.5", b"0.500", values(zero=("0", "0.000"))),
    "filled_amount": Sort("decimal(8,2) zerofill", "2.5", b"2.50", values(zero=("0", "0.00"))),
    "single": Sort(
        "float",
        "0.1",
        b"0.1",
        values(
            seven_digits=("16777217", "1.6777216e+07"),
            denormal=("1.4e-45", "1e-45"),
            largest=("3.4028234663852886e38", "3.4028235e+38"),
            million=("1234567.8", "1.2345678e+06"),
        ),
    ),
    # Before 11 the server itself prints no sign of a zero, and mostly keeps none.
    "signed_zero": Sort("float", "-0e0", b"-0", values(zero=("0", "0")), since=1108),
    "long_signed_zero": Sort("double", "-0e0", b"-0", values(zero=("0", "0")), since=1108),
    "places": Sort("float(7,2)", "1.5", b"1.5", values(rounded=("1234.567", "1234.57"))),
    "real_": Sort(
        "double",
        "0.5",
        b"0.5",
        values(
            seventeen_digits=("0.1e0 + 0.2e0", "0.30000000000000004"),
            denormal=("5e-324", "5e-324"),
            largest=("1.7976931348623157e308", "1.7976931348623157e+308"),
            exponent_from_fifteen=("1e15", "1e+15"),
            plain_below=("999999999999999", "999999999999999"),
        ),
    ),
    "bits": Sort("bit(10)", "b'101'", b"0000000101", values(none=("0", "0000000000"))),
    "one_bit": Sort("bit(1)", "b'1'", b"1", values(zero=("0", "0"))),
    "all_bits": Sort(
        "bit(64)", "b'1'", b"0" * 63 + b"1", values(ones=(f"b'{'1' * 64}'", "1" * 64))
    ),
    "year_": Sort(
        "year",
        "2024",
        b"2024",
        values(none=("'0000'", "0"), first=("1901", "1901"), last=("2155", "2155")),
    ),
    "day": Sort(
        "date",
        "'2024-02-29'",
        b"2024-02-29",
        values(
            zeros=("'0000-00-00'", "!bad-date"),
            no_day=("'2024-02-00'", "!bad-date"),
            no_month=("'2024-00-10'", "!bad-date"),
            february=("'2024-02-31'", "!bad-date"),
            no_leap_year=("'2023-02-29'", "!bad-date"),
            year_zero=("'0000-01-01'", "!bad-date"),
            first=("'0001-01-01'", "0001-01-01"),
            last=("'9999-12-31'", "9999-12-31"),
            nonsense=("'abc'", "!bad-date"),
            nothing=("NULL", None),
        ),
    ),
    "day_text": Sort(
        "date",
        "'2024-02-29'",
        b"2024-02-29",
        values(zeros=("'0000-00-00'", "0000-00-00"), february=("'2024-02-31'", "2024-02-31")),
        "as: text",
    ),
    "clock": Sort(
        "time(6)",
        "'09:30'",
        b"09:30:00",
        values(
            last=("'23:59:59.999999'", "23:59:59.999999"),
            zeros_behind=("'09:30:00.25'", "09:30:00.25"),
            end_of_day=("'24:00:00'", "!out-of-range"),
            longest=("'838:59:59.999999'", "!out-of-range"),
            shortest=("'-838:59:59.999999'", "!out-of-range"),
            below_zero=("'-00:00:00.000001'", "!out-of-range"),
            hundred_hours=("'100:00:00'", "!out-of-range"),
        ),
    ),
    "clock_text": Sort(
        "time",
        "'09:30'",
        b"09:30:00",
        values(longest=("'838:59:59'", "838:59:59"), below_zero=("'-00:00:01'", "-00:00:01")),
        "as: text",
    ),
    "moment": Sort(
        "datetime(6)",
        "'2024-03-01 09:30:00'",
        b"2024-03-01T09:30:00",
        values(
            fine=("'2024-03-01 09:30:00.000100'", "2024-03-01T09:30:00.0001"),
            hour_of_no_clock=("'2024-03-31 02:30:00'", "2024-03-31T02:30:00"),
            first=("'0001-01-01 00:00:00'", "0001-01-01T00:00:00"),
            last=("'9999-12-31 23:59:59.999999'", "9999-12-31T23:59:59.999999"),
            zeros=("'0000-00-00 00:00:00'", "!bad-date"),
            february=("'2024-02-31 10:00:00.5'", "!bad-date"),
            no_month=("'2024-00-01 10:00:00'", "!bad-date"),
            nonsense=("'x'", "!bad-date"),
        ),
    ),
    "moment_text": Sort(
        "datetime(3)",
        "'2024-03-01 09:30:00'",
        b"2024-03-01 09:30:00.000",
        values(zeros=("'0000-00-00'", "0000-00-00 00:00:00.000")),
        "as: text",
    ),
    "seconds": Sort(
        "datetime(6)",
        "'1970-01-01'",
        b"0",
        values(
            first=("'0001-01-01'", "-62135596800"),
            half=("'1970-01-01 00:00:00.5'", "!precision-lost"),
            zeros=("'0000-00-00'", "!bad-date"),
        ),
        "as: epoch_s",
    ),
    "milliseconds": Sort(
        "datetime(6)",
        "'1970-01-01'",
        b"0",
        values(
            before=("'1969-12-31 23:59:59.999'", "-1"),
            finer=("'1970-01-01 00:00:00.0005'", "!precision-lost"),
        ),
        "as: epoch_ms",
    ),
    "instant": Sort(
        "timestamp(6) null",
        "'2024-01-01 00:00:00'",
        b"2024-01-01T00:00:00Z",
        values(
            before_the_hour_is_lost=("FROM_UNIXTIME(1711846799)", "2024-03-31T00:59:59Z"),
            behind_it=("FROM_UNIXTIME(1711846800)", "2024-03-31T01:00:00Z"),
            first_of_two=("FROM_UNIXTIME(1729989000)", "2024-10-27T00:30:00Z"),
            second_of_two=("FROM_UNIXTIME(1729992600)", "2024-10-27T01:30:00Z"),
            earliest=("'1970-01-01 00:00:01'", "1970-01-01T00:00:01Z"),
            last=("'2038-01-19 03:14:07.999999'", "2038-01-19T03:14:07.999999Z"),
            zeros=("'0000-00-00 00:00:00'", "!bad-date"),
            nothing=("NULL", None),
        ),
    ),
    "instant_us": Sort(
        "timestamp(6) null",
        "'1970-01-01 00:00:01'",
        b"1000000",
        values(fine=("'1970-01-01 00:00:01.000001'", "1000001"), zeros=("0", "!bad-date")),
        "as: epoch_us",
    ),
    "late": Sort(
        "timestamp null",
        "'2024-01-01'",
        b"2024-01-01T00:00:00Z",
        values(last=("'2106-02-07 06:28:15'", "2106-02-07T06:28:15Z")),
        since=1105,
    ),
    "text_": Sort(
        "varchar(99)",
        "'good'",
        b"good",
        values(
            empty=("''", ""),
            null_word=("'NULL'", "NULL"),
            nothing=("NULL", None),
            emoji=("'👩‍🚀'", "👩‍🚀"),
            composed=("_utf8mb4 X'C3A9'", "\u00e9"),
            decomposed=("_utf8mb4 X'65CC81'", "e\u0301"),
            nul=("CHAR(97,0,98 USING utf8mb4)", "a\0b"),
            byte_order_mark=("_utf8mb4 X'EFBBBF61'", "\ufeffa"),
            last_character=("_utf8mb4 X'F48FBFBF'", "\U0010ffff"),
            right_to_left=("_utf8mb4 X'E280AE616263'", "\u202eabc"),
            line_ends=("CHAR(13,10 USING utf8mb4)", "\r\n"),
            quotes=("'it''s \"%s\" %(x)s :x $1 ? \\'", 'it\'s "%s" %(x)s :x $1 ? \\'),
            blanks=("'  a  '", "  a  "),
            lone_surrogate=("_utf8mb4 X'EDA080'", "!invalid-utf8"),
        ),
    ),
    "long_text": Sort(
        "longtext",
        "'good'",
        b"good",
        values(
            million=("REPEAT('x', 1000000)", LONG),
            over_large=("REPEAT('x', 9000000)", "!too-large"),
        ),
    ),
    "chars": Sort(
        "char(5)", "'abcde'", b"abcde", values(padded=("'a  '", "a"), blanks=("'   '", ""))
    ),
    "three_bytes": Sort(
        "varchar(9) character set utf8mb3",
        "'é日'",
        "é日".encode(),
        values(emoji_that_the_server_cut=("'x😀y'", "x?y")),
    ),
    "latin": Sort(
        "varchar(9) character set latin1",
        "'é€'",
        "é€".encode(),
        values(
            bytes_of_utf_8=("_latin1 X'C3A9'", "Ã©"),
            unassigned=("_latin1 X'81'", "\u0081"),
            question_marks=("'??'", "??"),
        ),
    ),
    "russian": Sort(
        "varchar(9) character set cp1251",
        "'ж?'",
        "ж?".encode(),
        values(unassigned=("_binary X'98'", "!invalid-utf8")),
    ),
    "seven_bits": Sort(
        "varchar(9) character set ascii",
        "'a'",
        b"a",
        values(eighth_bit=("_binary X'E9'", "!invalid-utf8")),
    ),
    "two_bytes": Sort(
        "varchar(9) character set ucs2", "'é日'", "é日".encode(), values(cut=("'😀'", "?"))
    ),
    "wide": Sort(
        "varchar(9) character set utf16", "'a😀'", "a😀".encode(), values(empty=("''", ""))
    ),
    "japanese": Sort(
        "varchar(9) character set sjis", "'日本'", "日本".encode(), values(half=("'ｱ'", "ｱ"))
    ),
    "chinese": Sort(
        "varchar(9) character set gbk", "'汉'", "汉".encode(), values(euro=("'a'", "a"))
    ),
    "masked": Sort(
        "varchar(9)",
        "'good'",
        _sha("good").encode(),
        values(empty=("''", _sha("")), lone_surrogate=("_utf8mb4 X'EDA080'", "!invalid-utf8")),
        "mask: sha256",
    ),
    "masked_day": Sort(
        "date",
        "'2024-02-29'",
        _sha("2024-02-29").encode(),
        values(zeros=("'0000-00-00'", "!bad-date")),
        "mask: sha256",
    ),
    "raw": Sort(
        "varbinary(9)",
        "X'00FF'",
        b"\x00\xff",
        values(none=("''", b""), backslash=("X'5C27'", b"\\'"), nothing=("NULL", None)),
    ),
    "fixed": Sort("binary(4)", "X'FF'", b"\xff\0\0\0", values(zeros=("''", b"\0\0\0\0"))),
    "base64": Sort("blob", "X'00FF'", b"AP8=", values(none=("''", "")), "as: base64"),
    "hex": Sort("blob", "X'00FF'", b"00ff", values(letters=("X'C0FFEE'", "c0ffee")), "as: hex"),
    "label": Sort(
        "enum('so''so','fi,ne')",
        "'so''so'",
        b"so'so",
        values(
            comma=("'fi,ne'", "fi,ne"),
            unknown=("'bogus'", ""),
            zero=("0", ""),
            nothing=("NULL", None),
        ),
    ),
    "labels": Sort(
        "set('x','y','z')",
        "'z,x'",
        b"x,z",
        values(none=("''", ""), unknown=("'x,bogus'", "x"), all_of_them=("7", "x,y,z")),
    ),
    "document": Sort(
        "json",
        """'{"a": 1}'""",
        b'{"a": 1}',
        values(
            order_and_repeats=(
                """'{"b": 1.10, "a": 1e2, "a": 2}'""",
                '{"b": 1.10, "a": 1e2, "a": 2}',
            ),
            escaped_nul=("""'"\\u0000"'""", '"\\u0000"'),
            null=("'null'", "null"),
            nothing=("NULL", None),
            blanks=("' [ 1 ] '", " [ 1 ] "),
            long_number=(f"'{'1' * 400}.10'", f"{'1' * 400}.10"),
        ),
    ),
    "identity": Sort(
        "uuid",
        f"'{UUID}'",
        UUID.encode(),
        values(
            capitals=(f"'{UUID.upper()}'", UUID),
            no_dashes=(f"'{'f' * 32}'", "ffffffff-ffff-ffff-ffff-ffffffffffff"),
        ),
    ),
    "host": Sort("inet6", "'::1'", b"::1", values(capitals=("'2001:DB8::1'", "2001:db8::1"))),
    "old_host": Sort(
        "inet4", "'10.0.0.1'", b"10.0.0.1", values(last=("'255.255.255.255'", "255.255.255.255"))
    ),
    "place": Sort(
        "point",
        "ST_GeomFromText('POINT(1 2)')",
        b"POINT(1 2)",
        values(
            fraction=("ST_GeomFromText('POINT(0.5 -1)')", "POINT(0.5 -1)"), nothing=("NULL", None)
        ),
        "as: text",
    ),
}

ROWS = "CREATE TABLE § (id INT PRIMARY KEY, v VARCHAR(9)); INSERT INTO § VALUES (1, 'a')"
CHILD = "CREATE TABLE §_child (id INT PRIMARY KEY, parent INT, {})"


def _alike(*keys: str) -> dict[str, dict[str, bytes]]:
    return {key: {"id": key.encode()} for key in keys}


SCHEMAS: dict[str, Schema | Refused] = {
    # --- keys that are moved ---
    "ids up to 64 bits": Schema(
        "CREATE TABLE § (id BIGINT UNSIGNED PRIMARY KEY); INSERT INTO § VALUES "
        "(18446744073709551615), (18446744073709551614), (9223372036854775808), (0), (1000)",
        _alike("18446744073709551615", "18446744073709551614", "9223372036854775808", "0", "1000"),
    ),
    "ids with gaps and signs": Schema(
        "CREATE TABLE § (id BIGINT PRIMARY KEY); INSERT INTO § VALUES (-9223372036854775808), "
        "(-5), (0), (1), (9223372036854775807)",
        _alike(str(-(2**63)), "-5", "0", "1", str(2**63 - 1)),
    ),
    "ids with zeros in front": Schema(
        "CREATE TABLE § (id INT(8) ZEROFILL PRIMARY KEY); INSERT INTO § VALUES (0), (7), (42)",
        _alike("0", "7", "42"),
    ),
    "no rows": Schema("CREATE TABLE § (id INT PRIMARY KEY)"),
    "a key of two columns": Schema(
        "CREATE TABLE § (a VARCHAR(9), b INT, PRIMARY KEY (a, b));"
        "INSERT INTO § VALUES ('a:b', 1), ('a', 2), ('A', -1), ('', 0), ('%', 0), ('b', 1)",
        {
            "a%3Ab:1": {"a": b"a:b", "b": b"1"},
            "a:2": {"a": b"a", "b": b"2"},
            "A:-1": {"a": b"A", "b": b"-1"},
            ":0": {"a": b"", "b": b"0"},
            "%25:0": {"a": b"%", "b": b"0"},
            "b:1": {"a": b"b", "b": b"1"},
        },
        source="key: [a, b]",
        key="§:{a}:{b}",
    ),
    "a key that tells no case apart": Schema(
        "CREATE TABLE § (id VARCHAR(9) COLLATE utf8mb4_general_ci PRIMARY KEY);"
        "INSERT INTO § VALUES ('bob'), ('A'), ('a1'), ('B1'), ('ä2'), ('_'), ('~'), ('10'), ('2')",
        _alike("bob", "A", "a1", "B1", "ä2", "_", "~", "10", "2"),
    ),
    "a key in which two letters are one": Schema(
        "CREATE TABLE § (id VARCHAR(9) COLLATE utf8mb4_unicode_ci PRIMARY KEY);"
        "INSERT INTO § VALUES ('straße'), ('STRASSF'), ('Strasse1'), ('str')",
        _alike("straße", "STRASSF", "Strasse1", "str"),
    ),
    "a key whose blanks count": Schema(
        "CREATE TABLE § (id VARCHAR(9) COLLATE utf8mb4_nopad_bin PRIMARY KEY);"
        "INSERT INTO § VALUES ('a'), ('a '), ('a  '), ('A')",
        {"a": {"id": b"a"}, "a%20": {"id": b"a "}, "a%20%20": {"id": b"a  "}, "A": {"id": b"A"}},
    ),
    "a key whose blanks do not count": Schema(
        "CREATE TABLE § (id VARCHAR(9) PRIMARY KEY); INSERT INTO § VALUES ('a '), ('b'), (' a')",
        {"a%20": {"id": b"a "}, "b": {"id": b"b"}, "%20a": {"id": b" a"}},
    ),
    "forms of one letter are two keys": Schema(
        "CREATE TABLE § (id VARCHAR(9) COLLATE utf8mb4_bin PRIMARY KEY);"
        "INSERT INTO § VALUES (_utf8mb4 X'C3A9'), (_utf8mb4 X'65CC81')",
        _alike("\u00e9", "e\u0301"),
    ),
    "keys with a NUL and a line end": Schema(
        "CREATE TABLE § (id VARCHAR(9) COLLATE utf8mb4_bin PRIMARY KEY); INSERT INTO § VALUES "
        "(CHAR(97,0 USING utf8mb4)), ('a'), (CHAR(97,10 USING utf8mb4))",
        {"a%00": {"id": b"a\0"}, "a": {"id": b"a"}, "a%0A": {"id": b"a\n"}},
    ),
    "keys in another character set": Schema(
        "CREATE TABLE § (id VARCHAR(9) CHARACTER SET latin1 PRIMARY KEY);"
        "INSERT INTO § VALUES ('é'), ('z'), ('Z1'), ('€'), ('a')",
        _alike("é", "z", "Z1", "€", "a"),
    ),
    "keys in a wide character set": Schema(
        "CREATE TABLE § (id VARCHAR(9) CHARACTER SET utf16 PRIMARY KEY);"
        "INSERT INTO § VALUES ('😀'), ('z'), ('é'), ('a')",
        _alike("😀", "z", "é", "a"),
    ),
    "keys that are no UTF-8": Schema(
        "CREATE TABLE § (id VARCHAR(9) COLLATE utf8mb4_bin PRIMARY KEY);"
        "INSERT INTO § VALUES ('a'), (_utf8mb4 X'EDA080'), ('z')",
        _alike("a", "z"),
        (("id", "invalid-utf8"),),
    ),
    "keys that have no form in UTF-8": Schema(
        "CREATE TABLE § (id VARCHAR(9) CHARACTER SET cp1251 COLLATE cp1251_bin PRIMARY KEY);"
        "INSERT INTO § VALUES ('a'), ('b'), (_binary X'98'), (_binary X'9861'), ('ж'), ('я')",
        _alike("a", "b", "ж", "я"),
        (("id", "invalid-utf8"),) * 2,
    ),
    "keys of two bytes for one letter": Schema(
        "CREATE TABLE § (id VARCHAR(9) CHARACTER SET cp932 COLLATE cp932_bin PRIMARY KEY);"
        "INSERT INTO § VALUES ('a'), (_binary X'81E0'), (_binary X'8790'), ('日')",
        _alike("a", "≒", "日"),
        (("id", "invalid-utf8"),),
    ),
    "uuids as keys": Schema(
        f"CREATE TABLE § (id UUID PRIMARY KEY); INSERT INTO § VALUES ('{UUID}'), "
        f"('{'f' * 32}'), ('10000000-0000-0000-0000-000000000000'), "
        "('00000000-0000-1001-8000-000000000000')",
        _alike(
            UUID,
            "ffffffff-ffff-ffff-ffff-ffffffffffff",
            "10000000-0000-0000-0000-000000000000",
            "00000000-0000-1001-8000-000000000000",
        ),
    ),
    "decimals as keys": Schema(
        f"CREATE TABLE § (id DECIMAL(65,2) PRIMARY KEY); INSERT INTO § VALUES (1.10), (-0.5), (2), "
        f"({'9' * 63}.99), ({'9' * 63}.98)",
        _alike("1.10", "-0.50", "2.00", f"{'9' * 63}.99", f"{'9' * 63}.98"),
    ),
    "days as keys": Schema(
        "CREATE TABLE § (id DATE PRIMARY KEY); INSERT INTO § VALUES ('2024-02-29'), "
        "('0000-00-00'), ('2024-02-00'), ('0001-01-01'), ('2024-02-31')",
        _alike("2024-02-29", "0001-01-01"),
        (("id", "bad-date"),) * 3,
    ),
    "moments as keys": Schema(
        "CREATE TABLE § (id DATETIME(6) PRIMARY KEY); INSERT INTO § VALUES "
        "('2024-01-01 00:00:00.000001'), ('2024-01-01 00:00:00'), ('0000-00-00'), ('2024-01-02')",
        {
            f"2024-01-{day}": {"id": f"2024-01-{day}".replace("%3A", ":").encode()}
            for day in ("01T00%3A00%3A00", "01T00%3A00%3A00.000001", "02T00%3A00%3A00")
        },
        (("id", "bad-date"),),
    ),
    "spans as keys": Schema(
        "CREATE TABLE § (id TIME PRIMARY KEY); INSERT INTO § VALUES ('-01:00:00'), ('09:30:00'), "
        "('838:59:59'), ('23:59:59'), ('24:00:00')",
        {
            "09%3A30%3A00": {"id": b"09:30:00"},
            "23%3A59%3A59": {"id": b"23:59:59"},
        },
        (("id", "out-of-range"),) * 3,
    ),
    "years as keys": Schema(
        "CREATE TABLE § (id YEAR PRIMARY KEY); INSERT INTO § VALUES ('0000'), (1901), (2155)",
        _alike("0", "1901", "2155"),
    ),
    "labels as keys": Schema(
        "CREATE TABLE § (id ENUM('z','so''so','a') PRIMARY KEY); INSERT INTO § VALUES ('a'), "
        "('z'), ('so''so'), ('bogus')",
        {"": {"id": b""}, "z": {"id": b"z"}, "so'so": {"id": b"so'so"}, "a": {"id": b"a"}},
    ),
    "a key of 512 bytes and one more": Schema(
        "CREATE TABLE § (id VARCHAR(600) CHARACTER SET latin1 PRIMARY KEY); INSERT INTO § VALUES "
        "('a'), (REPEAT('0', 507)), (REPEAT('0', 508)), ('b')",
        _alike("a", "b", "0" * 507),
        (("id", "key-too-long"),),
    ),
    "a key of another unique index": Schema(
        "CREATE TABLE § (id INT PRIMARY KEY, mail VARCHAR(9) NOT NULL UNIQUE);"
        "INSERT INTO § VALUES (1, 'b@x'), (2, 'A@x')",
        {"b@x": {"id": b"1", "mail": b"b@x"}, "A@x": {"id": b"2", "mail": b"A@x"}},
        source="key: [mail]",
        key="§:{mail}",
    ),
    # --- tables ---
    "partitions": Schema(
        "CREATE TABLE § (id INT PRIMARY KEY) PARTITION BY HASH (id) PARTITIONS 3;"
        "INSERT INTO § VALUES (1), (2), (3), (4), (5)",
        _alike("1", "2", "3", "4", "5"),
    ),
    "rows with a history": Schema(
        "CREATE TABLE § (id INT PRIMARY KEY, v VARCHAR(9)) WITH SYSTEM VERSIONING;"
        "INSERT INTO § VALUES (1, 'old'), (2, 'gone'); UPDATE § SET v = 'new' WHERE id = 1;"
        "DELETE FROM § WHERE id = 2",
        {"1": {"id": b"1", "v": b"new"}},
    ),
    "a table without snapshots": Schema(
        "CREATE TABLE § (id INT PRIMARY KEY, v VARCHAR(9)) ENGINE = MyISAM;"
        "INSERT INTO § VALUES (1, 'a'), (2, 'b'), (3, 'c')",
        {str(n): {"id": b"%d" % n, "v": v} for n, v in ((1, b"a"), (2, b"b"), (3, b"c"))},
    ),
    "a table in memory": Schema(
        "CREATE TABLE § (id INT PRIMARY KEY) ENGINE = MEMORY; INSERT INTO § VALUES (3), (1), (2)",
        _alike("1", "2", "3"),
    ),
    "generated and invisible columns": Schema(
        "CREATE TABLE § (id INT AUTO_INCREMENT PRIMARY KEY, a INT, b INT AS (a * 2) STORED, "
        "c VARCHAR(9) AS (CONCAT('v', a)) VIRTUAL, d INT INVISIBLE DEFAULT 4);"
        "INSERT INTO § (a) VALUES (21)",
        {"1": {"id": b"1", "a": b"21", "b": b"42", "c": b"v21", "d": b"4"}},
    ),
    "reserved words": Schema(
        'CREATE TABLE "§ select" (id INT PRIMARY KEY, "order" INT, "group" INT, "key" INT);'
        'INSERT INTO "§ select" VALUES (1, 2, 3, 4)',
        {"1": {"id": b"1", "order": b"2", "group": b"3", "key": b"4"}},
        table="'\"§ select\"'",
    ),
    "signs in names": Schema(
        'CREATE TABLE "§ %s:x$1.é" (id INT PRIMARY KEY, "100%" INT, ":x" INT, "it\'s" INT, '
        '"q""q" INT, "back\\slash" INT, "$1" INT, "tick`" INT, "ünï 日" INT, "%(x)s" INT);'
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
                "ünï 日": b"8",
                "%(x)s": b"9",
            }
        },
        table="'\"§ %s:x$1.é\"'",
    ),
    "signs in a key's name": Schema(
        "CREATE TABLE § (\"a b%s\" VARCHAR(9) PRIMARY KEY); INSERT INTO § VALUES ('x'), ('y')",
        {k: {"a b%s": k.encode()} for k in "xy"},
        source="key: ['a b%s']",
        key="§:{a b%s}",
    ),
    "names of 64 characters": Schema(
        f'CREATE TABLE "§{"é" * 60}" (id INT PRIMARY KEY, {"c" * 64} INT);'
        f'INSERT INTO "§{"é" * 60}" VALUES (1, 2)',
        {"1": {"id": b"1", "c" * 64: b"2"}},
        table=f"§{'é' * 60}",
    ),
    "nine hundred columns": Schema(
        f"CREATE TABLE § (id INT PRIMARY KEY, {', '.join(f'c{n} INT' for n in range(900))});"
        "INSERT INTO § (id, c0, c899) VALUES (1, 5, 6)",
        {"1": {"id": b"1", "c0": b"5", "c899": b"6"}},
    ),
    "a filter": Schema(
        "CREATE TABLE § (id INT PRIMARY KEY, v VARCHAR(19)); INSERT INTO § VALUES "
        "(1, 'it''s :x %s'), (2, 'b'), (3, NULL)",
        {"1": {"id": b"1", "v": b"it's :x %s"}},
        source="key: [id], where: \"v = 'it''s :x %s'\"",
    ),
    "a filter by a number in a text": Schema(
        "CREATE TABLE § (id VARCHAR(9) PRIMARY KEY); INSERT INTO § VALUES ('1'), ('01'), ('1.0'), "
        "('1abc')",
        _alike("1"),
        source="key: [id], where: \"id = '1'\"",
    ),
    # --- records of text, children ---
    "a string record": Schema(
        "CREATE TABLE § (id INT PRIMARY KEY, a VARCHAR(9), b DOUBLE, c BLOB, d JSON, "
        "e DECIMAL(5,2)); INSERT INTO § VALUES "
        "(1, CONCAT('é\"', CHAR(0 USING utf8mb4)), 1e22, X'00FF', "
        "'{\"x\": 1.10}', 1.1), (2, NULL, NULL, NULL, NULL, NULL)",
        {
            "1": {
                "": b'"a":"\xc3\xa9\\"\\u0000","b":1e+22,"c":"AP8=","d":{"x": 1.10},"e":1.10,"id":1'
            },
            "2": {"": b'"id":2'},
        },
        type="string",
    ),
    "JSON whose check was switched off": Schema(
        "CREATE TABLE § (id INT PRIMARY KEY, d JSON); SET check_constraint_checks = 0;"
        "INSERT INTO § VALUES (1, '[1]'), (2, '{a'), (3, ''), (4, '[2]')",
        {"1": {"": b'"d":[1],"id":1'}, "4": {"": b'"d":[2],"id":4'}},
        (("d", "invalid-json"),) * 2,
        type="string",
    ),
    "children with odd values": Schema(
        "CREATE TABLE § (id INT PRIMARY KEY);"
        + CHILD.format("d DATE, n BIGINT UNSIGNED, b BIT(3)")
        + "; INSERT INTO § VALUES (1), (2), (3), (4); INSERT INTO §_child VALUES "
        "(1, 1, '2024-01-01', 18446744073709551615, b'101'), (2, 1, NULL, NULL, NULL), "
        "(3, 2, '0000-00-00', 1, NULL), (4, 3, '2024-02-31', 1, NULL), (5, 9, NULL, NULL, NULL)",
        {
            "1": {
                "id": b"1",
                "list": b'[{"b":"101","d":"2024-01-01","n":18446744073709551615},{}]',
            },
            "4": {"id": b"4", "list": b"[]"},
        },
        (("list.d", "bad-date"),) * 2,
        more="children: {list: {table: §_child, join: {parent: id}, columns: [d, n, b]}}",
    ),
    "children by a key that tells no case apart": Schema(
        "CREATE TABLE § (id VARCHAR(9) COLLATE utf8mb4_general_ci PRIMARY KEY);"
        "CREATE TABLE §_child (id INT PRIMARY KEY, parent VARCHAR(9) COLLATE utf8mb4_general_ci);"
        "INSERT INTO § VALUES ('bob'), ('Ann'), ('cy'); INSERT INTO §_child VALUES (1, 'BOB'), "
        "(2, 'bob '), (3, 'ANN')",
        {
            "bob": {"id": b"bob", "list": b"[1,2]"},
            "Ann": {"id": b"Ann", "list": b"[3]"},
            "cy": {"id": b"cy", "list": b"[]"},
        },
        more="children: {list: {table: §_child, join: {parent: id}, column: id}}",
    ),
    # --- refused ---
    "a key of floats": keyed("FLOAT"),
    "a key of doubles": keyed("DOUBLE"),
    "a key of bytes": keyed("VARBINARY(9)"),
    "a key of truth values": keyed("BOOLEAN"),
    "a key of bits": keyed("BIT(8)"),
    "a key of sets": keyed("SET('a','b')"),
    "a key of addresses": keyed("INET6"),
    "nothing unique": Refused("CREATE TABLE § (id INT NOT NULL)", "key-not-unique"),
    "a view": Refused(
        f"{ROWS.replace('§', '§_t')}; CREATE VIEW § AS SELECT * FROM §_t", "key-not-unique"
    ),
    "unique by its beginning": Refused(
        "CREATE TABLE § (id VARCHAR(9) NOT NULL, UNIQUE (id(3)))", "key-not-unique"
    ),
    "unique only with another column": Refused(
        "CREATE TABLE § (id INT NOT NULL, b INT NOT NULL, PRIMARY KEY (id, b))", "key-not-unique"
    ),
    "NULL in a unique key": Refused(
        "CREATE TABLE § (a INT, b INT, UNIQUE (a, b)); INSERT INTO § VALUES (1, 1), (1, NULL), "
        "(1, NULL), (NULL, 1), (NULL, NULL)",
        code="checks-failed",
        source="key: [a, b]",
        key="§:{a}:{b}",
    ),
    "an empty label beside an unknown one": Refused(
        "CREATE TABLE § (id ENUM('','b') PRIMARY KEY); INSERT INTO § VALUES (''), ('b'), ('bogus')",
        code="invalid-input",
    ),
    "a shape without a form": typed("POINT", "no-codec"),
    "a curve without a form": typed("GEOMETRY", "no-codec"),
    "a vector without a form": Refused(
        "CREATE TABLE § (id INT PRIMARY KEY, v VECTOR(3))", "no-codec", since=1107
    ),
    "a form of another type": typed("VARCHAR(9)", "wrong-form", more="fields: {v: {as: epoch_ms}}"),
    "text of bytes": typed("BLOB", "wrong-form", more="fields: {v: {as: text}}"),
    "a number of a time": typed("TIME", "wrong-form", more="fields: {v: {as: epoch_s}}"),
    "no such table": Refused("", "missing-table"),
    "a column in another case": typed("INT", "missing-column", more="fields: {V: {}}"),
    "a column of a reserved name": Refused(
        "CREATE TABLE § (id INT PRIMARY KEY, _t INT)", "reserved-field"
    ),
    "a backtick in a table's name": Refused(ROWS, "identifier", code="invalid-file", table='"§`x"'),
    "a function in a filter": Refused(
        ROWS, "where", code="invalid-file", source='key: [id], where: "SLEEP(9) = 1"'
    ),
    "a comment in a filter": Refused(
        ROWS, "where", code="invalid-file", source='key: [id], where: "id = 1 /*! OR 1 */"'
    ),
    "a masked key": Refused(
        ROWS, "key-masked", code="invalid-file", more="fields: {id: {mask: sha256}}"
    ),
    "a word in a filter of numbers": Refused(
        ROWS, code="invalid-input", source="key: [id], where: \"id = 'abc'\""
    ),
    "a join by floats": Refused(
        f"{ROWS}; CREATE TABLE §_child (id INT PRIMARY KEY, parent FLOAT, v INT)",
        "join-type",
        more="children: {list: {table: §_child, join: {parent: id}, column: v}}",
    ),
    "a join of texts with numbers": Refused(
        f"{ROWS}; CREATE TABLE §_child (id INT PRIMARY KEY, parent VARCHAR(9), v INT)",
        "join-type",
        more="children: {list: {table: §_child, join: {parent: id}, column: v}}",
    ),
    "JSON that may be NULL in a list": Refused(
        f"{ROWS}; {CHILD.format('v JSON')}",
        "json-null",
        more="children: {list: {table: §_child, join: {parent: id}, column: v}}",
    ),
    "a shape in a child": Refused(
        f"{ROWS}; {CHILD.format('v POINT')}",
        "no-codec",
        more="children: {list: {table: §_child, join: {parent: id}, columns: [v]}}",
    ),
}

FIVE = (
    "CREATE TABLE § (id INT PRIMARY KEY, v VARCHAR(9));"
    "INSERT INTO § VALUES (1, 'a'), (2, 'b'), (3, 'c'), (4, 'd'), (5, 'e')"
)
GONE = "A table or column of the source is not there any more"
ANOTHER = "is another one than before"

DRIFTS: dict[str, Drift] = {
    "a column is added": Drift(FIVE, "ALTER TABLE § ADD COLUMN w INT", "column 'w' is new"),
    "a column is dropped": Drift(FIVE, "ALTER TABLE § DROP COLUMN v", GONE),
    "a column is renamed": Drift(FIVE, "ALTER TABLE § RENAME COLUMN v TO w", GONE),
    "a column is renamed and made anew": Drift(
        FIVE,
        "ALTER TABLE § RENAME COLUMN v TO w; ALTER TABLE § ADD COLUMN v VARCHAR(9) DEFAULT 'wrong'",
        "column 'w' is new",
    ),
    "two columns change their names": Drift(
        "CREATE TABLE § (id INT PRIMARY KEY, v VARCHAR(9), w VARCHAR(9)); INSERT INTO § VALUES "
        "(1, 'a', 'x'), (2, 'b', 'x'), (3, 'c', 'x'), (4, 'd', 'x'), (5, 'e', 'x')",
        "ALTER TABLE § RENAME COLUMN v TO w, RENAME COLUMN w TO v",
        ANOTHER,
    ),
    "a column is of another type": Drift(
        FIVE, "ALTER TABLE § MODIFY v VARBINARY(9)", "column 'v' was varchar(9) and is varbinary(9)"
    ),
    "a column may not be NULL": Drift(
        FIVE, "ALTER TABLE § MODIFY v VARCHAR(9) NOT NULL", "column 'v' became NOT NULL"
    ),
    "a column is in another order": Drift(
        FIVE, "ALTER TABLE § MODIFY v VARCHAR(9) COLLATE utf8mb4_bin", ANOTHER
    ),
    "a label is added": Drift(
        "CREATE TABLE § (id INT PRIMARY KEY, v ENUM('a')); INSERT INTO § VALUES (1, 'a'), "
        "(2, 'a'), (3, 'a'), (4, 'a'), (5, 'a')",
        "ALTER TABLE § MODIFY v ENUM('a','b')",
        "column 'v' was enum('a') and is enum('a','b')",
    ),
    "the table is gone": Drift(FIVE, "DROP TABLE §", GONE),
    "the table is truncated": Drift(FIVE, "TRUNCATE §"),
    # Documented: nothing that every user may ask tells the two apart.
    "another table takes its place": Drift(
        FIVE,
        "RENAME TABLE § TO §_old; CREATE TABLE § LIKE §_old;"
        "INSERT INTO § VALUES (3, 'x'), (9, 'y')",
        cells=("x", "y"),
    ),
    "an index is added": Drift(FIVE, "CREATE INDEX §_v ON § (v)", cells=("c", "d", "e")),
    "a comment is added": Drift(FIVE, "ALTER TABLE § COMMENT 'new'", cells=("c", "d", "e")),
    "rows are changed": Drift(
        FIVE, "UPDATE § SET v = 'new' WHERE id > 3; DELETE FROM § WHERE id = 5", cells=("c", "new")
    ),
}
