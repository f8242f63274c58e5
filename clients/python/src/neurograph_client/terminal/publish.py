"""`gateway publish --url`: publish over a gateway, as its clients do."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import orjson

from neurograph_client import BlockingClient, ClientError, ErrorCode, Published, RequestRefusedError
from neurograph_client.terminal import output
from neurograph_client.terminal.options import Gateway, gateway_at
from neurograph_client.terminal.tail import log_as_notices, new_client


_OF_ONE_EVENT = {ErrorCode.INVALID_EVENT, ErrorCode.TOO_LARGE}
"""Refusals that say nothing of other events."""


class Payloads(Protocol):
    """Events as JSON, each from a place that people find again."""

    @property
    def place(self) -> str:
        """Where the event that was handed out last came from, such as ``line 12``."""

    def __iter__(self) -> Iterator[bytes]: ...

    def refuse(self, why: str) -> None:
        """Report that the event that was handed out last is not valid."""


def publish_over(
    url: str, token: str | Path | None, channel: str, payloads: Payloads, *, wait_seconds: float, mandatory: bool
) -> None:
    """Publish each of the payloads on a channel, and print how many that were.

    Raises:
        ClickException: There is no gateway, or it refuses, or nobody knows whether an event was published.
    """
    log_as_notices()
    gateway = gateway_at(url, token)
    with output.clean_exit():
        try:
            client = BlockingClient(new_client(gateway, timeout=wait_seconds))
        except ClientError as error:
            raise output.CommandError(gateway.explain(error)) from None
        with client:
            _Sender(gateway, client, channel, wait_seconds, mandatory=mandatory).send_all(payloads)


class _Sender:
    def __init__(
        self, gateway: Gateway, client: BlockingClient, channel: str, wait_seconds: float, *, mandatory: bool
    ) -> None:
        self._gateway = gateway
        self._client = client
        self._channel = channel
        self._wait_seconds = wait_seconds
        self._mandatory = mandatory
        self._published = 0
        self._to_nobody = 0
        self._progress = output.Progress()

    def send_all(self, payloads: Payloads) -> None:
        try:
            for payload in payloads:
                self._send(payload, payloads)
        finally:
            self._progress.clear()
            if self._published:
                output.notice(self._summary())

    def _send(self, payload: bytes, payloads: Payloads) -> None:
        try:
            answer = self._ask(payload)
        except RequestRefusedError as error:
            if error.code not in _OF_ONE_EVENT:
                raise output.CommandError(f"{payloads.place}: {self._gateway.explain(error)}") from None
            self._progress.clear()
            payloads.refuse(error.message)
        except ClientError as error:
            raise output.CommandError(f"{payloads.place}: {self._gateway.explain(error)}") from None
        except TimeoutError:
            why = f"the gateway at {self._gateway.url} did not answer within {self._wait_seconds:g} s"
            doubt = "the event may or may not have been published"
            raise output.CommandError(f"{payloads.place}: {why}; {doubt}") from None
        else:
            self._published += 1
            self._to_nobody += not answer.recipients and not answer.bus
            self._progress.show(self._published, self._summary())

    def _ask(self, payload: bytes) -> Published:
        """Publish, again and again while the gateway refuses it for a moment."""
        deadline = time.monotonic() + self._wait_seconds
        while True:
            try:
                return self._client.publish(self._channel, orjson.Fragment(payload), mandatory=self._mandatory)
            except RequestRefusedError as error:  # too large for a message, it went over HTTP
                if error.retry_after is None or time.monotonic() + error.retry_after > deadline:
                    raise
                time.sleep(error.retry_after)

    def _summary(self) -> str:
        nobody = f"; {self._to_nobody:,} of them reached nobody" if self._to_nobody else ""
        return f"published {self._published:,} event{'s' * (self._published != 1)} on {self._channel}{nobody}"
