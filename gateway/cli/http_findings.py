"""What a running gateway says of itself over HTTP, for `gateway doctor`."""

import json
import ssl
from collections.abc import Iterator
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from gateway.cli.findings import Finding


_SECONDS = 5.0
_API = "/api/v1/websocket"
_FILTER_ERRORS = "neurograph_gateway_filter_errors_total"


class Site:
    """One gateway's HTTP interface, at an http or https URL."""

    def __init__(self, url: str, *, token: str = "", origin: str = "") -> None:
        self.url = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._origin = origin
        # The gateway examines itself, usually by an address that is not in its certificate.
        self._tls = ssl.create_default_context()
        self._tls.check_hostname, self._tls.verify_mode = False, ssl.CERT_NONE

    def findings(self) -> Iterator[Finding]:
        """Yield the findings, in the order in which a client depends on them.
        Raises OSError: no HTTP server can be reached there."""
        status, _ = self._get("/healthz")
        if status != 200:
            yield Finding("http", "problem", f"/healthz answers {status}", "is another program using this port?")
            return
        yield Finding("http", "ok", f"a gateway serves {self.url}")
        yield from self._readiness()
        yield from self._bus()
        yield from self._clients()
        yield from self._filters()
        if self._origin:
            yield self._check_origin()

    def bus(self) -> list[dict[str, Any]]:
        """Return the state of the running gateway's endpoints; empty if it is not known."""
        status, body = self._get(f"{_API}/status?limit=1")
        return list(json.loads(body)["bus"]) if status == 200 else []

    def _readiness(self) -> Iterator[Finding]:
        status, body = self._get("/readyz")
        if status == 200:
            degraded = json.loads(body).get("degraded", [])
            if degraded:
                yield Finding("ready", "warning", f"new clients can connect, but {'; '.join(degraded)}")
            else:
                yield Finding("ready", "ok", "new clients can connect")
        else:
            reasons = "; ".join(json.loads(body).get("reasons", [])) or f"/readyz answers {status}"
            yield Finding("ready", "problem", reasons, "see docs/monitor.md, Health")

    def _bus(self) -> Iterator[Finding]:
        status, body = self._get(f"{_API}/status?limit=1")
        if status != 200:
            text = f"its status is not open to this caller ({status})"
            yield Finding("bus", "note", text, "give a token of a role with `admin` in GATEWAY_TOKEN")
            return
        state = json.loads(body)
        for one in state["bus"]:
            yield endpoint_finding(one)
        rejected = {reason: count for reason, count in state["rejected"].items() if count}
        if rejected:
            counts = ", ".join(f"{count} {reason}" for reason, count in rejected.items())
            remedy = f"see {self.url}{_API}/rejections"
            yield Finding("rejections", "warning", f"rejected since its start: {counts}", remedy)

    def _clients(self) -> Iterator[Finding]:
        status, body = self._get(f"{_API}/channels")
        if status != 200:
            return
        channels = json.loads(body)["channels"]
        watched = [one["name"] for one in channels if one["subscribers"]]
        if watched:
            yield Finding("subscribers", "ok", f"{len(watched)} of {len(channels)} channels have subscribers")
        else:
            text = f"none of {len(channels)} channels has a subscriber"
            yield Finding("subscribers", "note", text, "subscribe, for example with `gateway tail '>'`")

    def _filters(self) -> Iterator[Finding]:
        status, body = self._get("/metrics")
        if status != 200:
            return
        lines = [line for line in body.splitlines() if line.startswith(_FILTER_ERRORS)]
        errors = sum(float(line.rpartition(" ")[2]) for line in lines)
        if errors:
            remedy = "a filter reads a member that events do not have: use has(data.x), or correct the path"
            yield Finding("filters", "warning", f"clients' filters failed on {errors:.0f} events", remedy)
        else:
            yield Finding("filters", "ok", "no filter failed")

    def _check_origin(self) -> Finding:
        status, _ = self._get("/healthz", {"Origin": self._origin})
        if status == 200:
            return Finding("origin", "ok", f"pages of {self._origin} may connect")
        remedy = f'add "{self._origin}" to allowed_origins'
        return Finding("origin", "problem", f"pages of {self._origin} are refused ({status})", remedy)

    def _get(self, path: str, headers: dict[str, str] | None = None) -> tuple[int, str]:
        request = Request(self.url + path, headers={**self._headers, **(headers or {})})  # noqa: S310
        try:
            with urlopen(request, timeout=_SECONDS, context=self._tls) as answer:  # noqa: S310
                return answer.status, answer.read().decode(errors="replace")
        except HTTPError as error:
            with error:
                return error.code, error.read().decode(errors="replace")
        except URLError as error:
            raise OSError(str(error.reason)) from error


def endpoint_finding(one: dict[str, Any]) -> Finding:
    """Return what a running gateway's state of an endpoint says."""
    name = f"{one['endpoint']} {one.get('address', '')} ({one['mode']})".replace("  ", " ")
    if one["peers"]:
        last = one["last_event_seconds"]
        heard = "no message yet" if last is None else f"the last message {last:.1f} s ago"
        refused = f"; another peer was refused: {one['problem']}" if one.get("problem") else ""
        text = f"{name}: {one['peers']} peers, {one['received']} messages, {heard}{refused}"
        return Finding("bus", "warning" if refused or last is None else "ok", text)
    if one.get("problem"):
        return Finding("bus", "problem", f"{name}: {one['problem']}")
    waits = "no publisher has connected" if one["mode"] == "bind" else "nobody listens there"
    return Finding("bus", "warning", f"{name}: {waits}")
