"""The gateway's check of events, for `gateway publish`."""

from gateway.config import Config
from gateway.core.ingest.ingest import Ingest
from gateway.core.ingest.recovery import Recovery
from gateway.core.ingest.streams import Streams
from gateway.core.protocol.events import STANDARD


class EventCheck:
    """Checks events as a gateway with its default settings does."""

    def __init__(self) -> None:
        self._ingest = Ingest(
            payload_bytes_max=Config().ingest.payload_bytes_max,
            rejections_max=1,
            admit=lambda _: True,
            recovery=Recovery(streams=Streams(streams_max=1), started_ns=0, history=lambda _: 0),
        )

    def check(self, channel: str, payload: bytes) -> None:
        """Check the payload of a message on a channel.
        Raises ValueError: the gateway would reject it; the text says why."""
        try:
            self._ingest.read_event(channel, payload, now_ns=0)
        except ValueError as error:
            standard = STANDARD.get(channel)
            if standard is None or b'"event_type"' in payload:
                raise
            event_types = standard.event_types
            raise ValueError(f"{error}; events of {channel} have --type {event_types}") from None
