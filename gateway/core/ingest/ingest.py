"""From a bus message to a valid event, or to a rejection that is counted and kept.

Each message is decoded and validated once. An event's bytes are forwarded, so they must be JSON in valid
UTF-8: anything else would break every client's parser. Only its time gets one form (`members`)."""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress

import msgspec

from gateway.core.ingest import publishers
from gateway.core.ingest.inspection import json_problem, topic_problem
from gateway.core.ingest.members import HAS_NORMAL_TIME, with_normal_time, without_reserved
from gateway.core.ingest.payload import EXPONENT, MANY_DIGITS, SHAPE, check_numbers
from gateway.core.ingest.recovery import Recovery
from gateway.core.ingest.rejections import Reason, Rejection, Rejections
from gateway.core.ingest.streams import NoRoom, Stream
from gateway.core.protocol import channels
from gateway.core.protocol.binary import bytes_fields
from gateway.core.protocol.envelope import GROUP_BITS, SEQUENCE_MAX, Envelope, is_envelope, unpack
from gateway.core.protocol.events import (
    STANDARD,
    Address,
    BytesEventObject,
    DatedEventObject,
    Event,
    EventFields,
    EventObject,
    MissingRange,
    NumberedEventObject,
    timestamp,
)
from gateway.core.protocol.nesting import check_nesting
from gateway.core.sources.errors import Unreadable
from gateway.core.sources.hints import hint


_BYTES = b'"data_base64"'
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_SPACE = b" \t\r\n"
_OPEN, _CLOSE = ord("{"), ord("}")

_PERSONAL = channels.PERSONAL.encode()

REPLAY = b"NGR1"
"""The first frame of replay requests and replies."""

_decode_dated = msgspec.json.Decoder(DatedEventObject).decode
_decode_patterned = msgspec.json.Decoder(EventObject).decode
_decode_numbered = msgspec.json.Decoder(NumberedEventObject).decode
_decode_bytes = msgspec.json.Decoder(BytesEventObject).decode
_decode_address = msgspec.json.Decoder(Address).decode
_decode_personal = msgspec.json.Decoder(EventFields).decode
_decode_any = msgspec.json.Decoder(msgspec.Raw).decode
_DATA_DECODERS: dict[str, Callable[[msgspec.Raw], object]] = {
    name: msgspec.json.Decoder(standard.data).decode for name, standard in STANDARD.items()
}


class _Reject(Exception):
    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason: Reason = reason
        self.detail = detail


def _failed(error: Exception) -> _Reject:
    return _Reject("failed", f"the gateway failed to handle it, which is a fault of the gateway: {error!r}")


def _decode(payload: bytes) -> EventObject | DatedEventObject | NumberedEventObject:
    """Validate an event; decoding its time as a date takes a third as long as matching the pattern."""
    try:
        return _decode_dated(payload)
    except msgspec.ValidationError:
        pass
    try:
        return _decode_patterned(payload)  # allows leap seconds
    except msgspec.ValidationError as error:
        try:
            return _decode_numbered(payload)
        except msgspec.ValidationError:
            raise error from None  # has the best error message


class Ingest:
    """Validates messages; counts rejections by reason and keeps the newest.

    `admit` is called once for each new channel, and returns whether the channel may open. `recovery`
    gets the number of each envelope, also of messages that are rejected. On the channels in `untyped`,
    a payload can be any JSON although they are standard channels."""

    def __init__(
        self,
        *,
        payload_bytes_max: int,
        nesting_max: int = 128,
        rejections_max: int,
        admit: Callable[[str], bool],
        recovery: Recovery,
        untyped: Collection[str] = (),
        own_group: int | None = None,
    ) -> None:
        self.recovery = recovery
        self.own_group = own_group
        """The upper half of the incarnations of this gateway, and of the other ones of its cluster, on the bus: what
        they publish is ignored if it comes back, as it is in the channel already."""
        self.on_personal: Callable[[Address, Event], object] = lambda address, event: None
        """Called with each personal message."""
        self._data_decoders = {name: decode for name, decode in _DATA_DECODERS.items() if name not in untyped}
        self.rejections = Rejections(kept_max=rejections_max)
        self._payload_bytes_max = payload_bytes_max
        self._nesting_max = nesting_max
        self._admit = admit
        self._names: dict[bytes, str] = {}
        self._admitted: set[str] = set()
        self._stamp_ns = -1
        self._stamp = b""

    def accept(
        self, frames: Sequence[bytes], *, now_ns: int, by_source: bool = False, again: bool = False
    ) -> Event | Rejection | None:
        """Validate a bus message: topic, payload and, optionally, an envelope.

        The topic of a message that was made `by_source` is any channel's name. Returns None if it is a
        repetition, if it is held (see `released`), or a heartbeat.
        Raises NoRoom: there are too many streams now. Append what was released, and try `again`."""
        try:
            try:
                return self._accept(frames, now_ns, by_source, again)
            except NoRoom as error:
                if not again:
                    raise
                raise _Reject(
                    "too_many_streams", "`ingest.streams_max` streams are tracked, and messages are missing in all"
                ) from error
        except _Reject as error:
            error.detail += hint(error.reason, frames)
            return self._reject(error, frames, now_ns)
        except NoRoom:
            raise
        except Exception as error:  # one message must not cost the others of its batch theirs
            return self._reject(_failed(error), frames, now_ns)

    def refuse(self, error: Unreadable, frames: Sequence[bytes], *, now_ns: int) -> Rejection:
        """Reject a message that its source could not read; its number is used nevertheless."""
        if error.numbered is not None:
            name, envelope = error.numbered
            with suppress(_Reject, NoRoom):  # then nothing is expected of its stream
                if name not in self._admitted:
                    self._open(name)
                stream = self.recovery.receive(envelope, name, b"", now_ns=now_ns)
                if stream is not None:
                    stream.add_missing(MissingRange(envelope.sequence, envelope.sequence, "rejected"))
        return self._reject(_Reject(error.reason, error.detail), frames, now_ns, by_source=True)

    def receive_reply(self, reply: Sequence[bytes], *, now_ns: int) -> None:
        """Take a publisher's reply: ``NGR1``, number, incarnation, payload, envelope, …

        A reply that is not valid is ignored: the request will time out."""
        if len(reply) < 3 or not len(reply) % 2 or reply[0] != REPLAY or len(reply[1]) != 8:
            return
        try:
            messages = [(unpack(reply[at + 1]), reply[at]) for at in range(3, len(reply), 2)]
        except ValueError:
            return
        self.recovery.on_reply(int.from_bytes(reply[1]), messages, now_ns=now_ns)

    def released(self, *, now_ns: int) -> Iterator[Event | Rejection]:
        """Validate the messages that were held and need not be any longer."""
        for stream, envelope, payload in self.recovery.released(now_ns=now_ns):
            try:
                yield self._numbered(stream, envelope, payload, now_ns, late=True)
            except Exception as error:
                rejected = error if isinstance(error, _Reject) else _failed(error)
                yield self._reject(rejected, [stream.topic.encode(), payload, envelope.pack()], now_ns)

    def read_event(self, channel: str, payload: bytes, *, now_ns: int) -> Event:
        """Validate a payload that did not come over the bus. Raises ValueError: it is not valid; the text says why."""
        try:
            return Event(channel, self._fields(channel, payload, now_ns), now_ns)
        except _Reject as error:
            raise ValueError(error.detail) from error

    def _accept(self, frames: Sequence[bytes], now_ns: int, by_source: bool, again: bool) -> Event | None:
        if not 2 <= len(frames) <= 3:
            raise _Reject(
                "frame_count", f"a message has 2 or 3 frames (topic, payload, envelope), this one {len(frames)}"
            )
        topic, payload = frames[0], frames[1]
        name = self._names.get(topic)
        if name is None:
            if topic == publishers.TOPIC:
                self._on_heartbeat(payload, now_ns, again)
                return None
            if topic == _PERSONAL:
                self._on_personal(payload, now_ns)
                return None
            name = self._name(topic, by_source)
        if len(frames) == 2:
            fields = self._fields(name, payload, now_ns)
            if name not in self._admitted:
                self._open(name)
            return Event(name, fields, now_ns)
        try:
            envelope = unpack(frames[2])
        except ValueError as error:
            raise _Reject("bad_envelope", str(error)) from error
        if envelope.incarnation >> GROUP_BITS == self.own_group:
            return None
        if envelope.sequence > SEQUENCE_MAX:
            raise _Reject("bad_envelope", f"the sequence {envelope.sequence} is above {SEQUENCE_MAX}")
        if name not in self._admitted:  # first: a topic without a channel must not take a stream of another
            self._open(name)
        stream = self.recovery.receive(envelope, name, payload, now_ns=now_ns)
        return None if stream is None else self._numbered(stream, envelope, payload, now_ns)

    def _numbered(
        self, stream: Stream, envelope: Envelope, payload: bytes, now_ns: int, *, late: bool = False
    ) -> Event:
        name = stream.topic
        incarnation, sequence = envelope.incarnation, envelope.sequence
        try:
            fields = self._fields(name, payload, now_ns)
        except Exception:
            stream.add_missing(MissingRange(sequence, sequence, "rejected"))
            raise
        missing = stream.take_unreported() if stream.unreported else ()
        return Event(name, fields, now_ns, envelope.sent_ns, incarnation, sequence, missing, late)

    def _on_heartbeat(self, payload: bytes, now_ns: int, again: bool) -> None:
        try:
            heartbeat = publishers.parse(payload)
            if int(heartbeat.incarnation, 16) >> GROUP_BITS != self.own_group:
                self.recovery.on_heartbeat(heartbeat, now_ns=now_ns, again=again)
        except ValueError as error:
            raise _Reject("bad_heartbeat", str(error)) from error

    def _on_personal(self, payload: bytes, now_ns: int) -> None:
        fields = self._fields(channels.PERSONAL, payload, now_ns)
        try:
            address = _decode_address(payload)
            _decode_personal(payload)
        except msgspec.ValidationError as error:
            raise _Reject("invalid_event", f"a personal message must be an event object: {error}") from error
        if (address.client_id is None) == (address.user_id is None):
            raise _Reject("invalid_event", "a personal message must have either `client_id` or `user_id`")
        self.on_personal(address, Event(channels.PERSONAL, fields, now_ns))

    def _reject(self, error: _Reject, frames: Sequence[bytes], now_ns: int, *, by_source: bool = False) -> Rejection:
        publishers_ = self.recovery.publishers
        link, name = publishers_.link, ""
        if len(frames) == 3 and is_envelope(frames[2]):
            incarnation = int.from_bytes(frames[2][8:16])
            known = publishers_.get(incarnation)
            name = (known is not None and known.name) or f"{incarnation:016x}"
            link = link if known is None else known.link  # it may have been held until another endpoint's message came
        has_topic = len(frames) > 1 or not by_source
        return self.rejections.add(
            error.reason, error.detail, frames, link=link, publisher=name, has_topic=has_topic, now_ns=now_ns
        )

    def _name(self, topic: bytes, by_source: bool) -> str:
        name = topic.decode("ascii", errors="replace")
        if not (channels.is_name(name) if by_source else channels.is_topic(name)):
            raise _Reject(
                "bad_topic",
                f"{topic.decode(errors='replace')[: channels.TOPIC_BYTES_MAX]!r} is not a valid topic: "
                f"{topic_problem(topic, channels.TOPIC_BYTES_MAX)}; expected segments of "
                f"[A-Za-z0-9_-] joined by dots, at most {channels.TOPIC_BYTES_MAX} bytes",
            )
        return name

    def _open(self, name: str) -> None:
        if not self._admit(name):
            raise _Reject(
                "too_many_channels", f"channel {name!r} cannot open: as many as `ingest.channels_max` allows are open"
            )
        self._admitted.add(name)
        self._names[name.encode()] = name

    def _fields(self, channel: str, payload: bytes, now_ns: int) -> bytes:
        if len(payload) > self._payload_bytes_max:
            raise _Reject(
                "oversized",
                f"the payload has {len(payload)} bytes, more than the {self._payload_bytes_max} of "
                "`ingest.payload_bytes_max`",
            )
        if not payload.isascii():
            payload = payload.removeprefix(_BYTE_ORDER_MARK)
            try:
                payload.decode()
            except UnicodeDecodeError as error:
                raise _Reject("invalid_utf8", str(error)) from error
        shape = payload.translate(SHAPE)
        if shape.count(b"{") > self._nesting_max:  # else there are not enough brackets
            try:
                check_nesting(payload, self._nesting_max)
            except ValueError as error:
                raise _Reject("nested_too_deeply", f"{error} (`ingest.nesting_max`)") from error
        try:
            decode_data = self._data_decoders.get(channel)
            if decode_data is None:
                fields = self._bytes(channel, payload, now_ns) if _BYTES in payload else None
                fields = fields or self._untyped(channel, payload, now_ns)
            else:
                event = _decode(payload)
                decode_data(event.data)
                fields = self._event_fields(channel, event, payload, now_ns)
        except msgspec.ValidationError as error:
            raise _Reject("invalid_event", str(error)) from error
        except msgspec.DecodeError as error:
            raise _Reject("invalid_json", json_problem(payload, str(error))) from error
        if MANY_DIGITS in shape or EXPONENT in shape:  # else every number is in range
            try:
                check_numbers(payload)
            except ValueError as error:
                raise _Reject("number_out_of_range", str(error)) from error
        return fields

    def _bytes(self, channel: str, payload: bytes, now_ns: int) -> bytes | None:
        """Return the fields of an event that carries bytes; None if it is none."""
        try:
            event = _decode_bytes(payload)
        except msgspec.ValidationError:
            return None
        payload = self._normal(channel, event, payload, now_ns)
        try:
            fields = bytes_fields(payload)
        except ValueError as error:
            raise _Reject("invalid_event", str(error)) from error
        if event.timestamp is not msgspec.UNSET:
            return fields
        return b'%b,"timestamp":"%b"' % (fields, self._now(now_ns))

    def _untyped(self, channel: str, payload: bytes, now_ns: int) -> bytes:
        if b'"event_type"' in payload:
            try:
                event = _decode(payload)
            except msgspec.ValidationError:
                pass  # JSON that is not an event becomes an event's data
            else:
                return self._event_fields(channel, event, payload, now_ns)
        _decode_any(payload)
        return b'"timestamp":"%b","data":%b' % (self._now(now_ns), payload)

    def _event_fields(self, channel: str, event: EventFields, payload: bytes, now_ns: int) -> bytes:
        if not (  # what most events are
            event.__class__ is DatedEventObject
            and event.type is event.channel is event.offset is event.epoch is event.data_base64 is msgspec.UNSET
            and payload[0] == _OPEN
            and payload[-1] == _CLOSE
            and HAS_NORMAL_TIME(payload)
        ):
            payload = self._normal(channel, event, payload, now_ns)
        if event.timestamp is not msgspec.UNSET:
            return payload[1:-1]
        return b'"timestamp":"%b",%b' % (self._now(now_ns), payload[1:-1])

    def _normal(self, channel: str, event: EventFields | BytesEventObject, payload: bytes, now_ns: int) -> bytes:
        """Return an event object without the members that the gateway sets, with its time in one form."""
        if event.data is not msgspec.UNSET and event.data_base64 is not msgspec.UNSET:
            raise _Reject("reserved_field", "the event must not have both `data` and `data_base64`")
        if not (event.type is event.channel is event.offset is event.epoch is msgspec.UNSET):
            try:
                payload = without_reserved(payload, channel)
            except ValueError as error:
                raise _Reject("reserved_field", str(error)) from error
        elif payload[0] != _OPEN or payload[-1] != _CLOSE:
            payload = payload.strip(_SPACE)
        if event.timestamp is not msgspec.UNSET:
            try:
                return with_normal_time(payload, now_ns=now_ns)
            except ValueError as error:
                raise _Reject("invalid_event", str(error)) from error
        return payload

    def _now(self, now_ns: int) -> bytes:
        if now_ns != self._stamp_ns:
            self._stamp_ns, self._stamp = now_ns, timestamp(now_ns).encode()
        return self._stamp
