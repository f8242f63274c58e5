"""Why a message cannot be read as its source's settings say."""

from typing import Literal

from gateway.core.protocol.envelope import Envelope


SourceReason = Literal[
    "frame_count",
    "bad_topic",
    "bad_sequence",
    "bad_compression",
    "oversized",
    "invalid_utf8",
    "invalid_json",
    "invalid_msgpack",
    "nested_too_deeply",
    "number_out_of_range",
    "too_many_documents",
    "decoder_failed",
]


class Unreadable(Exception):
    """A message does not fit its source's settings; `detail` names the setting that would help."""

    def __init__(self, reason: SourceReason, detail: str) -> None:
        super().__init__(detail)
        self.reason: SourceReason = reason
        self.detail = detail
        self.numbered: tuple[str, Envelope] | None = None
        """The message's channel and place in it, if they could be read."""
