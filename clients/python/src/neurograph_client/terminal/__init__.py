"""The commands `tail` and `status`, which `gateway` has if this package is installed beside it.

They need the extra `neurograph-client[terminal]`.
"""

from neurograph_client.terminal.options import complete_channel
from neurograph_client.terminal.status import status
from neurograph_client.terminal.tail import tail


__all__ = ["complete_channel", "status", "tail"]
