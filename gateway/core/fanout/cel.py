"""The operators of CEL (Common Expression Language), as functions that return a closure.

Calling the closure with an event evaluates the expression. Values are those of decoded JSON: None,
bool, int, float, str, list, dict. CEL's rules, where they differ from Python's:

- int and double compare as numbers, exactly; a bool is not a number. `==` of different kinds is
  false; `<` of different kinds is an error, and so is `<` of null, lists or maps.
- A missing field, an index outside its list and an operand of the wrong kind are errors.
- `&&` and `||` need booleans. An error on one side is ignored if the other side decides alone:
  ``false && error`` is false in either order.

An error is an exception of `ERRORS`; nothing else is raised. Each operator looks at no more than
`VALUES_MAX` values, or passes once over a string."""

import operator
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Any


Event = Mapping[str, Any]
Run = Callable[[Event], Any]

ERRORS = (LookupError, TypeError)
"""What a closure raises for an error in CEL; most are Python's own."""

VALUES_MAX = 1000
"""How many values ``==`` of lists and maps, or ``in`` a list, compares; more are an error."""

_ABSENT = object()
_KIND = {int: "number", float: "number", str: "string", bool: "bool"}
"""The kinds that have an order; looking up another is a KeyError, and so an error of CEL."""

_COMPARE = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}

METHODS = {"startsWith": str.startswith, "endsWith": str.endswith, "contains": str.__contains__}
"""Functions of two strings; for other types they raise a TypeError."""


def constant(value: Any) -> Run:
    return lambda event: value


def variable(name: str) -> Run:
    """A member of the event itself."""
    return operator.itemgetter(name)


def select(operand: Run, name: str) -> Run:
    return lambda event: operand(event)[name]


def has(operand: Run, name: str) -> Run:
    """``has(operand.name)``: true also if the field is null."""
    container = _checked(operand, dict)
    return lambda event: name in container(event)


def index(operand: Run, key: Run) -> Run:
    """``operand[key]``: a map's field by name, a list's item by whole number from 0."""

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
    return lambda event: [item(event) for item in items]


def size(operand: Run) -> Run:
    """The number of characters of a string, items of a list or keys of a map."""
    return lambda event: len(operand(event))


def method(name: str, target: Run, argument: Run) -> Run:
    """``target.name(argument)`` for a name in `METHODS`."""
    function: Callable[[Any, Any], bool] = METHODS[name]
    return lambda event: function(target(event), argument(event))


def negate(operand: Run) -> Run:
    number = _checked(operand, int, float)
    return lambda event: -number(event)


def invert(operand: Run) -> Run:
    value = _checked(operand, bool)
    return lambda event: not value(event)


def relation(sign: str, left: Run, right: Run) -> Run:
    """``left sign right`` for ``== != < <= > >= in``."""
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
    values_max = VALUES_MAX // max(1, len(container))
    return any(equal(item, one, values_max) for one in container)


def logic(parts: Sequence[Run], *, decisive: bool) -> Run:
    """``a && b && ...`` (`decisive` is False) or ``a || b || ...`` (True)."""

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
    """``condition ? then : otherwise``"""
    value = _checked(condition, bool)
    return lambda event: then(event) if value(event) else otherwise(event)


def _checked(operand: Run, *kinds: type) -> Run:
    """The same operand; another type is an error."""

    def run(event: Event) -> Any:
        value = operand(event)
        if type(value) not in kinds:
            raise TypeError
        return value

    return run


def equal(left: object, right: object, values_max: int = VALUES_MAX) -> bool:
    """Return whether two values are equal; without recursion, as an event's depth is not limited."""
    if type(left) is str:  # the usual case
        return left == right
    pairs: list[tuple[object, object]] = [(left, right)]
    for a, b in pairs:  # grows during the loop
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
