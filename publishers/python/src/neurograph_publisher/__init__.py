"""Publish events to a NeuroGraph gateway over ZeroMQ.

with Publisher(connect="tcp://127.0.0.1:5556") as publisher:
    publisher.metrics(cpu_percent=12.5, memory_mb=2048)
    publisher.publish("robots.r2", {"x": 1.5})
"""

from neurograph_publisher.checks import PublisherError
from neurograph_publisher.curve import Curve
from neurograph_publisher.handler import GatewayLogHandler
from neurograph_publisher.inbox import Gap, Inbox, Message
from neurograph_publisher.publisher import Publisher


__all__ = ["Curve", "Gap", "GatewayLogHandler", "Inbox", "Message", "Publisher", "PublisherError"]
__version__ = "0.1.0"
