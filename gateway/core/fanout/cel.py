"""What the operators of CEL (Common Expression Language) mean, as closures over an event.

Values are those of decoded JSON: None, bool, int, float, str, list, dict with keys of str. CEL's
rules, where they differ from Python's:

- int and double are one scale of numbers, compared exactly; a bool is not a number. `==` of
  different kinds is false, `<` of different kinds is an error, as it is for null, lists and maps.
- A missing field, an index outside its list and an operand of the wrong kind are errors.
- `&&` and `||` need booleans, but an error on either side gives way to a side that decides alone:
  ``false && error`` is false in either order.

An error is an exception of `ERRORS`; nothing else is raised. No operator does more than look at
`VALUES_MAX` values or pass once over a string, whatever the event.
"""

import operator
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Any


Event = Mapping[str, Any]
Run = Callable[[Event], Any]

ERRORS = (LookupError, TypeError)
"""What a closure raises where CEL has an error; Python's own failures are used as they come."""

VALUES_MAX = 1000
"""How many values ``==`` of lists and maps, or ``in`` a list, compares; more are an error."""

_ABSENT = object()
_KIND = {int: "number", float: "number", str: "string", bool: "bool"}
"""The kinds that have an order. Looking up any other is a KeyError, and so an error."""

_COMPARE = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}

METHODS = {
    "startsWith": str.startswith,
    "endsWith": str.endswith,
    "contains": str.__contains__,
}
"""Functions of a string that take another; they refuse anything else with a TypeError."""


def constant(value: Any) -> Run:
    """A literal."""
    return lambda event: value


def variable(name: str) -> Run:
    """A member of the event itself."""
    return operator.itemgetter(name)


def select(operand: Run, name: str) -> Run:
    """``operand.name``, of a map."""
    return lambda event: operand(event)[name]


def has(operand: Run, name: str) -> Run:
    """``has(operand.name)``: the map has the field, be it null."""

    def run(event: Event) -> bool:
        container = operand(event)
        if type(container) is not dict:
            raise TypeError
        return name in container

    return run


def index(operand: Run, key: Run) -> Run:
    """``operand[key]``: of a map by string, of a list by whole number from 0."""

    def run(event: Event) -> Any:
        container, at = operand(event), key(event)
        if type(container) is dict:
            return container[at]
        if type(at) is float and at.is_integer():
            at = int(at)
        if type(container) is not list or type(at) is not int or at < 0:
            raise TypeError
        return container[at]

    return run


def array(items: Sequence[Run]) -> Run:
    """``[item, ...]``."""
    return lambda event: [item(event) for item in items]


def size(operand: Run) -> Run:
    """The characters of a string, the items of a list, the keys of a map."""
    return lambda event: len(operand(event))


def method(name: str, target: Run, argument: Run) -> Run:
    """``target.name(argument)`` for a name of `METHODS`."""
    function: Callable[[Any, Any], bool] = METHODS[name]
    return lambda event: function(target(event), argument(event))


def negate(operand: Run) -> Run:
    """``-operand``."""

    def run(event: Event) -> int | float:
        value = operand(event)
        if type(value) is not int and type(value) is not float:
            raise TypeError
        return -value

    return run


def invert(operand: Run) -> Run:
    """``!operand``."""

    def run(event: Event) -> bool:
        value = operand(event)
        if type(value) is not bool:
            raise TypeError
        return not value

    return run


def relation(sign: str, left: Run, right: Run) -> Run:
    """``left sign right`` for one of ``== != < <= > >= in``."""
    if sign == "==":
        return lambda event: equal(left(event), right(event))
    if sign == "!=":
        return lambda event: not equal(left(event), right(event))
    if sign == "in":
        return lambda event: _contained(left(event), right(event))
    compare = _COMPARE[sign]

    def run(event: Event) -> Any:
        a, b = left(event), right(event)
        if _KIND[type(a)] != _KIND[type(b)]:
            raise TypeError
        return compare(a, b)

    return run


def _contained(item: Any, container: Any) -> bool:
    if type(container) is dict:
        return bool(_KIND[type(item)]) and item in container
    if type(container) is not list:
        raise TypeError
    if len(container) > VALUES_MAX:
        raise LookupError
    if type(item) is str:  # the usual case
        return item in container
    share = VALUES_MAX // max(1, len(container))
    return any(equal(item, one, share) for one in container)


def logic(parts: Sequence[Run], *, decisive: bool) -> Run:
    """``a && b && ...`` (decided by False) or ``a || b || ...`` (decided by True)."""

    def run(event: Event) -> Any:
        failed = False
        for part in parts:
            try:
                value = part(event)
            except ERRORS:
                failed = True
                continue
            if value is decisive:
                return decisive
            if type(value) is not bool:
                failed = True
        if failed:
            raise TypeError
        return not decisive

    return run


def choice(condition: Run, then: Run, otherwise: Run) -> Run:
    """``condition ? then : otherwise``."""

    def run(event: Event) -> Any:
        value = condition(event)
        if type(value) is not bool:
            raise TypeError
        return then(event) if value else otherwise(event)

    return run


def equal(left: object, right: object, values_max: int = VALUES_MAX) -> bool:
    """Tell whether two values are equal, without recursion: events nest as deep as Python allows."""
    if type(left) is str:  # the usual case
        return left == right
    pairs: list[tuple[object, object]] = [(left, right)]
    for a, b in pairs:  # grows on the way
        if len(pairs) > values_max:
            raise LookupError
        if type(a) is dict and type(b) is dict:
            if len(a) != len(b):
                return False
            inner = ((value, b.get(key, _ABSENT)) for key, value in a.items())
            pairs.extend(islice(inner, values_max))
        elif type(a) is list and type(b) is list:
            if len(a) != len(b):
                return False
            pairs.extend(islice(zip(a, b, strict=True), values_max))
        elif a != b or (type(a) is bool) != (type(b) is bool):
            return False
    return True
