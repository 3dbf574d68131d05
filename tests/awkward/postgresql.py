"""
What PostgreSQL can hold and drivers disagree on, and how its tables can be made.
"""

from __future__ import annotations

from hashlib import sha256

from tests.awkward.cases import Drift, Refused, Schema, Sort, keyed, typed, values

BEFORE = """
DO $$
DECLARE wanted text;
BEGIN
  FOREACH wanted IN ARRAY ARRAY['citext', 'hstore', 'ltree'] LOOP
    IF EXISTS (SELECT FROM pg_available_extensions e WHERE e.name = wanted) THEN
      EXECUTE format('CREATE EXTENSION %I', wanted);
    END IF;
  END LOOP;
  -- What a database may be set to, and no record may depend on.
  FOREACH wanted IN ARRAY ARRAY['TimeZone = ''Europe/Berlin''', 'DateStyle = ''German''',
                              'IntervalStyle = ''postgres_verbose''', 'extra_float_digits = 0',
                              'bytea_output = ''escape'''] LOOP
    EXECUTE format('ALTER DATABASE %I SET ', current_database()) || wanted;
  END LOOP;
END $$;
CREATE TYPE mood AS ENUM ('so''so', 'fine', 'a,b {x}', '');
CREATE DOMAIN price AS numeric(10,2) CHECK (VALUE >= 0);
CREATE DOMAIN padded AS char(5);
CREATE DOMAIN twice AS padded;
CREATE TYPE pair AS (a int, b text);
CREATE COLLATION ci (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
"""

LONG = "x" * 1_000_000
UUID = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"


def _sha(text: str) -> str:
    return sha256(text.encode()).hexdigest()


SORTS: dict[str, Sort] = {
    "small": Sort("smallint", "7", b"7", values(smallest=("-32768", "-32768"))),
    "whole": Sort(
        "integer", "7", b"7", values(largest=("2147483647", "2147483647"), nothing=("NULL", None))
    ),
    "large": Sort(
        "bigint",
        "7",
        b"7",
        values(
            largest=("9223372036854775807", "9223372036854775807"),
            smallest=("-9223372036854775808", "-9223372036854775808"),
            beyond_a_double=("9007199254740993", "9007199254740993"),
        ),
    ),
    "object": Sort("oid", "1", b"1", values(largest=("4294967295", "4294967295"))),
    "amount": Sort(
        "numeric(10,2)",
        "1.5",
        b"1.50",
        values(zero=("-0.0", "0.00"), not_a_number=("'NaN'", "NaN"), power=("1e5", "100000.00")),
    ),
    "number": Sort(
        "numeric",
        "1.10",
        b"1.10",
        values(
            zeros_behind=("'0.000'", "0.000"),
            sixty_five_digits=("9" * 65, "9" * 65),
            thousand_digits=("'1e1000'", f"1{'0' * 1000}"),
            tiny=("'1e-100'", f"0.{'0' * 99}1"),
            infinite=("'-Infinity'", "-Infinity"),
            not_a_number=("'NaN'", "NaN"),
        ),
    ),
    "rounded": Sort(
        "numeric(5,-2)", "100", b"100", values(large=("9999900", "9999900")), since=1500
    ),
    "cost": Sort("price", "1", b"1.00", values(most=("99999999.99", "99999999.99"))),
    "single": Sort(
        "real",
        "0.1",
        b"0.1",
        values(
            minus_zero=("'-0'", "-0"),
            seven_digits=("'16777217'", "1.6777216e+07"),
            denormal=("'1e-45'", "1e-45"),
            largest=("'3.4028235e38'", "3.4028235e+38"),
            not_a_number=("'NaN'", "NaN"),
            infinite=("'-inf'", "-Infinity"),
        ),
    ),
    "real": Sort(
        "double precision",
        "0.5",
        b"0.5",
        values(
            seventeen_digits=("0.1::float8 + 0.2::float8", "0.30000000000000004"),
            minus_zero=("'-0'", "-0"),
            denormal=("'5e-324'", "5e-324"),
            largest=("'1.7976931348623157e308'", "1.7976931348623157e+308"),
            exponent_from_fifteen=("1e15", "1e+15"),
            plain_below=("999999999999999", "999999999999999"),
            not_a_number=("'NaN'", "NaN"),
            infinite=("'Infinity'", "Infinity"),
        ),
    ),
    "truth": Sort("boolean", "true", b"1", values(no=("'f'", "0"), nothing=("NULL", None))),
    "word": Sort("boolean", "true", b"true", values(no=("'off'", "false")), "as: word"),
    "text_": Sort(
        "text",
        "'good'",
        b"good",
        values(
            empty=("''", ""),
            null_word=("'NULL'", "NULL"),
            nothing=("NULL", None),
            emoji=("'👩‍🚀'", "👩‍🚀"),
            composed=("U&'\\00e9'", "\u00e9"),
            decomposed=("U&'e\\0301'", "e\u0301"),
            byte_order_mark=("U&'\\feffa'", "\ufeffa"),
            last_character=("U&'\\+10ffff'", "\U0010ffff"),
            no_character=("U&'\\ffff'", "\uffff"),
            right_to_left=("U&'\\202eabc'", "\u202eabc"),
            line_ends=("E'\\r\\n' || U&'\\2028'", "\r\n\u2028"),
            control=("E'\\x01\\x1b[31m\\x7f'", "\x01\x1b[31m\x7f"),
            quotes=("'it''s \"%s\" %(x)s :x $1 ? \\'", 'it\'s "%s" %(x)s :x $1 ? \\'),
            blanks=("'  a  '", "  a  "),
            million=("repeat('x', 1000000)", LONG),
            over_large=("repeat('x', 9000000)", "!too-large"),
        ),
    ),
    "limited": Sort("varchar(3)", "'abc'", b"abc", values(emojis=("'😀😀😀'", "😀😀😀"))),
    "chars": Sort(
        "char(5)", "'abcde'", b"abcde", values(padded=("'é'", "é    "), empty=("''", "     "))
    ),
    "twofold": Sort("twice", "'abcde'", b"abcde", values(padded=("'a'", "a    "))),
    "byte": Sort('"char"', "'x'", b"x", values(empty=("''", ""), eighth_bit=("'\\300'", "\\300"))),
    "title": Sort("name", "'x'", b"x", values(cut=(f"'{'y' * 70}'", "y" * 63))),
    "masked": Sort(
        "text",
        "'good'",
        _sha("good").encode(),
        values(empty=("''", _sha("")), nothing=("NULL", None), accent=("'é'", _sha("é"))),
        "mask: sha256",
    ),
    "masked_day": Sort(
        "date",
        "'2024-02-29'",
        _sha("2024-02-29").encode(),
        values(before_christ=("'0044-03-15 BC'", "!out-of-range")),
        "mask: sha256",
    ),
    "raw": Sort(
        "bytea",
        "'\\x00ff'",
        b"\x00\xff",
        values(none=("''", b""), backslash=("'\\x5c78'", b"\\x"), nothing=("NULL", None)),
    ),
    "base64": Sort("bytea", "'\\x00ff'", b"AP8=", values(none=("''", "")), "as: base64"),
    "hex": Sort(
        "bytea", "'\\x00ff'", b"00ff", values(letters=("'\\xC0FFEE'", "c0ffee")), "as: hex"
    ),
    "day": Sort(
        "date",
        "'2024-02-29'",
        b"2024-02-29",
        values(
            first=("'0001-01-01'", "0001-01-01"),
            last=("'9999-12-31'", "9999-12-31"),
            between_calendars=("'1582-10-10'", "1582-10-10"),
            infinite=("'infinity'", "infinity"),
            minus_infinite=("'-infinity'", "-infinity"),
            before_christ=("'0044-03-15 BC'", "!out-of-range"),
            five_digits=("'10000-01-01'", "!out-of-range"),
            very_last=("'5874897-12-31'", "!out-of-range"),
        ),
    ),
    "day_text": Sort(
        "date",
        "'2024-02-29'",
        b"2024-02-29",
        values(
            before_christ=("'0044-03-15 BC'", "0044-03-15 BC"),
            very_last=("'5874897-12-31'", "5874897-12-31"),
        ),
        "as: text",
    ),
    "clock": Sort(
        "time",
        "'09:30'",
        b"09:30:00",
        values(
            end_of_day=("'24:00:00'", "24:00:00"),
            last=("'23:59:59.999999'", "23:59:59.999999"),
            zeros_behind=("'09:30:00.250000'", "09:30:00.25"),
        ),
    ),
    "zoned_clock": Sort(
        "timetz",
        "'12:00+00'",
        b"12:00:00+00",
        values(
            quarters=("'12:00:00.1+05:45'", "12:00:00.1+05:45"),
            end_of_day=("'24:00:00-15:59:59'", "24:00:00-15:59:59"),
        ),
    ),
    "moment": Sort(
        "timestamp",
        "'2024-03-01 09:30:00'",
        b"2024-03-01T09:30:00",
        values(
            hour_of_no_clock=("'2024-03-31 02:30:00'", "2024-03-31T02:30:00"),
            leap_second=("'2016-12-31 23:59:60'", "2017-01-01T00:00:00"),
            first=("'0001-01-01 00:00:00'", "0001-01-01T00:00:00"),
            last=("'9999-12-31 23:59:59.999999'", "9999-12-31T23:59:59.999999"),
            infinite=("'infinity'", "infinity"),
            minus_infinite=("'-infinity'", "-infinity"),
            before_christ=("'0001-12-31 23:59:59 BC'", "!out-of-range"),
            very_last=("'294276-12-31 23:59:59.999999'", "!out-of-range"),
        ),
    ),
    "moment_text": Sort(
        "timestamp",
        "'2024-03-01 09:30:00'",
        b"2024-03-01 09:30:00",
        values(before_christ=("'0001-12-31 23:59:59.5 BC'", "0001-12-31 23:59:59.5 BC")),
        "as: text",
    ),
    "seconds": Sort(
        "timestamp",
        "'1970-01-01'",
        b"0",
        values(
            first=("'0001-01-01'", "-62135596800"),
            half=("'1970-01-01 00:00:00.5'", "!precision-lost"),
            infinite=("'infinity'", "!no-epoch"),
            before_christ=("'0001-01-01 BC'", "!out-of-range"),
        ),
        "as: epoch_s",
    ),
    "milliseconds": Sort(
        "timestamptz",
        "'1970-01-01 00:00:00+00'",
        b"0",
        values(
            before=("'1969-12-31 23:59:59.999+00'", "-1"),
            finer=("'1970-01-01 00:00:00.0005+00'", "!precision-lost"),
            minus_infinite=("'-infinity'", "!no-epoch"),
        ),
        "as: epoch_ms",
    ),
    "microseconds": Sort(
        "timestamptz",
        "'1970-01-01 00:00:00+00'",
        b"0",
        values(last=("'9999-12-31 23:59:59.999999+00'", "253402300799999999")),
        "as: epoch_us",
    ),
    "instant": Sort(
        "timestamptz",
        "'2024-01-01 00:00:00+00'",
        b"2024-01-01T00:00:00Z",
        values(
            lost_hour=("'2024-03-31 02:30:00 Europe/Berlin'", "2024-03-31T01:30:00Z"),
            first_of_two=("'2024-10-27 02:30:00+02'", "2024-10-27T00:30:00Z"),
            second_of_two=("'2024-10-27 02:30:00+01'", "2024-10-27T01:30:00Z"),
            offset_with_seconds=("'1890-01-01 00:00:00+00:53:28'", "1889-12-31T23:06:32Z"),
            infinite=("'infinity'", "infinity"),
            before_year_one=("'0001-01-01 00:00:00+14'", "!out-of-range"),
            behind_the_last_year=("'9999-12-31 23:59:59-01'", "!out-of-range"),
        ),
    ),
    "span": Sort(
        "interval",
        "'1 day'",
        b"P1D",
        values(
            month=("'1 mon'", "P1M"),
            thirty_days=("'30 days'", "P30D"),
            hours=("'24:00:00'", "PT24H"),
            zero=("'0'", "PT0S"),
            mixed_signs=("'-1 mon 30 days -00:00:00.000001'", "P-1M30DT-0.000001S"),
            longest=("'178000000 years'", "P178000000Y"),
        ),
    ),
    "endless": Sort(
        "interval", "'1 day'", b"P1D", values(infinite=("'infinity'", "infinity")), since=1700
    ),
    "identity": Sort(
        "uuid",
        f"'{UUID}'",
        UUID.encode(),
        values(
            capitals=(f"'{{{UUID.upper()}}}'", UUID),
            zeros=(f"'{'0' * 32}'", "00000000-0000-0000-0000-000000000000"),
        ),
    ),
    "label": Sort(
        "mood",
        "'fine'",
        b"fine",
        values(empty=("''", ""), quote=("'so''so'", "so'so"), comma=("'a,b {x}'", "a,b {x}")),
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
            escaped_half=("""'"\\ud800"'""", '"\\ud800"'),
            null=("'null'", "null"),
            nothing=("NULL", None),
            blanks=("' [ 1 ] '", " [ 1 ] "),
            long_number=(f"'{'1' * 400}.10'", f"{'1' * 400}.10"),
        ),
    ),
    "binary_document": Sort(
        "jsonb",
        """'{"a": 1}'""",
        b'{"a": 1}',
        values(
            order_and_repeats=("""'{"b": 1.10, "a": 1e2, "a": 2}'""", '{"a": 2, "b": 1.10}'),
            power=("'1e2'", "100"),
            null=("'null'", "null"),
            nothing=("NULL", None),
        ),
    ),
    "ints": Sort(
        "int[]",
        "'{1}'",
        b"{1}",
        values(
            empty=("'{}'", "{}"),
            null_inside=("'{1,NULL}'", "{1,NULL}"),
            low_bound=("'[-1:0]={1,2}'", "[-1:0]={1,2}"),
            square=("'{{1,2},{3,4}}'", "{{1,2},{3,4}}"),
        ),
    ),
    "texts": Sort(
        "text[]",
        "'{a}'",
        b"{a}",
        values(signs=("""'{"a,b",NULL,"NULL","","\\""}'""", '{"a,b",NULL,"NULL","","\\""}')),
    ),
    "instants": Sort(
        "timestamptz[]",
        "'{infinity}'",
        b"{infinity}",
        values(zoned=("'{2024-01-01 00:00:00+01}'", '{"2023-12-31 23:00:00+00"}')),
    ),
    "host": Sort(
        "inet",
        "'10.0.0.1'",
        b"10.0.0.1",
        values(
            network=("'10.0.0.1/8'", "10.0.0.1/8"), mapped=("'::ffff:1.2.3.4'", "::ffff:1.2.3.4")
        ),
    ),
    "network": Sort("cidr", "'10.0.0.0/8'", b"10.0.0.0/8", values(single=("'::1'", "::1/128"))),
    "card": Sort(
        "macaddr",
        "'08002b010203'",
        b"08:00:2b:01:02:03",
        values(ones=("'FF-FF-FF-FF-FF-FF'", "ff:ff:ff:ff:ff:ff")),
    ),
    "bits": Sort("bit(4)", "B'0101'", b"0101", values(zeros=("B'0000'", "0000"))),
    "some_bits": Sort("bit varying", "B'1'", b"1", values(none=("B''", ""))),
    "range": Sort(
        "int4range",
        "'[1,5]'",
        b"[1,6)",
        values(empty=("'empty'", "empty"), open=("'(,)'", "(,)")),
    ),
    "days": Sort(
        "daterange",
        "'[2024-01-01,2024-01-02)'",
        b"[2024-01-01,2024-01-02)",
        values(infinite=("'[2024-01-01,infinity)'", "[2024-01-01,infinity)")),
    ),
    "ranges": Sort(
        "int4multirange", "'{}'", b"{}", values(two=("'{[1,3),[5,9)}'", "{[1,3),[5,9)}"))
    ),
    "place": Sort("point", "'(1,2)'", b"(1,2)", values(odd=("'(NaN,-0)'", "(NaN,-0)"))),
    "terms": Sort("tsvector", "'a'", b"'a'", values(quoted=("'''it''''s'':1A'", "'it''s':1A"))),
    "position": Sort(
        "pg_lsn", "'0/0'", b"0/0", values(last=("'FFFFFFFF/FFFFFFFF'", "FFFFFFFF/FFFFFFFF"))
    ),
    "cash": Sort(
        "money",
        "'1.50'",
        b"$1.50",
        values(
            negative=("'-12.50'", "-$12.50"),
            largest=("'92233720368547758.07'", "$92,233,720,368,547,758.07"),
        ),
        "as: text",
    ),
    "couple": Sort(
        "pair",
        "'(1,a)'",
        b"(1,a)",
        values(signs=("""'(1,"a,b")'""", '(1,"a,b")'), nothing_inside=("'(,)'", "(,)")),
        "as: text",
    ),
    "markup": Sort(
        "xml",
        "'<a/>'",
        b"<a/>",
        values(encoding=('\'<?xml version="1.0" encoding="latin1"?><a>é</a>\'', "<a>é</a>")),
    ),
    "any_case": Sort("citext", "'Good'", b"Good", values(capitals=("'ÀB'", "ÀB")), needs="citext"),
    "pairs": Sort(
        "hstore",
        "'a=>1'",
        b'"a"=>"1"',
        values(null=("'b=>NULL, a=>\"x,y\"'", '"a"=>"x,y", "b"=>NULL')),
        needs="hstore",
    ),
    "path_": Sort("ltree", "'a.b'", b"a.b", values(empty=("''", "")), needs="ltree"),
}

ROWS = "CREATE TABLE § (id INT PRIMARY KEY, v TEXT); INSERT INTO § VALUES (1, 'a')"
CHILD = "CREATE TABLE §_child (id INT PRIMARY KEY, parent INT, {})"


def _alike(*keys: str) -> dict[str, dict[str, bytes]]:
    return {key: {"id": key.encode()} for key in keys}


SCHEMAS: dict[str, Schema | Refused] = {
    # --- keys that are moved ---
    "ids with gaps and signs": Schema(
        "CREATE TABLE § (id BIGINT PRIMARY KEY); INSERT INTO § VALUES (-9223372036854775808), "
        "(-5), (0), (1), (1000), (9223372036854775807)",
        _alike(*(str(n) for n in (-(2**63), -5, 0, 1, 1000, 2**63 - 1))),
    ),
    "no rows": Schema("CREATE TABLE § (id INT PRIMARY KEY)"),
    "a key of two columns": Schema(
        "CREATE TABLE § (a TEXT, b INT, PRIMARY KEY (a, b));"
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
    "a key that tells no case apart": Schema(
        "CREATE TABLE § (id TEXT COLLATE ci PRIMARY KEY); INSERT INTO § VALUES ('b'), ('A'), "
        "('a1'), ('B1'), ('ä'), ('_'), ('Straße')",
        _alike("b", "A", "a1", "B1", "ä", "_", "Straße"),
    ),
    "a key of two that tell no case apart": Schema(
        "CREATE TABLE § (a TEXT COLLATE ci, id TEXT COLLATE ci, PRIMARY KEY (a, id));"
        "INSERT INTO § VALUES ('x', 'b'), ('X', 'A'), ('x', 'c'), ('Y', 'a'), ('y', 'B')",
        {
            "x:b": {"a": b"x", "id": b"b"},
            "X:A": {"a": b"X", "id": b"A"},
            "x:c": {"a": b"x", "id": b"c"},
            "Y:a": {"a": b"Y", "id": b"a"},
            "y:B": {"a": b"y", "id": b"B"},
        },
        source="key: [a, id]",
        key="§:{a}:{id}",
    ),
    "forms of one letter are two keys": Schema(
        "CREATE TABLE § (id TEXT PRIMARY KEY); INSERT INTO § VALUES (U&'\\00e9'), (U&'e\\0301')",
        _alike("\u00e9", "e\u0301"),
    ),
    "uuids as keys": Schema(
        f"CREATE TABLE § (id UUID PRIMARY KEY); INSERT INTO § VALUES ('{UUID}'), "
        f"('{'f' * 32}'), ('{'0' * 31}1')",
        _alike(
            UUID, "ffffffff-ffff-ffff-ffff-ffffffffffff", "00000000-0000-0000-0000-000000000001"
        ),
    ),
    "decimals as keys": Schema(
        "CREATE TABLE § (id NUMERIC PRIMARY KEY); INSERT INTO § VALUES (1.10), (-0.5), ('NaN'), "
        f"('Infinity'), ({'9' * 65}), (2)",
        _alike("1.10", "-0.5", "NaN", "Infinity", "9" * 65, "2"),
    ),
    "days as keys": Schema(
        "CREATE TABLE § (id DATE PRIMARY KEY); INSERT INTO § VALUES ('infinity'), ('-infinity'), "
        "('2024-02-29'), ('0044-03-15 BC'), ('0001-01-01'), ('10000-01-01')",
        _alike("infinity", "-infinity", "2024-02-29", "0001-01-01"),
        (("id", "out-of-range"), ("id", "out-of-range")),
    ),
    "instants as keys": Schema(
        "CREATE TABLE § (id TIMESTAMPTZ PRIMARY KEY); INSERT INTO § VALUES "
        "('2024-10-27 02:30:00+02'), ('2024-10-27 02:30:00+01'), ('infinity'), "
        "('0001-01-01 00:00:00+14')",
        {
            "2024-10-27T00%3A30%3A00Z": {"id": b"2024-10-27T00:30:00Z"},
            "2024-10-27T01%3A30%3A00Z": {"id": b"2024-10-27T01:30:00Z"},
            "infinity": {"id": b"infinity"},
        },
        (("id", "out-of-range"),),
    ),
    "labels as keys": Schema(
        "CREATE TABLE § (id mood PRIMARY KEY); INSERT INTO § VALUES ('fine'), ('so''so'), (''), "
        "('a,b {x}')",
        {
            "fine": {"id": b"fine"},
            "so'so": {"id": b"so'so"},
            "": {"id": b""},
            "a,b%20%7Bx%7D": {"id": b"a,b {x}"},
        },
    ),
    "padded keys": Schema(
        "CREATE TABLE § (id CHAR(3) PRIMARY KEY); INSERT INTO § VALUES ('a'), ('ab'), ('abc')",
        {"a%20%20": {"id": b"a  "}, "ab%20": {"id": b"ab "}, "abc": {"id": b"abc"}},
    ),
    "a domain as a key": Schema(
        "CREATE DOMAIN §_d AS INT CHECK (VALUE > 0); CREATE TABLE § (id §_d PRIMARY KEY);"
        "INSERT INTO § VALUES (3), (1), (2)",
        _alike("1", "2", "3"),
    ),
    "a key that is checked at the commit": Schema(
        "CREATE TABLE § (id INT PRIMARY KEY DEFERRABLE INITIALLY DEFERRED);"
        "INSERT INTO § VALUES (3), (1), (2)",
        _alike("1", "2", "3"),
    ),
    "a key of 512 bytes and one more": Schema(
        "CREATE TABLE § (id TEXT PRIMARY KEY); INSERT INTO § VALUES ('a'), (repeat('0', 507)), "
        "(repeat('0', 508)), ('b')",
        _alike("a", "b", "0" * 507),
        (("id", "key-too-long"),),
    ),
    "case does not count for an extension": Schema(
        "CREATE TABLE § (id CITEXT PRIMARY KEY); INSERT INTO § VALUES ('b'), ('A'), ('C'), ('d')",
        _alike("b", "A", "C", "d"),
        needs="citext",
    ),
    # --- tables ---
    "partitions": Schema(
        "CREATE TABLE § (id INT, at DATE, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);"
        "CREATE TABLE §_a PARTITION OF § FOR VALUES FROM ('2023-01-01') TO ('2024-01-01');"
        "CREATE TABLE §_b PARTITION OF § DEFAULT; INSERT INTO § VALUES (1, '2023-05-05'), "
        "(1, '2024-05-05'), (2, '2023-06-06')",
        {
            "1:2023-05-05": {"id": b"1", "at": b"2023-05-05"},
            "1:2024-05-05": {"id": b"1", "at": b"2024-05-05"},
            "2:2023-06-06": {"id": b"2", "at": b"2023-06-06"},
        },
        source="key: [id, at]",
        key="§:{id}:{at}",
    ),
    "a materialized view with a key": Schema(
        "CREATE TABLE §_t (id INT PRIMARY KEY, v TEXT); INSERT INTO §_t VALUES (1, 'a');"
        "CREATE MATERIALIZED VIEW § AS SELECT * FROM §_t; CREATE UNIQUE INDEX ON § (id)",
        {"1": {"id": b"1", "v": b"a"}},
    ),
    "generated columns": Schema(
        "CREATE TABLE § (id INT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, a INT, "
        "b INT GENERATED ALWAYS AS (a * 2) STORED); INSERT INTO § (a) VALUES (21)",
        {"1": {"id": b"1", "a": b"21", "b": b"42"}},
    ),
    "columns that were dropped": Schema(
        "CREATE TABLE § (x INT, id INT PRIMARY KEY, y INT, v TEXT); INSERT INTO § VALUES "
        "(9, 1, 9, 'a'); ALTER TABLE § DROP COLUMN x; ALTER TABLE § DROP COLUMN y;"
        "ALTER TABLE § ADD COLUMN w TEXT DEFAULT 'd'",
        {"1": {"id": b"1", "v": b"a", "w": b"d"}},
    ),
    "reserved words": Schema(
        'CREATE SCHEMA "§ select.x"; CREATE TABLE "§ select.x"."Table" (id INT PRIMARY KEY, '
        '"order" TEXT, "user" TEXT); INSERT INTO "§ select.x"."Table" VALUES (1, \'a\', \'b\')',
        {"1": {"id": b"1", "order": b"a", "user": b"b"}},
        table='\'"§ select.x"."Table"\'',
    ),
    "signs in names": Schema(
        'CREATE TABLE "§ %s:x$1.é" (id INT PRIMARY KEY, "100%" TEXT, ":x" TEXT, "it\'s" TEXT, '
        '"q""q" TEXT, "back\\slash" TEXT, "$1" TEXT, "tick`" TEXT, "ünï 😀" TEXT, "%(x)s" TEXT);'
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
                "%(x)s": b"9",
            }
        },
        table="'\"§ %s:x$1.é\"'",
    ),
    "signs in a key's and a type's name": Schema(
        'CREATE DOMAIN "§ 100% :t" AS TEXT; CREATE TABLE § ("a b%s" "§ 100% :t" PRIMARY KEY);'
        "INSERT INTO § VALUES ('x'), ('y'), ('z')",
        {k: {"a b%s": k.encode()} for k in "xyz"},
        source="key: ['a b%s']",
        key="§:{a b%s}",
    ),
    "names of 63 bytes": Schema(
        f'CREATE TABLE "§{"é" * 29}x" (id INT PRIMARY KEY, {"c" * 63} TEXT);'
        f'INSERT INTO "§{"é" * 29}x" VALUES (1, 2)',
        {"1": {"id": b"1", "c" * 63: b"2"}},
        table=f"§{'é' * 29}x",
    ),
    "columns that differ in case": Schema(
        'CREATE TABLE § (id INT PRIMARY KEY, name TEXT, "Name" TEXT, "NAME" TEXT);'
        "INSERT INTO § VALUES (1, 'a', 'b', 'c')",
        {"1": {"id": b"1", "name": b"a", "Name": b"b", "NAME": b"c"}},
    ),
    "a thousand columns": Schema(
        f"CREATE TABLE § (id INT PRIMARY KEY, {', '.join(f'c{n} TEXT' for n in range(1_000))});"
        "INSERT INTO § (id, c0, c999) VALUES (1, 'a', 'b')",
        {"1": {"id": b"1", "c0": b"a", "c999": b"b"}},
    ),
    "a filter": Schema(
        "CREATE TABLE § (id INT PRIMARY KEY, v TEXT); INSERT INTO § VALUES (1, 'it''s :x %s'), "
        "(2, 'b'), (3, NULL)",
        {"1": {"id": b"1", "v": b"it's :x %s"}},
        source="key: [id], where: \"v = 'it''s :x %s'\"",
    ),
    # --- records of text, children ---
    "a string record": Schema(
        "CREATE TABLE § (id INT PRIMARY KEY, a TEXT, b FLOAT8, c BYTEA, d JSON, e NUMERIC);"
        "INSERT INTO § VALUES (1, E'é\"\\x01', '-0', '\\x00ff', '{\"x\": 1.10}', 1.10), "
        "(2, NULL, 'NaN', NULL, NULL, 'Infinity')",
        {
            "1": {
                "": b'"a":"\xc3\xa9\\"\\u0001","b":-0.0,"c":"AP8=","d":{"x": 1.10},"e":1.10,"id":1'
            },
            "2": {"": b'"b":"NaN","e":"Infinity","id":2'},
        },
        type="string",
    ),
    "JSON of 101 levels inside of JSON": Schema(
        "CREATE TABLE § (id INT PRIMARY KEY, d JSON);"
        f"INSERT INTO § VALUES (1, '{'[' * 100 + ']' * 100}'), (2, '{'[' * 101 + ']' * 101}'), "
        "(3, '3')",
        {"1": {"": f'"d":{"[" * 100 + "]" * 100},"id":1'.encode()}, "3": {"": b'"d":3,"id":3'}},
        (("d", "json-too-deep"),),
        type="string",
    ),
    "children with odd values": Schema(
        "CREATE TABLE § (id INT PRIMARY KEY);"
        + CHILD.format("t TIMESTAMPTZ, n NUMERIC, a INT[]")
        + "; INSERT INTO § VALUES (1), (2), (3); INSERT INTO §_child VALUES "
        "(1, 1, 'infinity', 'NaN', '{1,NULL}'), (2, 1, '2024-01-01 00:00:00+01', 1.10, NULL), "
        "(3, 2, '0044-01-01 BC', 1, NULL), (4, 9, NULL, NULL, NULL), (5, NULL, NULL, NULL, NULL)",
        {
            "1": {
                "id": b"1",
                "list": b'[{"a":"{1,NULL}","n":"NaN","t":"infinity"},'
                b'{"n":1.10,"t":"2023-12-31T23:00:00Z"}]',
            },
            "3": {"id": b"3", "list": b"[]"},
        },
        (("list.t", "out-of-range"),),
        more="children: {list: {table: §_child, join: {parent: id}, columns: [t, n, a]}}",
    ),
    # --- refused ---
    "a key of floats": keyed("DOUBLE PRECISION"),
    "a key of bytes": keyed("BYTEA"),
    "a key of truth values": keyed("BOOLEAN"),
    "a key of jsonb": keyed("JSONB"),
    "a key of intervals": keyed("INTERVAL"),
    "a key of times with zones": keyed("TIMETZ"),
    "a key of arrays": keyed("INT[]"),
    "a key of addresses": keyed("INET"),
    "a key of money": keyed("MONEY"),
    "nothing unique": Refused("CREATE TABLE § (id INT NOT NULL)", "key-not-unique"),
    "a view": Refused(
        f"{ROWS.replace('§', '§_t')}; CREATE VIEW § AS SELECT * FROM §_t", "key-not-unique"
    ),
    "a table that others inherit from": Refused(
        f"{ROWS}; CREATE TABLE §_c () INHERITS (§); INSERT INTO §_c VALUES (1, 'b')",
        "key-not-unique",
    ),
    "unique in part of the rows": Refused(
        "CREATE TABLE § (id INT NOT NULL, v INT); CREATE UNIQUE INDEX ON § (id) WHERE v > 1",
        "key-not-unique",
    ),
    "a unique expression": Refused(
        "CREATE TABLE § (id TEXT NOT NULL); CREATE UNIQUE INDEX ON § (lower(id))", "key-not-unique"
    ),
    "unique by a finer order": Refused(
        'CREATE TABLE § (id TEXT NOT NULL COLLATE ci); CREATE UNIQUE INDEX ON § (id COLLATE "C")',
        "key-not-unique",
    ),
    "unique only with another column": Refused(
        "CREATE TABLE § (id INT NOT NULL, b INT NOT NULL, PRIMARY KEY (id, b))", "key-not-unique"
    ),
    "a column that an index only includes": Refused(
        "CREATE TABLE § (id INT NOT NULL, b INT NOT NULL); CREATE UNIQUE INDEX ON § (b) "
        "INCLUDE (id)",
        "key-not-unique",
    ),
    "NULL in a unique key": Refused(
        "CREATE TABLE § (a INT, b INT, UNIQUE (a, b)); INSERT INTO § VALUES (1, 1), (1, NULL), "
        "(1, NULL), (NULL, 1), (NULL, NULL)",
        code="checks-failed",
        source="key: [a, b]",
        key="§:{a}:{b}",
    ),
    "one NULL in a unique key": Refused(
        "CREATE TABLE § (id INT, UNIQUE NULLS NOT DISTINCT (id)); INSERT INTO § VALUES (1), (NULL)",
        code="checks-failed",
        since=1500,
    ),
    "money without a form": typed("MONEY", "no-codec"),
    "a composite without a form": typed("pair", "no-codec"),
    "an array of money": typed("MONEY[]", "no-codec"),
    "a name of a table": typed("REGCLASS", "no-codec"),
    "a form of another type": typed("TEXT", "wrong-form", more="fields: {v: {as: epoch_ms}}"),
    "text of bytes": typed("BYTEA", "wrong-form", more="fields: {v: {as: text}}"),
    "a number of an endless date": typed("DATE", "wrong-form", more="fields: {v: {as: epoch_s}}"),
    "no such table": Refused("", "missing-table"),
    "a table in another case": Refused(ROWS, "missing-table", table="'S§'"),
    "a column in another case": typed("TEXT", "missing-column", more="fields: {V: {}}"),
    "a column of a reserved name": Refused(
        "CREATE TABLE § (id INT PRIMARY KEY, _h TEXT)", "reserved-field"
    ),
    "a function in a filter": Refused(
        ROWS, "where", code="invalid-file", source='key: [id], where: "pg_sleep(9) = 1"'
    ),
    "a cast in a filter": Refused(
        ROWS, "where", code="invalid-file", source='key: [id], where: "v::int = 1"'
    ),
    "a masked key": Refused(
        ROWS, "key-masked", code="invalid-file", more="fields: {id: {mask: sha256}}"
    ),
    "a join by floats": Refused(
        f"{ROWS}; CREATE TABLE §_child (id INT PRIMARY KEY, parent FLOAT8, v TEXT)",
        "join-type",
        more="children: {list: {table: §_child, join: {parent: id}, column: v}}",
    ),
    "a join of texts with numbers": Refused(
        f"{ROWS}; CREATE TABLE §_child (id INT PRIMARY KEY, parent TEXT, v TEXT)",
        "join-type",
        more="children: {list: {table: §_child, join: {parent: id}, column: v}}",
    ),
    "JSON that may be NULL in a list": Refused(
        f"{ROWS}; {CHILD.format('v JSONB')}",
        "json-null",
        more="children: {list: {table: §_child, join: {parent: id}, column: v}}",
    ),
    "children in the order of JSON": Refused(
        f"{ROWS}; {CHILD.format('v JSON')}",
        "order-type",
        more="children: {list: {table: §_child, join: {parent: id}, order_by: [v], columns: [v]}}",
    ),
    "money in a child": Refused(
        f"{ROWS}; {CHILD.format('v MONEY')}",
        "no-codec",
        more="children: {list: {table: §_child, join: {parent: id}, columns: [v]}}",
    ),
}

FIVE = (
    "CREATE TABLE § (id INT PRIMARY KEY, v TEXT);"
    "INSERT INTO § VALUES (1, 'a'), (2, 'b'), (3, 'c'), (4, 'd'), (5, 'e')"
)
GONE = "A table or column of the source is not there any more"
ANOTHER = "is another one than before"

DRIFTS: dict[str, Drift] = {
    "a column is added": Drift(FIVE, "ALTER TABLE § ADD COLUMN w TEXT", "column 'w' is new"),
    "a column is dropped": Drift(FIVE, "ALTER TABLE § DROP COLUMN v", GONE),
    "a column is renamed": Drift(FIVE, "ALTER TABLE § RENAME COLUMN v TO w", GONE),
    "a column is renamed and made anew": Drift(
        "CREATE TABLE § (id INT PRIMARY KEY, v TEXT, w TEXT); INSERT INTO § VALUES (1, 'a', 'x'), "
        "(2, 'b', 'x'), (3, 'c', 'x'), (4, 'd', 'x'), (5, 'e', 'x')",
        "ALTER TABLE § DROP COLUMN w; ALTER TABLE § RENAME COLUMN v TO w;"
        "ALTER TABLE § ADD COLUMN v TEXT DEFAULT 'wrong'",
        ANOTHER,
    ),
    "a column is of another type": Drift(
        FIVE, "ALTER TABLE § ALTER v TYPE INT USING 7", "column 'v' was text and is integer"
    ),
    "a column is shorter": Drift(
        FIVE,
        "ALTER TABLE § ALTER v TYPE VARCHAR(1)",
        "column 'v' was text and is character varying(1)",
    ),
    "a column may not be NULL": Drift(
        FIVE, "ALTER TABLE § ALTER v SET NOT NULL", "column 'v' became NOT NULL"
    ),
    "another table takes its place": Drift(
        FIVE,
        "ALTER TABLE § RENAME TO §_old; CREATE TABLE § (LIKE §_old INCLUDING ALL)",
        "another table of the same name took its place",
    ),
    "the table is gone": Drift(FIVE, "DROP TABLE §", GONE),
    "the table is truncated": Drift(FIVE, "TRUNCATE §"),
    "an index is added": Drift(FIVE, "CREATE INDEX ON § (v)", cells=("c", "d", "e")),
    "a default is added": Drift(
        FIVE, "ALTER TABLE § ALTER v SET DEFAULT 'x'", cells=("c", "d", "e")
    ),
    "rows are changed": Drift(
        FIVE, "UPDATE § SET v = 'new' WHERE id > 3; DELETE FROM § WHERE id = 5", cells=("c", "new")
    ),
    "a label is added": Drift(
        "CREATE TYPE §_e AS ENUM ('a'); CREATE TABLE § (id INT PRIMARY KEY, v §_e);"
        "INSERT INTO § SELECT n, 'a' FROM generate_series(1, 5) n",
        "ALTER TYPE §_e ADD VALUE 'new' BEFORE 'a'; COMMIT; UPDATE § SET v = 'new' WHERE id = 4",
        cells=("a", "new", "a"),
    ),
    "a partition is detached": Drift(
        "CREATE TABLE § (id INT PRIMARY KEY, v TEXT) PARTITION BY RANGE (id);"
        "CREATE TABLE §_a PARTITION OF § FOR VALUES FROM (0) TO (4);"
        "CREATE TABLE §_b PARTITION OF § FOR VALUES FROM (4) TO (9);"
        "INSERT INTO § VALUES (1, 'a'), (2, 'b'), (3, 'c'), (4, 'd'), (5, 'e')",
        "ALTER TABLE § DETACH PARTITION §_b",
        cells=("c",),
    ),
}
