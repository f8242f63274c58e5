"""Why an endpoint has no peer: what libzmq says of failed handshakes, or else what the peer says when it is asked.

Only a peer that is connected to can be asked, and is once in `_PROBE_SECONDS`."""

import asyncio
from collections.abc import Callable

from gateway.bus import zmtp_probe
from gateway.bus.curve import Curve, Mode
from gateway.runtime.tasks import Tasks


WAITING_SECONDS = 5.0
"""An endpoint without a peer for this long after it was opened is reported."""
_PROBE_SECONDS = 10.0


class Diagnosis:
    """`on_change` gets ``refused`` for a handshake that failed, and ``waiting`` once if no peer has come."""

    def __init__(
        self,
        endpoint: str,
        mode: Mode,
        receiver: zmtp_probe.Receiver,
        curve: Curve,
        *,
        has_peer: Callable[[], bool],
        on_change: Callable[[str], None],
    ) -> None:
        self.problem = ""
        """Why the last handshake failed, or why nobody can be reached; empty after a success."""
        self.refused = 0
        """Failed handshakes."""
        self._endpoint = endpoint
        self._is_bound = mode == "bind"
        self._receiver = receiver
        self._curve = curve
        self._has_peer = has_peer
        self._on_change = on_change
        self._loop = asyncio.get_running_loop()
        self._is_unreachable = False
        """Whether `problem` is that nobody can be reached."""
        self._waiting_since: float | None = self._loop.time()
        """Since when no peer has come; None if one has, or if it was reported."""
        self._probes = Tasks()
        self._probe_due = 0.0
        """When the peer may be probed next."""
        self._exact_problem = ""
        """What the last probe found."""

    @property
    def is_refused(self) -> bool:
        """Whether the last handshake failed."""
        return bool(self.problem) and not self._is_unreachable

    def close(self) -> None:
        self._probes.cancel()

    def succeeded(self) -> None:
        """Note that a handshake succeeded."""
        self.problem, self._is_unreachable, self._waiting_since = "", False, None

    def failed(self, event: int, value: int) -> None:
        """Note that a handshake failed, as an event of the socket's monitor says."""
        senders = zmtp_probe.senders(self._receiver)
        problem, is_exact = self._curve.describe_failure(event, value, bound=self._is_bound, senders=senders)
        self.refuse(problem, exact=is_exact)

    def wrong_kind(self) -> None:
        """Note that a handshake ended as it does with a socket of a wrong kind."""
        text = (
            f"The peer's socket is of another kind than {zmtp_probe.senders(self._receiver)}, which this endpoint "
            "receives from; `gateway doctor`, run while the gateway is stopped, says which."
        )
        self.refuse(text, exact=False)

    def refuse(self, problem: str, *, exact: bool) -> None:
        """Count a failed handshake, and report why it failed, once that is known."""
        self.refused += 1
        now = self._loop.time()
        if exact or self._is_bound:
            self._report(problem)
        elif now < self._probe_due:
            self._report(self._exact_problem or problem)
        else:
            self._probe_due, self._exact_problem = now + _PROBE_SECONDS, problem
            self._probes.start(self._find_problem(problem))

    def poll(self) -> None:
        """Report that no peer has come, if it is time for that; to be called every second or so."""
        if self._waiting_since is not None and self._loop.time() - self._waiting_since > WAITING_SECONDS:
            self._waiting_since = None
            if self._is_bound:
                self._on_change("waiting")
            elif not self.refused:
                self._probes.start(self._find_nobody())

    def _report(self, problem: str) -> None:
        self.problem, self._is_unreachable = problem, False
        self._on_change("refused")

    async def _find_problem(self, problem: str) -> None:
        """Ask the peer itself what it is."""
        peer = await zmtp_probe.probe(self._endpoint)
        if peer.state != "unreachable":
            problem = self._problem_of(peer) or problem
        if not self._has_peer():
            self._exact_problem = problem
            self._report(problem)

    async def _find_nobody(self) -> None:
        """Say why there is no connection yet."""
        peer = await zmtp_probe.probe(self._endpoint)
        problem = self._problem_of(peer)
        if problem and not self._has_peer() and not self.problem:
            self.problem, self._is_unreachable = problem, peer.state == "unreachable"
            self._on_change("waiting")

    def _problem_of(self, peer: zmtp_probe.Peer) -> str:
        return zmtp_probe.problem(peer, curve=self._curve.on, receiver=self._receiver)
