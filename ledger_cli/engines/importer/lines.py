"""Lines of JSON into checked ticks: a fast path that proves a row good, an exact one for the rest.

`fast_sql` parses a line once, into typed fields. That alone is not strict: DuckDB reads "5" and true as numbers,
takes the first of two equal keys and drops unknown ones. The proof is a count: a line has exactly as many '"'
and ',' as its known fields account for if, and only if, it has no other field, no field twice and no quoted
number. A row without that proof goes to `core.tick_json.parse_tick`, which is the definition.
"""

from __future__ import annotations

import json
import re

from ledger_cli.core.chunks import LineChunk
from ledger_cli.core.events import ACTIVITY_LIMIT, TICK_LIMIT
from ledger_cli.core.tick_json import FIELDS, MILLISECONDS_LIMIT, RFC3339
from ledger_cli.engines.common.duck import ident, quoted

_TYPES = {
    "entityId": "VARCHAR",
    "tickId": "DOUBLE",
    "x": "DOUBLE",
    "y": "DOUBLE",
    "activity": "DOUBLE",
    "jitter": "DOUBLE",
    "meta": "JSON",
    "timestamp": "VARCHAR",
}
_PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")
_SAMPLE_LINES, _SAMPLE_SHARE, _EXTRA_LIMIT = 500, 0.02, 32
_DIGITS = len(str(MILLISECONDS_LIMIT)) - 1

UNWRAP = {
    "none": "SELECT row, line, raw, marks FROM chunk",
    "kcat": """
        SELECT row, line,
               CASE WHEN json_type(j, '/payload') = 'OBJECT' THEN json_extract(j, '/payload')::VARCHAR
                    ELSE json_extract_string(j, '/payload') END AS raw,
               try_cast(json_extract_string(j, '/partition') AS BIGINT) AS partition,
               try_cast(json_extract_string(j, '/offset') AS BIGINT) AS "offset"
        FROM (SELECT row, line, CASE WHEN json_valid(raw) THEN raw END AS j FROM chunk
              WHERE NOT regexp_full_match(raw, '[ \\t\\r\\n]*'))""",
    # timestamp, partition, offset, headers, key, value, each but the value optional, with tabs between them.
    "kafka-console": """
        SELECT row, line, CASE WHEN NOT contains(raw, chr(9)) OR json_valid(raw) THEN raw
                    ELSE string_split(rtrim(raw, chr(13) || chr(10)), chr(9))[-1] END AS raw,
               try_cast(regexp_extract(raw, '(?:^|\\t)Partition:(\\d+)\\t', 1) AS BIGINT) AS partition,
               try_cast(regexp_extract(raw, '(?:^|\\t)Offset:(\\d+)\\t', 1) AS BIGINT) AS "offset"
        FROM chunk WHERE NOT regexp_full_match(raw, '[ \\t\\r\\n]*')""",
}
"""How the text of a tick is taken out of a line, with its partition and offset."""


def extra_keys(chunk: LineChunk) -> tuple[str, ...]:
    """Unknown plain keys that many of the first lines have: the fast path takes them along."""
    seen: dict[str, int] = {}
    looked = 0
    for row in range(min(_SAMPLE_LINES, chunk.rows)):
        try:
            event = json.loads(chunk.raw(row))
        except (ValueError, RecursionError):
            continue
        if isinstance(event, dict):
            looked += 1
            for key in event:
                if key not in FIELDS and _PLAIN_KEY.fullmatch(key):
                    seen[key] = seen.get(key, 0) + 1
    keys = [key for key, times in seen.items() if times >= _SAMPLE_SHARE * looked]
    # The fields of a DuckDB struct do not differ by case alone.
    lowered = [key.lower() for key in (*keys, *FIELDS)]
    return tuple(sorted(key for key in keys if lowered.count(key.lower()) == 1))[:_EXTRA_LIMIT]


def fast_sql(lines: str, extras: tuple[str, ...], guarded: bool) -> str:
    """SQL that makes of `lines` (row, line, raw, marks) ticks with a column `ok`, true where the row is proved.

    `guarded`: for lines that may not be JSON at all; without, one such line makes the query fail.
    """
    types = {**_TYPES, **dict.fromkeys(extras, "JSON")}
    parsed = f"from_json(raw, {quoted(json.dumps(types))})"
    if guarded:
        # Not TRY: one line that is no JSON makes it run a whole vector again row by row.
        parsed = f"CASE WHEN json_valid(raw) THEN {parsed} END"
    fields = ", ".join(f"p.{ident(key)} AS {ident('k_' + key)}" for key in types)
    return f"""
    SELECT row, line, coalesce({_proof(extras)}, false) AS ok, k_entityId AS entity_id,
        CASE WHEN k_tickId >= 0 AND k_tickId < {TICK_LIMIT} THEN k_tickId::BIGINT END AS tick_id,
        k_x AS x, k_y AS y, k_activity AS activity, k_jitter AS jitter, stored_meta AS meta, us AS "timestamp"
    FROM (SELECT *, {_meta(extras)} AS stored_meta, {microseconds_sql("k_timestamp")} AS us
          FROM (SELECT *, k_meta::VARCHAR AS m
                FROM (SELECT row, line, marks, raw, {fields}
                      FROM (SELECT row, line, marks, raw, {parsed} AS p FROM ({lines})))))"""


def microseconds_sql(text: str) -> str:
    """µs since 1970 of RFC 3339 text or digits of milliseconds; null for anything else.

    The usual shape is read by strptime, which is strict about all but a blank in front; the others cost more.
    """
    return f"""
    CASE WHEN {text} LIKE '____-__-__T__:__:__Z' AND {text} >= '0'
             THEN epoch_us(try_strptime({text}, '%Y-%m-%dT%H:%M:%SZ'))
         WHEN regexp_full_match({text}, {quoted(RFC3339)}) THEN epoch_us(try_cast({text} AS TIMESTAMPTZ))
         WHEN regexp_full_match({text}, '-?\\d{{1,{_DIGITS}}}') THEN {text}::BIGINT * 1000 END"""


def line_marks_of(text: str) -> str:
    """SQL for the `marks` of a line, as `core.chunks` counts them."""
    return f"CASE WHEN contains({text}, '\\u002') THEN -1 ELSE {marks_of(text)} END::INTEGER"


def marks_of(text: str) -> str:
    """SQL for the number of '"' and ',' in a text."""
    return f"(length({text}) - length(translate({text}, '\",', '')))"


def _proof(extras: tuple[str, ...]) -> str:
    """The row is a tick, and the marks of its line are those of its known fields: nothing else is in it.

    A whole event has 8 keys (16 quotes), 7 commas, and the quotes of entityId and of a textual timestamp.
    An entityId with a quote in it is not proved: it may be the text of an object, as which it is read.
    """
    extra_marks = "".join(
        f" + CASE WHEN {ident('k_' + key)} IS NULL THEN 0 ELSE 3 + {marks_of(ident('k_' + key) + '::VARCHAR')} END"
        for key in extras
    )
    numbers = ("tickId", "x", "y", "activity", "jitter")
    zero_or_one = " OR ".join(f"k_{name} IN (0, 1)" for name in numbers)
    return f"""
        marks = 27 - CASE WHEN k_jitter IS NULL THEN {_absent("jitter", extras)} ELSE 0 END
              - CASE WHEN m IS NULL THEN {_absent("meta", extras)} ELSE 0 END
              - CASE WHEN k_timestamp IS NULL THEN 2 + {_absent("timestamp", extras)}
                     WHEN contains(k_timestamp, ':') THEN 0 ELSE 2 END
              + CASE WHEN m IS NULL OR m = '{{}}' THEN 0 ELSE {marks_of("m")} END
              + CASE WHEN contains(k_entityId, '"') THEN NULL
                     WHEN contains(k_entityId, ',') THEN {marks_of("k_entityId")} ELSE 0 END{extra_marks}
        AND k_entityId <> '' AND {_quoted_entity(extras)}
        AND k_tickId >= 0 AND k_tickId < {TICK_LIMIT} AND k_tickId = floor(k_tickId)
        AND k_activity BETWEEN 0 AND {ACTIVITY_LIMIT!r} AND isfinite(k_x) AND isfinite(k_y)
        AND (k_jitter IS NULL OR isfinite(k_jitter))
        AND (m IS NULL OR starts_with(m, '{{'))
        AND (k_timestamp IS NULL OR us IS NOT NULL) AND (us IS NULL OR us >= -62135596800000000)
        AND {unique_keys("stored_meta")}
        -- true and false are read as 1 and 0
        AND CASE WHEN {zero_or_one}
            THEN NOT contains(raw, 'true') AND NOT contains(raw, 'false')
              OR NOT contains(raw, '\\')
                 AND NOT regexp_matches(raw, '"({"|".join(numbers)})"\\s*:\\s*(true|false)') ELSE true END"""


def _absent(name: str, extras: tuple[str, ...]) -> str:
    """Marks less than a whole event has, of a field that is null: none where it is written as null, else 3.

    That null must be the field's own: with the name inside meta or an extra field nothing is proved.
    """
    return f"""CASE WHEN regexp_matches(raw, '"{name}"\\s*:\\s*null') AND NOT ({_inside(name, extras)})
        THEN 0 ELSE 3 END"""


def _quoted_entity(extras: tuple[str, ...]) -> str:
    """entityId is written as a string. A number there lacks two marks, which a quoted number elsewhere could give."""
    # CASE, since AND and OR work out all of their sides for every row.
    inside = _inside("entityId", extras)
    if not extras:
        inside = f"CASE WHEN m IS NULL OR m = '{{}}' THEN false ELSE {inside} END"
    return f"""CASE WHEN {inside} THEN false WHEN contains(raw, '"entityId":"') THEN true
            ELSE regexp_matches(raw, '"entityId"\\s*:\\s*"') END"""


def _inside(name: str, extras: tuple[str, ...]) -> str:
    """The name stands inside meta or an extra field, so that finding it in the line proves nothing."""
    texts = ["m", *(f"{ident('k_' + key)}::VARCHAR" for key in extras)]
    return " OR ".join(f"coalesce(contains({text}, '{name}'), false)" for text in texts)


def unique_keys(text: str) -> str:
    """No key twice at any depth and no number beyond binary64, as far as is cheap to see.

    Proved are texts with one key at most and flat objects of unlike keys.
    """
    return f"""CASE WHEN {text} IS NULL THEN true
            WHEN regexp_matches({text}, '(?i)\\[.*\\[|[:,\\[]-?(nan|inf)|e\\+?\\d{{3}}') THEN false
            WHEN length({text}) >= 200 AND regexp_matches({text}, '\\d{{200}}') THEN false
            WHEN {text} NOT LIKE '%:%:%' THEN true
            WHEN length({text}) >= 4096 OR position('{{' IN {text}[2:]) > 0 THEN false
            ELSE list_unique(json_keys({text})) = len(json_keys({text})) END"""


def _meta(extras: tuple[str, ...]) -> str:
    """The stored meta: that of the event, and the unknown fields taken along."""
    own = "CASE WHEN m IS NULL OR m = '{}' THEN NULL ELSE m END"
    if not extras:
        return own
    parts = ", ".join(f"'{json.dumps(key)}:' || {ident('k_' + key)}::VARCHAR" for key in extras)
    none = " AND ".join(f"{ident('k_' + key)} IS NULL" for key in extras)
    inner = f"concat_ws(',', CASE WHEN starts_with(m, '{{') AND m <> '{{}}' THEN m[2:-2] END, {parts})"
    return f"CASE WHEN {none} THEN {own} ELSE '{{' || {inner} || '}}' END"
