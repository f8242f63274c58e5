"""What an endpoint of the bus is like, from its socket to the messages, for `gateway doctor`."""

import asyncio
import time
from dataclasses import dataclass
from typing import Any

from gateway.bus import zmtp_probe
from gateway.cli import findings, replay_findings
from gateway.cli.findings import Finding, Report
from gateway.cli.http_findings import Site, endpoint_finding
from gateway.config import Config
from gateway.config.sources import Endpoint


@dataclass(frozen=True, slots=True)
class Examination:
    """Examines endpoints of the bus."""

    config: Config
    site: Site
    seconds: float
    take: bool
    """Whether messages that only one receiver gets are received, too."""
    report: Report

    async def examine(self, endpoint: Endpoint) -> None:
        await (self._bound(endpoint) if endpoint.mode == "bind" else self._connected(endpoint))

    async def _connected(self, endpoint: Endpoint) -> None:
        """Examine an endpoint that the gateway connects to."""
        began = time.monotonic()
        peer = await zmtp_probe.probe(endpoint.address)
        if peer.state == "unreachable":
            wrong, other = (
                ("correct `connect`", "`bind`") if endpoint.source is None else ("correct its source", 'mode = "bind"')
            )
            remedy = f"start the publisher, or {wrong}; if the publisher connects, set {other} instead"
            self.report(Finding("reachable", "problem", peer.detail, remedy))
            return
        self.report(Finding("reachable", "ok", f"connected in {(time.monotonic() - began) * 1000:.0f} ms"))
        wrong = self._problem(endpoint, peer)
        if peer.state != "zmtp":
            self.report(Finding("zeromq", "problem", wrong))
            return
        secured = "CURVE" if peer.mechanism == "CURVE" else f"mechanism {peer.mechanism}"
        self.report(Finding("zeromq", "ok", f"ZMTP {peer.version}, {secured}"))
        if wrong:
            is_kind = peer.mechanism == "NULL" and not self._uses_curve(endpoint)
            self.report(
                Finding("socket" if is_kind else "curve", "problem", wrong, settings=_source_for(endpoint, peer.kind))
            )
            return
        if peer.kind:
            self.report(Finding("socket", "ok", peer.kind))
        await self._received(endpoint)

    async def _bound(self, endpoint: Endpoint) -> None:
        """Examine the endpoint that publishers connect to: as the gateway, unless one runs already."""
        from gateway.bus import sampling  # here, so that other commands start without zmq

        address, seconds = endpoint.address, self.seconds
        known = [one for one in await asyncio.to_thread(_bus_of, self.site) if one["endpoint"] == address]
        for state in known:
            self.report(endpoint_finding(state))
        if known:
            return
        if "*" not in address and (await zmtp_probe.probe(address, seconds=1.0)).state != "unreachable":
            text = "it is in use, and the gateway that uses it, if it is one, does not say how it is"
            self.report(
                Finding("bind", "note", text, "stop it to examine the publishers, or give its --url and GATEWAY_TOKEN")
            )
            return
        try:
            peers = await sampling.identify_visitors(address, seconds=seconds)
        except OSError as error:
            self.report(
                Finding("bind", "problem", f"it cannot be bound: {error.strerror or error}", "choose another `bind`")
            )
            return
        if not peers:
            text = f"no publisher connected within {seconds:g} s"
            self.report(
                Finding("reachable", "warning", text, "let publishers connect here, or wait longer: --seconds 60")
            )
            return
        wrong = {text: peer.kind for peer in peers if (text := self._problem(endpoint, peer))}
        for text in sorted(wrong):
            self.report(Finding("socket", "problem", text, settings=_source_for(endpoint, wrong[text])))
        if good := [peer for peer in peers if not self._problem(endpoint, peer)]:
            kinds = ", ".join(sorted({peer.kind or peer.mechanism for peer in good}))
            self.report(Finding("socket", "ok", f"{kinds} connected"))
            await self._received(endpoint)

    async def _received(self, endpoint: Endpoint) -> None:
        """Receive, and say what came."""
        from gateway.bus import sampling
        from gateway.bus.subscriber import BusError

        source, seconds = endpoint.source, self.seconds
        pulls = source is not None and source.socket == "pull"
        if pulls and not self.take:
            text = "none was received: a PUSH sends each message to one receiver, so the gateway would lack it"
            self.report(Finding("message", "note", text, "to examine messages all the same, give --take"))
            return
        try:
            sample = await sampling.sample(self.config.bus, endpoint, seconds=seconds)
        except BusError as error:
            self.report(Finding("handshake", "problem", str(error)))
            return
        if not sample.connected:
            text = sample.problem or f"the ZMTP handshake did not end within {seconds:g} s"
            self.report(Finding("handshake", "problem", text))
            return
        self.report(Finding("handshake", "ok", _subscribed(endpoint)))
        if sample.problem:
            self.report(Finding("handshake", "warning", f"another peer was refused: {sample.problem}"))
        if sample.first_seconds is None:
            text = f"no message within {seconds:g} s: the publisher is connected and sends nothing"
            self.report(Finding("message", "warning", text, "publish something, or wait longer: --seconds 60"))
        else:
            self.report(Finding("message", "ok", f"the first one after {sample.first_seconds:.1f} s"))
            for finding in findings.examine(
                sample.messages, config=self.config, received=sample.received, seconds=sample.seconds, endpoint=endpoint
            ):
                self.report(finding)
        await replay_findings.examine(self.config, endpoint, sample.messages, self.report)

    def _uses_curve(self, endpoint: Endpoint) -> bool:
        return bool(self.config.bus.curve_key_file) and endpoint.may_use_curve

    def _problem(self, endpoint: Endpoint, peer: zmtp_probe.Peer) -> str:
        receiver = "sub" if endpoint.source is None else endpoint.source.socket
        return zmtp_probe.problem(peer, curve=self._uses_curve(endpoint), receiver=receiver)


def _source_for(endpoint: Endpoint, kind: str) -> str:
    """Return the table that lets the gateway receive from this kind of socket; "" if none is missing."""
    if kind != "PUSH" or endpoint.source is not None:
        return ""
    return findings.missing_source(endpoint, {"socket": "pull"})


def _subscribed(endpoint: Endpoint) -> str:
    if endpoint.source is None or not (endpoint.source.subscribe or endpoint.source.socket == "pull"):
        return "subscribed to all topics"
    if endpoint.source.socket == "pull":
        return "connected; a PULL has no subscriptions"
    return f"subscribed to topics that begin with {' or '.join(map(repr, endpoint.source.subscribe))}"


def _bus_of(site: Site) -> list[dict[str, Any]]:
    """Return the endpoints of the gateway that runs there, if one does and says it."""
    try:
        return site.bus()
    except OSError:
        return []
