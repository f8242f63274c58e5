"""How far the connection has come in each channel, and whose each event is."""

from base64 import b64decode
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from neurograph_client.feed import Feed
from neurograph_client.feeds import Feeds
from neurograph_client.items import Event, Gap, Position


Message = dict[str, Any]

OWN = ("$personal", "$everyone")
"""Channels that every client has without asking."""


class Route:
    """One channel: the epoch of what comes next, how far each live source has come, and who wants it."""

    __slots__ = ("epoch", "feeds", "lost", "offsets", "reached")

    def __init__(self) -> None:
        self.epoch = ""
        self.reached: str | None = None
        """The source of what came last; None as long as there is no position."""
        self.offsets: dict[str, int] = {}
        self.lost = False
        self.feeds: tuple[Feed, ...] = ()


class Routes:
    """Takes what the gateway says of channels, in order, and hands it to the feeds that want it."""

    def __init__(self) -> None:
        self.feeds = Feeds()
        self._routes: dict[str, Route] = {}

    # -- who follows what ----------------------------------------------------------------------

    def add(self, feed: Feed) -> None:
        """Give a feed what comes from now on."""
        self.feeds.add(feed)
        for name in feed.among(self._routes):
            self._routes[name].feeds = self.feeds.wanting(name)

    def remove(self, feed: Feed) -> None:
        """Give a feed nothing more; forget the channels that nobody follows any more."""
        self.feeds.remove(feed)
        names = feed.among(self._routes)
        for name in names:
            self._routes[name].feeds = self.feeds.wanting(name)
        self._forget(names)

    def unsubscribed(self) -> None:
        """Forget also the channels that began only when nobody followed them any more."""
        self._forget(list(self._routes))

    def _forget(self, names: Iterable[str]) -> None:
        for name in names:
            if not self._routes[name].feeds and name not in OWN:
                del self._routes[name]

    def _route(self, channel: str) -> Route:
        route = self._routes.get(channel)
        if route is None:
            route = self._routes[channel] = Route()
            route.feeds = self.feeds.wanting(channel)
        return route

    # -- what comes ----------------------------------------------------------------------------

    def event(self, message: Message) -> bool:
        """Take an event; returns whether the feeds that it went to are full."""
        channel = message["channel"]
        route = self._routes.get(channel)
        if route is None:
            route = self._route(channel)
        if "epoch" in message:
            self._name(channel, route, message["epoch"])
        elif len(route.offsets) > 1:  # no other source is live
            route.offsets = {}
        route.reached = epoch = route.epoch
        route.offsets[epoch] = offset = message["offset"]
        feeds = route.feeds
        if not feeds:
            return False
        if "data" not in message:
            message["data"] = b64decode(message.pop("data_base64"))
        event = Event(channel, epoch, offset, message.get("event_type"), message["timestamp"], message["data"], message)
        full = False
        for feed in feeds:
            feed.offer(event)
            if feed.full:
                full = True
        return full

    def gap(self, message: Message) -> bool:
        """Take a gap; returns whether the feeds that it went to are full."""
        channel = message["channel"]
        route = self._route(channel)
        gap = Gap(channel, message["epoch"], message["from"], message["to"], message["count"], message["reason"])
        self._name(channel, route, gap.epoch)
        if gap.reason == "conflated":
            # The events that stand for the others have come; theirs is the position.
            for feed in route.feeds:
                feed.conflated += gap.count or 0
            return False
        if gap.to is not None:
            route.reached, route.offsets[gap.epoch] = gap.epoch, gap.to
        elif route.offsets.keys() - {gap.epoch}:  # the source ended
            route.offsets.pop(gap.epoch, None)
            route.reached = next(iter(route.offsets))
        lost, route.lost = route.lost, False
        for feed in route.feeds:
            feed.offer_gap(gap, lost=lost)
        return any(feed.full for feed in route.feeds)

    def subscribed(self, message: Message, begun: Iterable[Feed] = ()) -> None:
        """Take where channels go on, and where the feeds begin that this confirms."""
        begun = set(begun)
        for channel, place in message["positions"].items():
            for feed in begun.intersection(self._route(channel).feeds):
                feed.begin(channel, Position(**place))
            self._place(channel, place)
        for channel, recovered in message["recovered"].items():
            self._route(channel).lost = not recovered

    def begin_personal(self, *, anew: bool) -> None:
        """Take that personal messages are numbered from 1 again; `anew` if some may be lost with it."""
        self._routes.pop("$personal", None)
        for feed in self.feeds.wanting("$personal"):
            feed.forget("$personal")
            if anew:
                feed.offer_gap(Gap("$personal", "", None, None, None, "epoch"), lost=True)

    def pong(self, message: Message) -> None:
        """Take how far the gateway has come: what is left out by a filter moves on, too."""
        for channel, place in message["positions"].items():
            self._place(channel, place)

    def _place(self, channel: str, place: Mapping[str, Any]) -> None:
        route = self._route(channel)
        self._name(channel, route, place["epoch"])
        route.reached, route.offsets = place["epoch"], Position(**place).offsets

    def _name(self, channel: str, route: Route, epoch: str) -> None:
        if not route.epoch:
            if "" in route.offsets:
                route.offsets[epoch] = route.offsets.pop("")
            for feed in route.feeds:
                feed.name_epoch(channel, epoch)
        route.epoch = epoch

    # -- going on after a loss -----------------------------------------------------------------

    def since(self, selected: Callable[[str], bool], *, bytes_max: int) -> dict[str, Any]:
        """Return the positions of selected channels, the named ones first, as far as they fit.

        What does not fit comes from its beginning, and what of it came before goes no further.
        """
        named = {name for feed in self.feeds for name in feed.patterns}
        found: dict[str, Any] = {}
        size = 2
        for name, route in sorted(self._routes.items(), key=lambda item: item[0] not in named):
            if not route.reached or not selected(name):
                continue
            size += len(name) + sum(len(epoch) + 32 for epoch in route.offsets) + 48
            if size > bytes_max:
                break
            found[name] = Position.of(route.offsets, route.reached).as_json()
        return found


def patterns(feeds: Iterable[Feed]) -> dict[str, Feed]:
    """Return what feeds follow on the gateway, each with a feed that says under which conditions."""
    return {name: feed for feed in feeds for name in feed.patterns if name not in OWN}
