"""Follow the events of a NeuroGraph gateway: each one once, in order, or reported as a gap.

async with Client("http://127.0.0.1:8000") as client:
    async for event in client.subscribe("metrics", "logs.*", last=10):
        print(event)
"""

from neurograph_client.answers import History, Info, Pong, Published
from neurograph_client.backoff import Backoff
from neurograph_client.blocking import CAUGHT_UP, BlockingClient, CaughtUp, connect
from neurograph_client.client import Client
from neurograph_client.codes import CloseCode, ErrorCode, GapReason
from neurograph_client.columns import Columns
from neurograph_client.connection import Disconnect
from neurograph_client.errors import ClientError, ClosedError, NotConnectedError, RequestRefusedError
from neurograph_client.items import Channel, Event, Gap, Position
from neurograph_client.link import State
from neurograph_client.models import ACTIONS, CONNECTIONS, LOGS, METRICS, SIGNALS, STATUS
from neurograph_client.subscription import Subscription


__all__ = [
    "ACTIONS",
    "CAUGHT_UP",
    "CONNECTIONS",
    "LOGS",
    "METRICS",
    "SIGNALS",
    "STATUS",
    "Backoff",
    "BlockingClient",
    "CaughtUp",
    "Channel",
    "Client",
    "ClientError",
    "CloseCode",
    "ClosedError",
    "Columns",
    "Disconnect",
    "ErrorCode",
    "Event",
    "Gap",
    "GapReason",
    "History",
    "Info",
    "NotConnectedError",
    "Pong",
    "Position",
    "Published",
    "RequestRefusedError",
    "State",
    "Subscription",
    "connect",
]
__version__ = "0.1.0"
