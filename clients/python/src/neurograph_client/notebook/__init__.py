"""Notebooks: magics for IPython, and live widgets for Jupyter, VS Code and marimo.

%load_ext neurograph
%ng_connect http://127.0.0.1:8000
%ng_live chart metrics
"""

from typing import TYPE_CHECKING, Any


if TYPE_CHECKING:
    from neurograph_client.notebook.widgets import Chart as Chart
    from neurograph_client.notebook.widgets import Tail as Tail
    from neurograph_client.notebook.widgets import Values as Values

__all__ = ["Chart", "Tail", "Values", "load_ipython_extension", "unload_ipython_extension"]

_WIDGETS = {"Chart", "Tail", "Values"}


def load_ipython_extension(shell: Any) -> None:
    """Define the magics; IPython calls this for ``%load_ext``."""
    from neurograph_client.notebook.magics import load

    load(shell)


def unload_ipython_extension(shell: Any) -> None:
    """Take the magics away, and disconnect; IPython calls this for ``%unload_ext``."""
    from neurograph_client.notebook.magics import unload

    unload(shell)


def __getattr__(name: str) -> Any:
    """Import the widgets when they are asked for: that takes a while, and needs anywidget."""
    if name not in _WIDGETS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from neurograph_client.notebook import widgets

    return getattr(widgets, name)
