"""Random filters: each gives the same result as a plain evaluation of CEL, and none does harm."""

from collections.abc import Callable
from fractions import Fraction
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from gateway.core.fanout.filters import DEPTH_MAX, NODES_MAX, TEXT_CHARS_MAX, FilterError, parse


Tree = tuple[Any, ...]

_LEVELS = {"?": 0, "||": 1, "&&": 2, "relation": 3, "!": 4}
_HIGHEST = 5
_ERROR = object()

_numbers = st.integers(-3, 3) | st.sampled_from([0.0, 0.5, 1.0, -2.0, 2.0**53, 2**53 + 1])
_scalars = st.none() | st.booleans() | _numbers | st.sampled_from(["", "a", "ab", "b", "ä\n'\"\\"])
_names = st.sampled_from(["a", "b", "c"])
_values: st.SearchStrategy[Any] = st.recursive(
    _scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_names, inner, max_size=3), max_leaves=6
)
_events = st.fixed_dictionaries({"data": st.dictionaries(_names, _values)})


def _branches(inner: st.SearchStrategy[Tree]) -> st.SearchStrategy[Tree]:
    def node(kind: str, *parts: st.SearchStrategy[Any]) -> st.SearchStrategy[Tree]:
        return st.tuples(st.just(kind), *parts)

    relations = st.sampled_from(["==", "!=", "<", "<=", ">", ">=", "in"])
    methods = st.sampled_from(["startsWith", "endsWith", "contains"])
    return st.one_of(
        node("&&", inner, inner),
        node("||", inner, inner),
        node("!", inner),
        node("?", inner, inner, inner),
        node("relation", relations, inner, inner),
        node("select", inner, _names),
        node("has", inner, _names),
        node("index", inner, inner),
        node("size", inner),
        node("method", methods, inner, inner),
        node("list", st.lists(inner, max_size=3)),
    )


_leaves = st.tuples(st.just("literal"), _scalars) | st.tuples(st.just("select"), st.just(("variable", "data")), _names)
_trees: st.SearchStrategy[Tree] = st.recursive(_leaves, _branches, max_leaves=10)


def render(tree: Tree, level: int = 0) -> str:
    """Return a tree as text, with no more parentheses than necessary."""
    kind, *parts = tree
    own = _LEVELS.get(kind, _HIGHEST)
    match kind:
        case "literal":
            text = literal(parts[0])
        case "variable":
            text = parts[0]
        case "&&" | "||":
            text = f"{render(parts[0], own)} {kind} {render(parts[1], own + 1)}"
        case "!":
            text = f"!{render(parts[0], _HIGHEST)}"
        case "?":
            text = f"{render(parts[0], 1)} ? {render(parts[1], 1)} : {render(parts[2], 0)}"
        case "relation":
            text = f"{render(parts[1], own)} {parts[0]} {render(parts[2], own + 1)}"
        case "select":
            text = f"{render(parts[0], _HIGHEST)}.{parts[1]}"
        case "has":
            text = f"has({render(parts[0], _HIGHEST)}.{parts[1]})"
        case "index":
            text = f"{render(parts[0], _HIGHEST)}[{render(parts[1])}]"
        case "size":
            text = f"size({render(parts[0])})"
        case "method":
            text = f"{render(parts[1], _HIGHEST)}.{parts[0]}({render(parts[2])})"
        case _:
            text = f"[{', '.join(render(item) for item in parts[0])}]"
    return f"({text})" if own < level else text


def literal(value: object) -> str:
    if isinstance(value, str):
        return "'" + "".join(f"\\u{ord(char):04x}" for char in value) + "'"
    if isinstance(value, bool) or value is None:
        return {None: "null", True: "true", False: "false"}[value]
    number = repr(value)
    return f"({number})" if number.startswith("-") else number  # `-1.a` is -(1.a) in no CEL


def kind_of(value: object) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int | float):
        return "number"
    return type(value).__name__


def plain(value: Any) -> object:
    """A form in which Python's == has the same result as CEL's."""
    if isinstance(value, list):
        return "list", tuple(plain(item) for item in value)
    if isinstance(value, dict):
        return "dict", frozenset((key, plain(item)) for key, item in value.items())
    return kind_of(value), Fraction(value) if kind_of(value) == "number" else value


_ORDERS: dict[str, Callable[[Any, Any], bool]] = {
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: b < a,
    ">=": lambda a, b: b <= a,
}


def relate(sign: str, a: Any, b: Any) -> object:
    if sign in ("==", "!="):
        return (plain(a) == plain(b)) is (sign == "==")
    if sign == "in":
        if isinstance(b, list):
            return plain(a) in [plain(item) for item in b]
        return a in b if isinstance(b, dict) and kind_of(a) in ("str", "bool", "number") else _ERROR
    same = kind_of(a) == kind_of(b) and kind_of(a) in ("str", "bool", "number")
    return _ORDERS[sign](a, b) if same else _ERROR


def at(container: Any, key: Any) -> object:
    if isinstance(container, dict) and isinstance(key, str):
        return container.get(key, _ERROR)
    if isinstance(container, list) and kind_of(key) == "number" and key in range(len(container)):
        return container[int(key)]
    return _ERROR


def reference(tree: Tree, event: dict[str, Any]) -> object:
    """Evaluate a tree as CEL's specification says, with errors as values."""
    kind, *parts = tree
    if kind == "literal":
        return parts[0]
    if kind == "variable":
        return event.get(parts[0], _ERROR)
    if kind in ("&&", "||"):
        sides = [reference(part, event) for part in parts]
        if any(side is (kind == "||") for side in sides):
            return kind == "||"
        return kind == "&&" if all(isinstance(side, bool) for side in sides) else _ERROR
    if kind == "?":
        chosen = reference(parts[0], event)
        return reference(parts[1 if chosen else 2], event) if isinstance(chosen, bool) else _ERROR
    nested = parts[0] if kind == "list" else [part for part in parts if isinstance(part, tuple)]
    values: list[Any] = [reference(part, event) for part in nested]
    if any(value is _ERROR for value in values):
        return _ERROR
    match kind:
        case "list":
            return values
        case "!":
            return not values[0] if isinstance(values[0], bool) else _ERROR
        case "relation":
            return relate(parts[0], *values)
        case "select":
            return at(values[0], parts[1]) if isinstance(values[0], dict) else _ERROR
        case "has":
            return parts[1] in values[0] if isinstance(values[0], dict) else _ERROR
        case "index":
            return at(*values)
        case "size":
            return len(values[0]) if isinstance(values[0], str | list | dict) else _ERROR
    if not all(isinstance(value, str) for value in values):
        return _ERROR
    text, part = values
    found = {"startsWith": text[: len(part)] == part, "contains": text.find(part) >= 0}
    return found.get(parts[0], text[max(0, len(text) - len(part)) :] == part)


@given(_trees, _events)
def test_a_filter_has_the_same_result_as_in_cel(tree: Tree, event: dict[str, Any]) -> None:
    expected = reference(tree, event)
    chosen = parse(render(tree))

    assert chosen.matches(event) is (expected is True)
    assert chosen.errors == (not isinstance(expected, bool))


@given(_trees, _events)
def test_an_expression_has_the_same_value_as_in_cel(tree: Tree, event: dict[str, Any]) -> None:
    """As above, for trees that seldom give a boolean."""
    value = reference(tree, event)
    expected = render(("list", [])) if value is _ERROR else "data.expected"
    event["data"]["expected"] = value
    chosen = parse(f"{render(tree, 3)} == {expected}")

    assert chosen.matches(event) is (value is not _ERROR)
    assert chosen.errors == (value is _ERROR)


# Anything at all

_PIECES = [
    *("data", ".", "level", "[", "]", "(", ")", "0", "1.5", "'a'", '"', "'", "\\", "!", "-", "?"),
    *(":", ",", "&&", "||", "==", "<", "in", "has", "size", "startsWith", "null", "true", " ", "0x"),
    *("\n", "e", ".5", "offset", "\ud800", "ä", "&", "="),
]
_soup = st.lists(st.sampled_from(_PIECES), max_size=200).map("".join)


@st.composite
def _damaged(draw: st.DrawFn) -> str:
    text = render(draw(_trees))
    start = draw(st.integers(0, len(text)))
    end = draw(st.integers(start, min(len(text), start + 3)))
    return text[:start] + draw(st.text(max_size=3) | st.sampled_from(_PIECES)) + text[end:]


@given(st.text() | _soup | _damaged(), _events)
@example("(" * TEXT_CHARS_MAX, {})
@example("!" * TEXT_CHARS_MAX, {})
@example("a." * (TEXT_CHARS_MAX // 2), {})
@example("1" * TEXT_CHARS_MAX, {})
@example("'" + "\\" * (TEXT_CHARS_MAX - 1), {})
@example("-" * (NODES_MAX - 1) + "a", {"a": 1})
@example("data" + "['a']" * (NODES_MAX // 2 - 1), {"data": {}})
@example("!(" * DEPTH_MAX + "true" + ")" * DEPTH_MAX, {})
@example("data." + "x" * TEXT_CHARS_MAX, {})
def test_any_text_is_a_filter_or_an_error_with_a_position_in_it(text: str, event: dict[str, Any]) -> None:
    wrong = None
    try:
        assert parse(text).matches(event) in (True, False)
    except FilterError as error:
        wrong = error
    if wrong is not None:
        assert 0 <= wrong.position <= len(text)
        assert f" at {wrong.position}: " in str(wrong)
        assert str(wrong).isprintable()
