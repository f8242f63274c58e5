"""Docstrings that users get to see, also if Python was started with -OO, which drops them."""

import ast
import contextlib
import inspect
import sys
import textwrap
from collections.abc import Callable
from typing import cast


def docstring(documented: Callable[..., object]) -> str:
    """Return the docstring of a function or class, from its source if Python has dropped it; "" if there is none."""
    if sys.flags.optimize < 2:
        return inspect.cleandoc(documented.__doc__ or "")
    with contextlib.suppress(OSError):  # it is installed without its sources
        [definition] = ast.parse(textwrap.dedent(inspect.getsource(documented))).body
        return ast.get_docstring(cast(ast.FunctionDef, definition)) or ""
    return ""
