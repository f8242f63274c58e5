"""What stands behind the name of a magic: options and channels as in a shell."""

import argparse
import shlex
from typing import NoReturn

from neurograph_client.terminal.options import URL, URL_VARIABLE


LAST = 1_000
COUNT = 1_000
KINDS = ("chart", "values", "tail")


class ArgumentsError(Exception):
    """What is wrong with a magic's arguments, in a sentence."""


class HelpRequested(Exception):
    """The help of a magic, as its text."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ArgumentsError(f"{self.prog}: {message}; {self.prog} --help says what there is")

    def print_help(self, file: object = None) -> None:
        raise HelpRequested(self.format_help())


def _parser(name: str, about: str) -> _Parser:
    return _Parser(f"%{name}", description=about, allow_abbrev=False, formatter_class=argparse.RawTextHelpFormatter)


def _number(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of events")
    return int(text)


def _add_selection(parser: _Parser, *, last: int) -> None:
    parser.add_argument("channels", nargs="+", metavar="CHANNEL", help="a name or a pattern, such as robots.*")
    parser.add_argument(
        "--last", type=_number, default=last, metavar="N", help=f"begin with the newest N events ({last})"
    )
    parser.add_argument("--filter", metavar="CEL", help="only events that meet this condition: --filter 'data.x > 1'")


def _connect() -> _Parser:
    parser = _parser("ng_connect", "Connect to a gateway; `ng` is the client then.")
    parser.add_argument("url", nargs="?", metavar="URL", help=f"the gateway's address (${URL_VARIABLE}, or {URL})")
    parser.add_argument("--token-file", metavar="FILE", help="a file with the token; or set $GATEWAY_TOKEN")
    return parser


def _tail() -> _Parser:
    parser = _parser("ng_tail", "Print events as they arrive, until the cell is interrupted.")
    _add_selection(parser, last=0)
    parser.add_argument("--rate", type=float, metavar="N", help="at most N events per second; the newest wins")
    parser.add_argument("--count", type=_number, default=COUNT, metavar="N", help=f"end after N events ({COUNT})")
    parser.add_argument("--timeout", type=float, metavar="SECONDS", help="end when nothing has come for so long")
    return parser


def _query() -> _Parser:
    parser = _parser("ng_query", "Return a DataFrame of what the gateway holds of some channels.")
    _add_selection(parser, last=LAST)
    parser.add_argument("--polars", action="store_true", help="a DataFrame of polars instead of pandas")
    parser.add_argument("--nested", action="store_true", help="leave all data in the column `data`")
    return parser


def _live() -> _Parser:
    parser = _parser("ng_live", "Show a widget that follows channels: a chart of numbers, current values, or a log.")
    parser.add_argument("kind", choices=KINDS, metavar="|".join(KINDS))
    _add_selection(parser, last=100)
    parser.add_argument("--rate", type=float, metavar="N", help="at most N events per second; the newest wins")
    parser.add_argument(
        "--fields", metavar="NAME,…", help="only these fields: --fields data.cpu_percent,data.memory_mb"
    )
    return parser


def _channels() -> _Parser:
    parser = _parser("ng_channels", "Return the open channels.")
    parser.add_argument("patterns", nargs="*", metavar="PATTERN", help="only those that one of these matches")
    return parser


def _publish() -> _Parser:
    parser = _parser("ng_publish", "Publish an event: its data is JSON, or an expression of Python.")
    parser.add_argument("--type", dest="event_type", metavar="TYPE", help="the event's type")
    parser.add_argument("channel", metavar="CHANNEL")
    parser.add_argument("data", nargs=argparse.REMAINDER, metavar="DATA")
    return parser


PARSERS = {
    "ng_connect": _connect,
    "ng_status": lambda: _parser("ng_status", "Return the gateway's status."),
    "ng_channels": _channels,
    "ng_tail": _tail,
    "ng_query": _query,
    "ng_publish": _publish,
    "ng_live": _live,
}


def parse(name: str, line: str) -> argparse.Namespace:
    """Return the arguments of a magic.

    Raises:
        ArgumentsError: They are wrong.
        HelpRequested: They ask for help.
    """
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise ArgumentsError(f"%{name}: {str(error).lower()} in {line!r}: quote what has blanks") from None
    return PARSERS[name]().parse_args(words)


def parse_publish(line: str) -> tuple[str, str, str | None]:
    """Return the channel, the data as it stands there, with all its quotes, and the type if one is given.

    Raises what `parse` does.
    """
    rest, event_type = line.strip(), None
    if rest.startswith("--type"):
        option, _, rest = rest.partition(" ")
        _, _, event_type = option.partition("=")
        if not event_type:
            event_type, _, rest = rest.strip().partition(" ")
    elif rest.startswith("-"):
        parse("ng_publish", rest)  # --help, or an option that does not exist
    channel, _, data = rest.strip().partition(" ")
    if not channel or not data.strip():
        raise ArgumentsError('%ng_publish: give a channel and data, as in %ng_publish robots.r2 {"x": 1.5}')
    return channel, data.strip(), event_type
