"""Filters of events by their fields: a strict subset of CEL, the Common Expression Language.

    data.level == 'error' && data.service.startsWith('api')

Every filter is valid CEL with the same meaning. Its variables are the members of the event as clients
get it: ``channel``, ``event_type``, ``timestamp``, ``data`` and whatever else the publisher adds;
but not ``offset`` and ``type``, which the gateway adds. The language has:

    null true false 12 0x1f 1.5e3 'text' "text" [a, b]
    data.level  data["a-b"]  data.list[0]  has(data.level)
    == != < <= > >= in    && || !    condition ? a : b    -x    ( )
    size(x)  x.size()  s.startsWith(t)  s.endsWith(t)  s.contains(t)

There is no arithmetic, regular expression or loop, so a filter's cost is bounded: it has at most
`NODES_MAX` literals, names and operators, each of which is evaluated at most once per event, and looks
at a bounded number of values or passes once over a string (see `cel`).

A missing field or a value of the wrong type is an error; `&&` and `||` ignore an error on one side if
the other decides alone. If the result is an error, or not a boolean, the event does not match."""

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

from gateway.core.fanout import cel
from gateway.core.fanout.cel import Run


TEXT_CHARS_MAX = 1024
DEPTH_MAX = 32
"""How deep brackets, and last branches of conditionals, may nest."""
NODES_MAX = 128

_EXCERPT = 24
"""How many characters an error message shows on each side of the position."""


class FilterError(ValueError):
    """A filter is not valid; `position` is the index of the first wrong character."""

    def __init__(self, message: str, position: int, text: str) -> None:
        start, end = max(0, position - _EXCERPT), position + _EXCERPT
        shown = f"{text[start:position]}^{text[position:end]}"
        shown = "".join(char if char.isprintable() else " " for char in shown)
        super().__init__(f"{message} at {position}: {shown}")
        self.message = message
        self.position = position


class Filter:
    """A parsed filter. Filters with the same text are equal; another process gets the text."""

    __slots__ = ("_run", "errors", "text")

    def __init__(self, text: str, run: Run) -> None:
        self.text = text
        self.errors = 0
        """For how many events the result was an error, or not a boolean."""
        self._run = run

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Filter) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __repr__(self) -> str:
        return f"Filter({self.text!r})"

    def matches(self, event: Mapping[str, object]) -> bool:
        """Return whether an event, as decoded from JSON, matches."""
        try:
            result = self._run(event)
        except cel.ERRORS:
            result = None
        if type(result) is not bool:
            self.errors += 1
            return False
        return result


def parse(text: str) -> Filter:
    """Parse a filter. Raises FilterError: it is not valid, or too large."""
    if len(text) > TEXT_CHARS_MAX:
        raise FilterError(f"more than {TEXT_CHARS_MAX} characters", TEXT_CHARS_MAX, text)
    return Filter(text, _Parser(text).parse())


class _Token(NamedTuple):
    kind: str
    text: str
    position: int


_TOKEN = re.compile(
    r"""[ \t\n\f\r]* (?:
    (?P<double> [0-9]*\.[0-9]+ (?:[eE][+-]?[0-9]+)? | [0-9]+[eE][+-]?[0-9]+ )
  | (?P<int>    0x[0-9a-fA-F]+ | [0-9]+ )
  | (?P<string> " (?:[^"\\\r\n]|\\.)* " | ' (?:[^'\\\r\n]|\\.)* ' )
  | (?P<name>   [A-Za-z_][A-Za-z0-9_]* )
  | (?P<mark>   && | \|\| | [=!<>]= | [-!<>?:.,()\[\]] )
  | (?P<end>    \Z )
  | (?P<quote>  ["'] )
  | (?P<wrong>  [\s\S] )
    )""",
    re.VERBOSE,
)
_ESCAPE = re.compile(
    r"""\\(?: [xX](?P<x>[0-9a-fA-F]{2}) | u(?P<u>[0-9a-fA-F]{4}) | U(?P<U>[0-9a-fA-F]{8})
            | (?P<octal>[0-3][0-7]{2}) | (?P<plain>[abfnrtv\\'"`?]) | )""",
    re.VERBOSE,
)
_PLAIN = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}

_PUNCTUATION = {".", ",", ":", "(", ")", "]", ""}
"""Tokens that do not count as nodes."""
_LITERALS = {"null": None, "true": True, "false": False}
_KEYWORDS = {*_LITERALS, "in"}
_RELATIONS = {"==", "!=", "<", "<=", ">", ">=", "in"}
_NOT_VARIABLES = {
    *("offset", "type", "in"),
    *("as", "break", "const", "continue", "else", "for", "function", "if", "import", "let", "loop"),
    *("namespace", "package", "return", "var", "void", "while"),
}
"""Members that the gateway adds to events, and the reserved words of CEL."""


class _Parser:
    """A recursive-descent parser, with one method for each rule of CEL's grammar."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._nodes = 0
        self._depth = 0
        self._selections: dict[Run, tuple[Run, str]] = {}
        """The operand and field of each selection, for has()."""
        self._token = _Token("start", "", 0)
        self._scan(0)

    def parse(self) -> Run:
        run = self._expression()
        if self._token.kind != "end":
            raise self._error("expected an operator or the end")
        return run

    # Tokens

    def _scan(self, start: int) -> None:
        found = _TOKEN.match(self._text, start)
        assert found is not None
        kind = found.lastgroup
        assert kind is not None
        self._token = _Token(kind, found[kind], found.start(kind))
        if kind == "quote":
            raise self._error("unterminated string")
        if kind == "wrong":
            raise self._error("unexpected character")
        self._nodes += self._token.text not in _PUNCTUATION
        if self._nodes > NODES_MAX:
            raise self._error(f"more than {NODES_MAX} operators and operands")

    def _next(self) -> _Token:
        token = self._token
        self._scan(token.position + len(token.text))
        return token

    def _accept(self, text: str) -> bool:
        """Scan the next token if this is the current one; return whether it is."""
        accepted = self._token.text == text
        if accepted:
            self._next()
        return accepted

    def _expect(self, mark: str) -> None:
        if not self._accept(mark):
            raise self._error(f"expected `{mark}`")

    def _error(self, message: str, position: int | None = None) -> FilterError:
        at = self._token.position if position is None else position
        return FilterError(message, at, self._text)

    # Rules, from the lowest precedence to the highest

    def _expression(self) -> Run:
        if self._depth > DEPTH_MAX:
            raise self._error(f"nested more than {DEPTH_MAX} deep")
        self._depth += 1
        run = self._or()
        if self._accept("?"):
            then = self._or()
            self._expect(":")
            run = cel.choice(run, then, self._expression())
        self._depth -= 1
        return run

    def _or(self) -> Run:
        return self._logic("||", self._and, decisive=True)

    def _and(self) -> Run:
        return self._logic("&&", self._relation, decisive=False)

    def _logic(self, mark: str, part: Callable[[], Run], *, decisive: bool) -> Run:
        parts = [part()]
        while self._accept(mark):
            parts.append(part())
        return cel.logic(parts, decisive=decisive) if len(parts) > 1 else parts[0]

    def _relation(self) -> Run:
        run = self._unary()
        while self._token.text in _RELATIONS:
            sign = self._next().text
            run = cel.relation(sign, run, self._unary())
        return run

    def _unary(self) -> Run:
        mark = self._token.text
        build = {"!": cel.invert, "-": cel.negate}.get(mark)
        if build is None:
            return self._member()
        count = 0
        while self._accept(mark):
            count += 1
        negative = mark == "-" and count == 1 and self._token.kind in ("int", "double")
        run = self._member(negative=negative)
        return run if negative or count % 2 == 0 else build(run)

    def _member(self, *, negative: bool = False) -> Run:
        run = self._primary(negative=negative)
        while self._token.text in (".", "["):
            if self._accept("["):
                run = cel.index(run, self._expression())
                self._expect("]")
                continue
            self._next()
            name = self._token
            if name.kind != "name" or name.text in _KEYWORDS:
                raise self._error("expected the name of a field")
            self._next()
            run = self._method(run, name) if self._token.text == "(" else self._select(run, name)
        return run

    def _select(self, operand: Run, name: _Token) -> Run:
        run = cel.select(operand, name.text)
        self._selections[run] = operand, name.text
        return run

    def _primary(self, *, negative: bool) -> Run:
        token = self._token
        if token.kind in ("int", "double"):
            return cel.constant(self._number(self._next(), negative=negative))
        if token.kind == "string":
            return cel.constant(self._string(self._next()))
        if token.text in _LITERALS:
            return cel.constant(_LITERALS[self._next().text])
        if self._accept("("):
            run = self._expression()
            self._expect(")")
            return run
        if self._accept("["):
            return self._list()
        if token.kind != "name" or token.text == "in":
            raise self._error("expected an operand")
        self._next()
        if self._token.text == "(":
            return self._function(token)
        if token.text in _NOT_VARIABLES:
            raise self._error(f"`{token.text}` is not available", token.position)
        return cel.variable(token.text)

    def _list(self) -> Run:
        items: list[Run] = []
        if not self._accept("]"):
            items.append(self._expression())
            while self._accept(","):
                items.append(self._expression())
            self._expect("]")
        return cel.array(items)

    def _function(self, name: _Token) -> Run:
        if name.text not in ("has", "size"):
            raise self._error(f"unknown function `{name.text}`", name.position)
        self._expect("(")
        start = self._token.position
        operand = self._expression()
        self._expect(")")
        if name.text == "size":
            return cel.size(operand)
        if operand not in self._selections:
            raise self._error("has() needs a field, as in has(data.level)", start)
        return cel.has(*self._selections[operand])

    def _method(self, target: Run, name: _Token) -> Run:
        if name.text != "size" and name.text not in cel.METHODS:
            raise self._error(f"unknown function `{name.text}`", name.position)
        self._expect("(")
        run = cel.size(target) if name.text == "size" else cel.method(name.text, target, self._expression())
        self._expect(")")
        return run

    # Literals

    def _number(self, token: _Token, *, negative: bool) -> int | float:
        sign = -1 if negative else 1
        if token.kind == "double":
            double = sign * float(token.text)
            if double in (float("inf"), float("-inf")):
                raise self._error("number out of range", token.position)
            return double
        whole = sign * int(token.text, 16 if token.text.startswith("0x") else 10)
        if not -(2**63) <= whole < 2**63:
            raise self._error("integer needs more than 64 bits", token.position)
        return whole

    def _string(self, token: _Token) -> str:
        def unescape(escape: re.Match[str]) -> str:
            kind, digits = escape.lastgroup, escape[escape.lastgroup or 0]
            if kind == "plain":
                return _PLAIN.get(digits, digits)
            code = int(digits, 8 if kind == "octal" else 16) if kind else -1
            if code < 0 or code > 0x10FFFF or 0xD800 <= code < 0xE000:
                raise self._error("unknown escape sequence", token.position + 1 + escape.start())
            return chr(code)

        return _ESCAPE.sub(unescape, token.text[1:-1])
