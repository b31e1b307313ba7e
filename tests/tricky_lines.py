"""Lines that are easily misread, with what has to become of them; and random ones of the same kind.

The fast path of the importer proves a line by counting its quotes and commas. `random_line` therefore makes
lines in which several oddities may balance each other in that count.
"""

from __future__ import annotations

import random

GOOD = (
    b'{"entityId":"E1","tickId":7,"x":1.5,"y":2,"activity":0.25,"jitter":0.5,"meta":{},'
    b'"timestamp":"2026-01-29T19:21:00Z"}'
)


def altered(old: str | bytes, new: str | bytes) -> bytes:
    """The good line with one piece replaced."""
    sought = old.encode() if isinstance(old, str) else old
    assert sought in GOOD
    return GOOD.replace(sought, new.encode() if isinstance(new, str) else new, 1)


def _time(text: str) -> bytes:
    return altered("2026-01-29T19:21:00Z", text)


def _raw_time(text: str) -> bytes:
    return altered('"2026-01-29T19:21:00Z"', text)


BLANK = [b"", b" \t", b"\r"]

ACCEPTED = [
    GOOD,
    GOOD + b"\r",
    b" \t" + GOOD + b" ",
    GOOD.replace(b",", b" , ").replace(b'":', b'" : ', 7),
    *(altered("7", text) for text in ("8.0", "8e0", "-0.0", "0", "1", "9007199254740991")),
    *(altered("0.25", text) for text in ("0", "-0.0", "1", "1e6", "1000000", "5e-324", "1e-400")),
    *(altered("1.5", text) for text in ("0", "1", "-1e308", "1.7976931348623157e308", "9" * 30, "-0", "1E2")),
    *(altered("0.5", text) for text in ("null", "0", "-1", "true".replace("true", "1"))),
    *(altered('"E1"', text) for text in ('"E\\u00e9\\"1,"', '"Eé,,"', '"E\\u002c"', '"a\\u0000b"', '"\\\\"', '" "')),
    altered('"E1"', '"\\ud83d\\ude00"'),
    altered('"E1"', '"{\\"entityId\\":\\"x\\"}"'),
    altered("{}", "null"),
    altered('"meta":{},', ""),
    altered('"jitter":0.5,', ""),
    altered(',"timestamp":"2026-01-29T19:21:00Z"', ""),
    altered('"jitter":0.5,"meta":{},"timestamp":"2026-01-29T19:21:00Z"', '"jitter" : null,"meta":\tnull'),
    altered("{}", '{"a":1,"b":[1,2,{"c":3}]}'),
    altered("{}", '{"a":1,"b":2}'),
    altered("{}", '{"a":"x,info","b":"nan"}'),
    altered("{}", '{"jitter":null,"x":true,"entityId":"y"}'),
    altered('0.5,"meta":{}', 'null,"meta":{"jitter":null},"u":1'),
    altered('"meta":{}', '"\\u006deta":{"\\u006aitter":null}'),
    altered("{}", '{"x":true,"y":1}').replace(b"1.5", b"1"),
    altered("{}", '{"a":"' + "z," * 40_000 + '"}'),
    altered("{}", '{"a":' + "9" * 250 + "}"),
    altered("{}", '{"a":1e99,"b":1e-999}'),
    altered("{}", '{"a":' + "[" * 50 + "]" * 50 + "}"),
    altered('"jitter":0.5', '"q":1'),
    altered('"jitter":0.5', '"a\\"jitter":null'),
    altered('"activity"', '"\\u0061ctivity"'),
    altered('"x":1.5', '"X":3,"x":1.5'),
    altered('"meta":{}', '"kind":"wolf","meta":{"kind":"cat"}'),
    *map(_raw_time, ("1769714460000", "1769714460000.0", "-5", "0", "null", "99999999999999")),
    *map(
        _time,
        (
            "2026-01-29T19:21:00.123456+02:00",
            "2026-01-29T19:21:00.999999999-23:59",
            "2026-01-29t19:21:00.5z",
            "2026-01-29 19:21:00Z",
            "1500-01-29T19:21:00Z",
            "0001-01-01T00:00:00+01:00",
            "9999-12-31T23:59:59-01:00",
            "2024-02-29T00:00:00Z",
            "2026-01-29T19:21:00-00:00",
        ),
    ),
]

REFUSED = [
    *((altered("1.5", text), "wrong_type") for text in ('"5"', "true", "{}", "[1]", '"1.5"')),
    *((altered("0.25", text), "wrong_type") for text in ("true", " false", '"0.25"')),
    *((altered("0.5", text), "wrong_type") for text in ("true", '"1"', "{}", "[null]", '""')),
    *((altered("7", text), "wrong_type") for text in ("8.5", '"8"', "true", "false", "[]")),
    (altered('"x":1.5', '"\\u0078":true'), "wrong_type"),
    (altered('"x":1.5,', '"x" :\ttrue,'), "wrong_type"),
    *((altered("7", text), "tick_id_out_of_range") for text in ("-1", "-0.5", "9007199254740992", "1e400", "9" * 26)),
    (altered("7", "NaN"), "tick_id_out_of_range"),
    (altered('"tickId":7,', ""), "tick_id_missing"),
    (altered("7", "null"), "tick_id_missing"),
    (altered('"tickId"', '"tickid"'), "tick_id_missing"),
    (altered('"activity":0.25,', ""), "activity_missing"),
    (altered("0.25", "null"), "activity_missing"),
    *((altered("0.25", text), "activity_negative") for text in ("-0.1", "-5e-324", "-1e308")),
    *((altered("0.25", text), "activity_too_large") for text in ("1000000.0000000001", "1000001", "1e308")),
    *((altered("0.25", text), "activity_not_finite") for text in ("NaN", "Infinity", "-Infinity", "1e999")),
    *((altered("1.5", text), "position_not_finite") for text in ("NaN", "-Infinity", "1e999", "9" * 400)),
    (altered('"y":2,', ""), "position_missing"),
    (altered('"y":2', '"y":null'), "position_missing"),
    (altered('"x":1.5', '"X":3').replace(b'"y":2', b'"Y":2'), "position_missing"),
    *((altered('"E1"', text), "entity_id_missing") for text in ('""', "null")),
    (altered('"entityId":"E1",', ""), "entity_id_missing"),
    (b"{}", "entity_id_missing"),
    *((altered('"E1"', text), "wrong_type") for text in ("5", '["a,b"]', "true", "{}", "[1,2]")),
    (altered('"E1"', "5").replace(b"1.5", b'"5"'), "wrong_type"),
    (altered('"E1"', '{"entityId":"x"}').replace(b"1.5", b'"1.5"'), "wrong_type"),
    (altered('"E1"', '{"jitter":null,"entityId":"x"}').replace(b'"jitter":0.5', b'"u":"1"'), "wrong_type"),
    (altered('"E1"', '"a\\u002c\\u002c"').replace(b"1.5", b'"1.5"'), "wrong_type"),
    (altered('"E1"', '"a\\u0022\\u0022"').replace(b"1.5", b'"1.5"'), "wrong_type"),
    *((altered("{}", text), "wrong_type") for text in ("[]", '"{}"', "1", "false")),
    *((altered("{}", text), "broken_json") for text in ('{"a":1,"a":2}', '{"a":{"b":1,"b":1}}', '{"a":1,"\\u0061":2}')),
    (altered("{}", '{"a":[{"b":1,"\\u0062":1}]}'), "broken_json"),
    *((altered("{}", text), "broken_json") for text in ('{"a":NaN}', '{"a":[1,-Infinity]}', '{"a":1e999}', '{"a":1,}')),
    (altered("{}", '{"a":' + "9" * 290 + "e99}"), "broken_json"),
    (altered("{}", '{"a":' + "9" * 400 + ".5}"), "broken_json"),
    (altered("{}", '{"a":"\\ud800"}'), "broken_json"),
    (altered("{}", "{" * 5000), "broken_json"),
    (altered("{}", '{"a":' + "[" * 100_000 + "]" * 100_000 + "}"), "broken_json"),
    (altered("0.5", "1e999"), "jitter_not_finite"),
    (altered("0.5", "NaN"), "jitter_not_finite"),
    (altered('"jitter":0.5,', '"x":1.5,'), "broken_json"),
    (altered('"x":1.5', '"x":1.5,"x":1.5'), "broken_json"),
    (altered('"x":1.5', '"x":1.5,"\\u0078":1'), "broken_json"),
    (altered('"activity":0.25', '"activity":0.25,"\\u0061ctivity":9'), "broken_json"),
    (altered('"meta":{}', '"meta":{},"meta":{}'), "broken_json"),
    (altered('"E1"', '"E\\u002c\\u002c\\u002c"').replace(b'"x":1.5', b'"x":1.5,"x":1'), "broken_json"),
    (altered("{}", '{"a":"\\u002c\\u0022"}').replace(b'"x":1.5', b'"x":1.5,"x":1'), "broken_json"),
    (altered('"E1"', '"E\\ud800"'), "broken_json"),
    *((altered("0.25", text), "broken_json") for text in ("00.25", ".25", "+1", "0x1", "1.", "1_0", "nan", "inf", "")),
    *((text, "broken_json") for text in (GOOD[:-1] + b",}", GOOD + b" x", GOOD + GOOD, GOOD[:40], GOOD + b"\0")),
    *((text, "broken_json") for text in (b"[1]", b"5", b"null", b"nul", b'"a"', b"{", b"\0", b"\x0c", b"\xc2\xa0")),
    (GOOD.replace(b'"', b"'"), "broken_json"),
    (b"//c" + GOOD, "broken_json"),
    (b"\xef\xbb\xbf" + GOOD, "broken_json"),
    *((altered("E1", text), "broken_json") for text in (b"E\t", b"E\x00")),
    *((altered("E1", text), "not_utf8") for text in (b"E\xff", b"E\xed\xa0\x80", b"\xe6\x97")),
    (altered("E1", b"E\xff").replace(b"1.5", b'"1.5"'), "not_utf8"),
    *(
        (_raw_time(text), "bad_timestamp")
        for text in ('"1769714460000"', "1.5", "1e14", "-100000000000000", "NaN", '""')
    ),
    *((_raw_time(text), "wrong_type") for text in ("true", "{}", '["2026-01-29T19:21:00Z"]')),
    *(
        (_time(text), "bad_timestamp")
        for text in (
            "2026-01-29T25:21:00Z",
            "2026-01-29T24:00:00Z",
            "2026-01-29T19:60:00Z",
            "2026-01-29T19:21:60Z",
            "2026-01-29T 9:21:00Z",
            "2026- 1-29T19:21:00Z",
            "2026-01- 9T19:21:00Z",
            "2026-01-29T19:21:-1Z",
            "0000-01-29T19:21:00Z",
            " 026-01-29T19:21:00Z",
            "+026-01-29T19:21:00Z",
            "2026-13-01T00:00:00Z",
            "2026-00-01T00:00:00Z",
            "2026-02-30T00:00:00Z",
            "2025-02-29T00:00:00Z",
            "2026-01-29",
            "2026-01-29T19:21:00",
            "2026-01-29T19:21Z",
            "2026-01-29T19:21:00.Z",
            "2026-01-29T19:21:00.1234567890Z",
            "2026-01-29T19:21:00+24:00",
            "2026-01-29T19:21:00+01:60",
            "2026-01-29T19:21:00+0100",
            "2026-01-29T19:21:00 Z",
            "2026-01-29T19:21:00Z ",
            "2026-01-29T19:21:00\\n",
            "２０２６-01-29T19:21:00Z",
            "infinity",
            "epoch",
        )
    ),
]

# --- random lines ---------------------------------------------------------------------------------

FIELDS = ("entityId", "tickId", "x", "y", "activity", "jitter", "meta", "timestamp")
_USUAL = {
    "entityId": ['"E1"', '"a,b"', '"é"', '"E\\u002c"', '"q\\"q"'],
    "tickId": ["7", "8.0", "0", "1", "-0.0"],
    "x": ["1.5", "0", "1"],
    "y": ["2", "-3e2"],
    "activity": ["0.25", "1", "0"],
    "jitter": ["0.5", "null", "0", "1"],
    "meta": ["{}", "null", '{"a":1}', '{"a":1,"b":"c"}'],
    "timestamp": ['"2026-01-29T19:21:00Z"', "null", "1769714460000", '"2026-01-29T19:21:00.5+01:00"'],
}
_STRINGS = ['"5"', '"1"', '"0"', '"x"', '""', '"true"', '"\\u0022"', '"\\u002c,"', '"entityId"', '"jitter\\":null"']
_NUMBERS = ["5", "1", "0", "1.5", "1e999", "-1", "NaN", "Infinity", "9" * 30, "2026"]
_LISTS = ["[]", "[1,2]", "[null]", '["a"]', '["a","b"]', "[1,]"]


def random_line(chance: random.Random, extras: tuple[str, ...] = ()) -> bytes:
    """A line with up to four oddities. `extras`: unknown fields that many lines have."""
    odd = set(chance.choices(FIELDS, k=chance.choice([0, 0, 1, 1, 2, 2, 3, 4])))
    members = [_member(chance, name, name in odd) for name in FIELDS]
    for _ in range(chance.choice([0, 0, 0, 1, 1, 2])):
        name = chance.choice(["u", "v", "kind", *FIELDS])
        members.insert(chance.randrange(len(members) + 1), f"{_key(chance, name)}{_space(chance)}:{_value(chance)}")
    taken = [name for name in extras if chance.random() < 0.7]
    members += [f'"{name}":{_value(chance)}' if chance.random() < 0.4 else f'"{name}":"wolf"' for name in taken]
    if chance.random() < 0.1:
        chance.shuffle(members)
    text = ("," + _space(chance)).join(member for member in members if member)
    return ("{" + _space(chance) + text + chance.choice([""] * 20 + [","]) + "}").encode()


def _member(chance: random.Random, name: str, odd: bool) -> str:
    value = chance.choice(_USUAL[name]) if chance.random() < 0.5 else _USUAL[name][0]
    if odd:
        draw = chance.random()
        if draw < 0.2:
            return ""
        value = _value(chance) if draw < 0.8 or '"' in value else f'"{value}"'
    return f"{_key(chance, name)}{_space(chance)}:{_space(chance)}{value}"


def _key(chance: random.Random, name: str) -> str:
    draw = chance.random()
    if draw < 0.03:
        at = chance.randrange(len(name))
        return f'"{name[:at]}\\u{ord(name[at]):04x}{name[at + 1 :]}"'
    if draw < 0.05:
        return f'"a\\"{name}"'
    return f'"{name.upper()}"' if draw < 0.06 else f'"{name}"'


def _space(chance: random.Random) -> str:
    return chance.choice([""] * 12 + [" ", "\t", "  "])


def _value(chance: random.Random, depth: int = 0) -> str:
    draw = chance.random()
    if draw < 0.12:
        return "null"
    if draw < 0.2:
        return chance.choice(["true", "false"])
    if draw < 0.35:
        return chance.choice(_STRINGS)
    if draw < 0.55:
        return chance.choice(_NUMBERS)
    if draw < 0.62 or depth > 2:
        return chance.choice(_LISTS)
    members = chance.choice([0, 1, 1, 1, 2, 2, 3])
    names = [chance.choice([*FIELDS, "u", "v"]) for _ in range(members)]
    inner = ",".join(f"{_key(chance, name)}{_space(chance)}:{_value(chance, depth + 1)}" for name in names)
    return "{" + inner + chance.choice([""] * 15 + [","]) + "}"
