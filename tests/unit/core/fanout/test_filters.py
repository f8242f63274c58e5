"""Filters: their results, their errors, and that the cost of both is limited."""

import re
from typing import Any

import pytest

from gateway.core.fanout.cel import VALUES_MAX
from gateway.core.fanout.filters import DEPTH_MAX, NODES_MAX, TEXT_CHARS_MAX, FilterError, parse


EVENT: dict[str, Any] = {
    "channel": "logs",
    "event_type": "log.error",
    "timestamp": "2026-01-01T00:00:00Z",
    "trace": "t-1",
    "data": {
        "level": "error",
        "service": "api-gateway",
        "code": 502,
        "ms": 12.5,
        "one": 1.0,
        "ok": True,
        "off": False,
        "nothing": None,
        "list": [1, "a", None, True],
        "empty": [],
        "a-b": "dashed",
        "if": "reserved",
        "size": 3,
        "map": {"k": 1, "list": [0]},
        "same": {"list": [0.0], "k": 1.0},
        "text": "ä\U0001f600",
        "big": 2**53 + 1,
    },
}


def deep(levels: int) -> object:
    value: object = 0
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    "text",
    [
        "data.level == 'error' && data.service.startsWith('api')",
        "channel == 'logs' && event_type == 'log.error' && timestamp > '2025' && trace == 't-1'",
        # literals
        "data.code == 0x1F6 && data.code == 0502 && data.ms == 1.25e1 && data.ms == 125E-1",
        "data.ms > .5 && -1 < 0 && -1.5 < -1 && - 1 == -1 && -data.code == -502 && --1 == 1",
        "-9223372036854775808 < 9223372036854775807",
        "true && !false && !!data.ok && data.nothing == null",
        r"""'\a\b\f\n\r\t\v\\\'\"\`\?' == "\x07\x08\u000c\U0000000A\015\X09\013\134\047\042\140?" """,
        "data.text == 'ä\U0001f600' && data.text == '\\u00e4\\U0001F600' && size(data.text) == 2",
        "\"it's\" == 'it\\'s' && '' == \"\" && '//' != '/'",
        "data.list == [1, 'a', null, true] && data.empty == [] && [[1], []] == [[1.0], []]",
        " \t\r\n\f data . level\n== 'error' ",
        # fields and indexes
        'data["a-b"] == "dashed" && data.if == "reserved" && data.map.list[0] == 0',
        "data.list[data.one] == 'a' && data.list[1.0] == 'a' && data['map']['k'] == 1",
        "has(data.level) && has(data.nothing) && !has(data.gone) && has((data.map.k))",
        "data.size == 3 && data.list.size() == 4 && size(data.map) == 2 && 'ab'.size() == 2",
        # comparison
        "data.code >= 500 && data.code < 502.5 && data.one == 1 && data.ms != 12 && 1 <= 1.0",
        "data.big > 9007199254740992.0 && data.big != 9007199254740992.0",
        "'a' < 'b' && '\U0001f600' > '\uffff' && false < true && !(true < true)",
        "data.ok != 1 && data.off != 0 && data.nothing != 0 && '1' != 1 && [true] != [1]",
        "data.map == data.same && data.map != data.list && data.list != 'a' && data.list != data",
        "[1, 2] != [1] && [1, 2] != [2, 1] && data.map != data",
        "1 < 2 == true && 1 == 1 != false",
        # in
        "data.level in ['error', 'fatal'] && !(data.level in ['info']) && !(1 in [])",
        "1.0 in data.list && null in data.list && true in data.list && !(0 in data.list)",
        "!(true in [1]) && !(1 in [true]) && [1] in [[2], [1.0]]",
        "'k' in data.map && !('z' in data.map) && !(1 in data.map)",
        # strings
        "data.service.endsWith('way') && data.service.contains('-') && ''.contains('')",
        "!data.service.startsWith('gateway') && 'error'.startsWith(data.level)",
        # precedence
        "true || true && false",
        "!false && true == true",
        "false ? false : true ? true : false",
        "data.ok ? data.level == 'error' : data.gone",
        "true || false ? true : false",
        "(false ? false : true) && !(data.code < 500 || data.off)",
    ],
)
def test_a_filter_matches(text: str) -> None:
    chosen = parse(text)

    assert chosen.matches(EVENT)
    assert chosen.errors == 0


@pytest.mark.parametrize(
    "text",
    [
        # missing fields
        "gone == 1",
        "data.gone == null",
        "data.map.gone.gone == 1",
        "has(data.gone.x)",
        "data.list[4] == 1",
        "data.list[-1] == true",
        "data.empty[0] == 1",
        "data['gone'] == 1",
        "[data.gone] == []",
        "data.gone in []",
        # operands of the wrong type
        "data.level.x == 1",
        "data.nothing.x == 1",
        "data.level[0] == 'e'",
        "data.list['0'] == 1",
        "data.list[0.5] == 1",
        "data.list[true] == 'a'",
        "data.map[1] == 1",
        "data.map[null] == 1",
        "data.map[[]] == 1",
        "has(data.level.x)",
        "has(data.list.x)",
        "data.level < 1",
        "data.ok < 1",
        "data.code > false",
        "null < null",
        "[1] < [2]",
        "data.map <= data.map",
        "'e' in 'error'",
        "1 in 1",
        "null in data.map",
        "[1] in data.map",
        "!1",
        "!data.level",
        "-true == -1",
        "-'a' == 'a'",
        "size(1) == 1",
        "size(null) == 0",
        "data.code.size() == 1",
        "data.code.startsWith('5')",
        "data.level.startsWith(1)",
        "data.level.endsWith(data.list)",
        "data.level.contains(null)",
        "1 ? true : true",
        "data.gone ? true : true",
        "true ? data.gone : true",
        # the result is not a boolean
        "data.level",
        "data.nothing",
        "1",
        "[true]",
    ],
)
def test_an_error_or_no_boolean_does_not_match_and_is_counted(text: str) -> None:
    chosen = parse(text)

    assert not chosen.matches(EVENT)
    assert not chosen.matches(EVENT)
    assert chosen.errors == 2


@pytest.mark.parametrize("wrong", ["data.gone", "1", "data.level < 1", "'true'"])
def test_a_side_that_decides_alone_outweighs_an_error_on_the_other(wrong: str) -> None:
    for text, expected, errors in [
        (f"{wrong} && false", False, 0),
        (f"false && {wrong}", False, 0),
        (f"{wrong} && true && {wrong} && false", False, 0),
        (f"{wrong} || true", True, 0),
        (f"true || {wrong}", True, 0),
        (f"{wrong} || false || {wrong} || true", True, 0),
        (f"({wrong} || false) && false", False, 0),
        (f"{wrong} && true", False, 1),
        (f"true && {wrong}", False, 1),
        (f"{wrong} || false", False, 1),
        (f"false || {wrong}", False, 1),
        (f"!({wrong} && true)", False, 1),
        (f"!({wrong} && false)", True, 0),
    ]:
        chosen = parse(text)
        assert (chosen.matches(EVENT), chosen.errors) == (expected, errors), text


@pytest.mark.parametrize(
    ("text", "position", "message"),
    [
        ("", 0, "expected an operand"),
        ("  ", 2, "expected an operand"),
        ("data.level == ", 14, "expected an operand"),
        ("data.level = 'error'", 11, "unexpected character"),
        ("data.code + 1 > 2", 10, "unexpected character"),
        ("data.code - 1 > 2", 10, "expected an operator"),
        ("a & b", 2, "unexpected character"),
        ("a and b", 2, "expected an operator"),
        ("a\u00a0== 1", 1, "unexpected character"),
        ("a == 1 // why", 7, "unexpected character"),
        ("{'a': 1}", 0, "unexpected character"),
        ("a == 'b", 5, "unterminated"),
        ("a == 'b\\'", 5, "unterminated"),
        ("a == 'b\n'", 5, "unterminated"),
        ("a == '''b'''", 7, "expected an operator"),
        ("a == r'b'", 6, "expected an operator"),
        ("a == 'x\\d'", 7, "escape"),
        ("a == '\\ud800'", 6, "escape"),
        ("a == '\\U00110000'", 6, "escape"),
        ("a == '\\400'", 6, "escape"),
        ("a == '\\x4'", 6, "escape"),
        ("(a == 1", 7, "expected `)`"),
        ("a == 1)", 6, "expected an operator"),
        ("[1, 2", 5, "expected `]`"),
        ("[1,]", 3, "expected an operand"),
        ("a[0 == 1", 8, "expected `]`"),
        ("a ? b", 5, "expected `:`"),
        ("a ? b ? c : d : e", 6, "expected `:`"),
        ("a.", 2, "name of a field"),
        ("a..b", 2, "name of a field"),
        ("a.in", 2, "name of a field"),
        ("a.0", 1, "expected an operator"),
        (".a == 1", 0, "expected an operand"),
        ("in == 1", 0, "expected an operand"),
        ("!-a", 1, "expected an operand"),
        ("-!a", 1, "expected an operand"),
        ("a b", 2, "expected an operator"),
        ("1u == 1", 1, "expected an operator"),
        ("0x == 1", 1, "expected an operator"),
        ("a == 9223372036854775808", 5, "64 bits"),
        ("a == -9223372036854775809", 6, "64 bits"),
        ("a == 1e999", 5, "out of range"),
        ("a && offset > 1", 5, "`offset` is not available"),
        ("type == 'event'", 0, "`type` is not available"),
        ("if == 1", 0, "`if` is not available"),
        ("data.x.matches('a+')", 7, "unknown function `matches`"),
        ("data.list.all(x, x > 1)", 10, "unknown function `all`"),
        ("int(data.x) == 1", 0, "unknown function `int`"),
        ("startsWith(a, 'b')", 0, "unknown function `startsWith`"),
        ("a.startsWith()", 13, "expected an operand"),
        ("a.startsWith('b', 'c')", 16, "expected `)`"),
        ("a.size(1)", 7, "expected `)`"),
        ("size()", 5, "expected an operand"),
        ("has(a)", 4, "has() needs a field"),
        ("has( a['b'])", 5, "has() needs a field"),
        ("has(a.b == 1)", 4, "has() needs a field"),
        ("has(a.b, a.c)", 7, "expected `)`"),
        ("a.has(b.c)", 2, "unknown function `has`"),
    ],
)
def test_an_invalid_filter_is_an_error_with_its_position(text: str, position: int, message: str) -> None:
    with pytest.raises(FilterError, match=re.escape(message)) as caught:
        parse(text)

    assert caught.value.position == position


@pytest.mark.parametrize(
    ("text", "instead"),
    [
        ("data.x = 1", "`==`"),
        ("a AND b", "`&&`"),
        ("a | b", "`||`"),
        ("a or b", "`||`"),
        ("not a", "`!`"),
        ("a <> 1", "`!=`"),
        ("a is null", "`==`"),
        ("a like 'b'", "`.contains("),
    ],
)
def test_what_other_languages_write_gets_a_hint(text: str, instead: str) -> None:
    with pytest.raises(FilterError, match=re.escape(f"; write {instead}")):
        parse(text)


def test_an_error_shows_its_position_in_one_printable_line() -> None:
    with pytest.raises(FilterError) as caught:
        parse("data.level == ")
    assert str(caught.value) == "expected an operand at 14: data.level == ^"
    assert caught.value.message == "expected an operand"

    with pytest.raises(FilterError) as caught:
        parse("x" * 500 + "\n\ud800" + "y" * 500)
    assert str(caught.value) == f"unexpected character at 501: {'x' * 23} ^ {'y' * 23}"


def test_filters_are_equal_by_their_text() -> None:
    one, same, other = parse("a == 1"), parse("a == 1"), parse("a ==  1")
    one.matches({})

    assert one.text == "a == 1"
    assert one == same
    assert {one, same, other} == {one, other}
    assert len({one, same, other}) == 2


def test_the_size_of_a_filter_is_limited() -> None:
    for text in [
        "true".ljust(TEXT_CHARS_MAX),
        "(" * DEPTH_MAX + "true" + ")" * DEPTH_MAX,
        "[" * DEPTH_MAX + "]" * DEPTH_MAX + " != 0",
        "a[" * DEPTH_MAX + "0" + "]" * DEPTH_MAX + " == 0 || true",
        "false ? true : " * DEPTH_MAX + "true",
        "!" * (NODES_MAX - 3) + "true || true",
        "a" + ".a" * (NODES_MAX - 3) + " || true",
        "[" + "1," * (NODES_MAX - 4) + "1] != 1",
    ]:
        assert parse(text).matches({"a": 1})

    for text, position in [
        ("true".ljust(TEXT_CHARS_MAX + 1), TEXT_CHARS_MAX),
        ("(" * (DEPTH_MAX + 1) + "true" + ")" * (DEPTH_MAX + 1), DEPTH_MAX + 1),
        ("[" * (DEPTH_MAX + 1) + "1" + "]" * (DEPTH_MAX + 1), DEPTH_MAX + 1),
        ("a[" * (DEPTH_MAX + 1) + "0" + "]" * (DEPTH_MAX + 1), 2 * DEPTH_MAX + 2),
        ("false ? true : " * (DEPTH_MAX + 1) + "true", 15 * (DEPTH_MAX + 1)),
        ("!" * NODES_MAX + "true", NODES_MAX),
        ("a" + ".a" * NODES_MAX, 2 * NODES_MAX),
        ("[" + "1," * NODES_MAX + "1]", 2 * (NODES_MAX - 1) + 1),
    ]:
        with pytest.raises(FilterError) as caught:
            parse(text)
        assert caught.value.position == position


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        ({"x": None}, {"x": None}, True),
        ({"x": None}, {"y": None}, False),
        ({"x": 1}, {"x": 1, "y": 2}, False),
        ({"x": 1, "y": [{}]}, {"y": [{}], "x": 1.0}, True),
        ({"x": [1]}, {"x": [True]}, False),
        ([{"x": 1}, 2], [{"x": 1}, 3], False),
        ([1, 2], [1, 2, 3], False),
        ([], {}, False),
        ([], None, False),
        ("", [], False),
    ],
)
def test_lists_and_maps_are_compared_deeply(left: object, right: object, expected: bool) -> None:
    equal, unequal = parse("a == b"), parse("a != b")

    for event in ({"a": left, "b": right}, {"a": right, "b": left}):
        assert (equal.matches(event), unequal.matches(event)) == (expected, not expected)
    assert equal.errors + unequal.errors == 0


def test_lists_and_maps_are_compared_up_to_a_limit() -> None:
    def matches(text: str, left: object, right: object) -> tuple[bool, int]:
        chosen = parse(text)
        return chosen.matches({"a": left, "b": right}), chosen.errors

    least = VALUES_MAX - 1  # the list itself is a value too
    assert matches("a == b", [1] * least, [1] * least) == (True, 0)
    assert matches("a == b", [1] * VALUES_MAX, [1] * VALUES_MAX) == (False, 1)
    assert matches("a != b", [1] * VALUES_MAX, [1] * VALUES_MAX) == (False, 1)
    assert matches("a == b", [1] * VALUES_MAX, []) == (False, 0)
    keys = {str(n): 0 for n in range(VALUES_MAX)}
    fewer = {str(n): 0 for n in range(least)}
    assert matches("a == b", fewer, dict(fewer)) == (True, 0)
    assert matches("a == b", keys, dict(keys)) == (False, 1)
    for item in (1, "x", None):
        assert matches("a in b", item, [0] * (VALUES_MAX - 1) + [item]) == (True, 0)
        assert matches("a in b", item, [0] * VALUES_MAX + [item]) == (False, 1)
    assert matches("a in b", [1, 2], [[1, 3]] * (VALUES_MAX // 4)) == (False, 0)
    assert matches("a in b", [1, 2], [[1, 3]] * (VALUES_MAX // 2)) == (False, 1)


def test_events_of_any_depth_are_compared() -> None:
    chosen = parse("a == b")

    assert chosen.matches({"a": deep(VALUES_MAX - 1), "b": deep(VALUES_MAX - 1)})
    assert not chosen.matches({"a": deep(VALUES_MAX - 1), "b": deep(VALUES_MAX - 2)})
    assert chosen.errors == 0
    assert not chosen.matches({"a": deep(50_000), "b": deep(50_000)})
    assert chosen.errors == 1
    assert not parse("a == 1 || 1 == a || a == 'x' || 1 in a").matches({"a": deep(50_000)})
