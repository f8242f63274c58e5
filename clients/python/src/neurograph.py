"""What ``%load_ext neurograph`` loads: the magics of ``neurograph-client[notebook]``."""

from neurograph_client.notebook import load_ipython_extension, unload_ipython_extension


__all__ = ["load_ipython_extension", "unload_ipython_extension"]
