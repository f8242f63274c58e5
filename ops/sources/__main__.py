"""Decode every case with the settings of its source, and write the tables of docs/decoders.md."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

from gateway.config import Config
from gateway.config.settings import source_settings
from gateway.config.sources import read_sources
from gateway.core.ingest.ingest import Ingest
from gateway.core.ingest.pipeline import Pipeline
from gateway.core.ingest.recovery import Recovery
from gateway.core.ingest.streams import Streams
from gateway.core.log.logs import Logs
from gateway.core.log.retention import Retention
from gateway.core.sources.presets import PRESETS
from gateway.core.sources.source import Source
from gateway.core.sources.spec import problems
from gateway.core.sources.topics import unescape
from ops.sources.cases import CASES, Case


TARGET = Path(__file__).parents[2] / "docs/decoders.md"
_END = "<!-- end -->\n"
_SHOWN_CHARACTERS = 60


def run(case: Case) -> tuple[list[tuple[str, object]], list[str], int]:
    """Return the events of a case, its rejections, and how many messages are missing."""
    logs = Logs(epoch="e", channels_max=100, retention=Retention(events_max=100))
    limits = Config().ingest
    ingest = Ingest(
        payload_bytes_max=limits.payload_bytes_max,
        rejections_max=10,
        admit=logs.admit,
        recovery=Recovery(streams=Streams(streams_max=10), started_ns=0, history=logs.history),
    )
    pipeline = Pipeline(ingest=ingest, logs=logs)
    if case.settings is None:
        tick = pipeline.receive(case.messages, now_ns=1)
    else:
        table = {"endpoint": "tcp://127.0.0.1:5555", **case.settings}
        [settings], wrong = read_sources([table], origin="", text=False)
        if wrong or (wrong_together := list(problems(settings))):
            raise ValueError(f"{case.publisher}: {wrong or wrong_together}")
        source = Source(settings, bytes_max=limits.payload_bytes_max, new_incarnation=lambda: 1)
        tick = pipeline.receive_from(source, case.messages, now_ns=1)
    events = [(event.channel, _data(json.loads(b"{%b}" % event.fields))) for event in tick.events]
    return events, [rejection.detail for rejection in tick.rejections], ingest.recovery.streams.lost


def _data(event: dict[str, object]) -> object:
    """Return an event's data; if it carries bytes, these with its other members."""
    return event["data"] if "data" in event else {name: event[name] for name in event if name != "timestamp"}


def is_as_expected(case: Case) -> bool:
    events, rejections, lost = run(case)
    return (list(case.events), [], case.lost) == (events, rejections, lost)


def publishers() -> Iterator[str]:
    """Yield the rows of the table source x result."""
    yield "| publisher | on the wire | settings | what clients get first | |"
    yield "|---|---|---|---|---|"
    for case in CASES:
        events, rejections, lost = run(case)
        result = "as expected" if is_as_expected(case) else f"**fails**: {rejections or events}"
        if lost:
            result += f"; {lost} lost, reported"
        yield f"| {_named(case)} | {case.looks} | {_settings(case)} | {_event(*events[0]) if events else ''} | {result} |"


def settings() -> Iterator[str]:
    """Yield the rows of the table of a source's settings."""
    yield "| setting | default | |"
    yield "|---|---|---|"
    for setting in source_settings().values():
        default = "" if setting.key == "endpoint" else f"`{setting.default_toml}`"
        yield f"| `{setting.key}` | {default} | {setting.doc.replace('|', chr(92) + '|')} |"


def presets() -> Iterator[str]:
    """Yield the rows of the table of presets."""
    yield "| preset | settings | tested against |"
    yield "|---|---|---|"
    for name, values in PRESETS.items():
        settings = ", ".join(f"`{key} = {json.dumps(value)}`" for key, value in values.items())
        tested = [_named(case) for case in CASES if (case.settings or {}).get("preset") == name]
        yield f"| `{name}` | {settings} | {'; '.join(tested)} |"


def document() -> str:
    """Return docs/decoders.md with its tables as they are now."""
    text = TARGET.read_text()
    for rows in (settings, presets, publishers):
        begin = f"<!-- {rows.__name__}, written by make sources -->\n"
        before, _, rest = text.partition(begin)
        text = "".join([before, begin, *(f"{row}\n" for row in rows()), _END, rest.partition(_END)[2]])
    return text


def _named(case: Case) -> str:
    """Return the publisher with its version, or with (E) if its bytes were not captured."""
    return f"{case.publisher} ({case.seen or 'E'})"


def _settings(case: Case) -> str:
    if case.settings is None:
        return "none needed"
    return "<br>".join(f"`{name} = {json.dumps(value)}`" for name, value in case.settings.items())


def _event(channel: str, data: object) -> str:
    shown = json.dumps(data, ensure_ascii=False)
    if len(shown) > _SHOWN_CHARACTERS:
        shown = f"{shown[:_SHOWN_CHARACTERS]}…"
    name = channel if unescape(channel) == channel else f"{channel}` = `{unescape(channel)}"
    return f"`{name}`: `{shown}`".replace("|", "\\|")


if __name__ == "__main__":
    TARGET.write_text(document())
    failed = [case.publisher for case in CASES if not is_as_expected(case)]
    print(f"{len(CASES) - len(failed)} of {len(CASES)} publishers are read as expected; see docs/decoders.md")
    for name in failed:
        print(f"  not as expected: {name}")
    sys.exit(bool(failed))
