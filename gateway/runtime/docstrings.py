"""Docstrings that users get to see, also if Python was started with -OO, which drops them."""

import ast
import inspect
import sys
import textwrap
from collections.abc import Callable


_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def docstring(documented: Callable[..., object]) -> str:
    """Return the docstring of a function or class, from its source if Python has dropped it; "" if there is none."""
    if sys.flags.optimize < 2:
        return inspect.cleandoc(documented.__doc__ or "")
    for definition in _source(documented):
        if isinstance(definition, _Definition) and definition.name == documented.__name__:
            return ast.get_docstring(definition) or ""
    return ""


def _source(documented: Callable[..., object]) -> list[ast.stmt]:
    try:
        return ast.parse(textwrap.dedent(inspect.getsource(documented))).body
    except (OSError, SyntaxError):  # it is installed without its sources, or with others
        return []
