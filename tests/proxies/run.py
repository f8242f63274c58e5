"""Checks all proxies that are installed, and prints a table of proxies and checks."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from neurograph_publisher import Publisher

from tests.proxies import browsers, document, stacks
from tests.proxies.checks import CHECKS, Stage
from tests.proxies.servers import PROXIES, Place, ReverseProxy
from tests.support.addresses import free_port
from tests.support.gateway import Gateway
from tests.support.tls import Files


Results = dict[str, str]
"""What each check has found."""

_SETTINGS = {
    "trusted_proxies": "127.0.0.1",
    "shutdown.reconnect_spread_seconds": 0.3,
    "history.events_max": 100_000,
    "bus.discovery_seconds": 1,  # a restarted gateway hears from the publisher before anyone resumes
}


async def check(kind: type[ReverseProxy], folder: Path, certificate: Files) -> Results:
    """Run all checks with one proxy."""
    (folder / kind.__name__).mkdir()
    port = free_port()
    place = Place(folder=folder / kind.__name__, certificate=certificate, gateway_port=port, port=free_port())
    results = {}
    async with Gateway(port=port, settings=_SETTINGS) as gateway:
        publisher = Publisher(connect=gateway.bus_in, replay=100_000, heartbeat_seconds=0.2)
        try:
            await asyncio.to_thread(publisher.wait_for_subscriber, 60)
            async with kind(place) as proxy:
                stage = Stage(gateway, proxy, publisher)
                for name, run in CHECKS.items():
                    try:
                        results[name] = await run(stage)
                    except Exception as error:  # whatever it is, the others run
                        results[name] = "FAILS"
                        print(f"{kind.name}, {name}: {_reasons(error)}", file=sys.stderr)
        finally:
            publisher.close()
    return results


def _reasons(error: BaseException) -> str:
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(_reasons(one) for one in error.exceptions)
    return f"{type(error).__name__}: {error}"


def table(found: dict[str, Results]) -> list[str]:
    """Return the rows of a table with a column for each of the results."""
    rows = [["", *found], ["---"] * (len(found) + 1)]
    names = next(iter(found.values()), {})
    rows += [[name, *(results[name] for results in found.values())] for name in names]
    return [f"| {' | '.join(row)} |" for row in rows]


async def check_all(kinds: list[type[ReverseProxy]], folder: Path, certificate: Files) -> dict[str, Results]:
    """Run all checks with each proxy, all at once: most of the time they wait."""
    found = await asyncio.gather(*[check(kind, folder, certificate) for kind in kinds])
    return {kind.name: results for kind, results in zip(kinds, found, strict=True)}


def main() -> int:
    folder = Path(sys.argv[1])
    certificate = Files(folder / "served.pem", folder / "served.key")
    wanted = [kind for kind in PROXIES if kind.program in (sys.argv[2:] or kind.program)]
    installed = [kind for kind in wanted if kind.is_installed()]
    missing = [
        *dict.fromkeys(kind.package for kind in wanted if kind not in installed),
        *(package for package, program in browsers.BROWSERS.items() if not program),
        *stacks.missing(),
    ]
    tables = {"proxies": asyncio.run(check_all(installed, folder, certificate))}
    tables["browsers"] = asyncio.run(browsers.check(installed, folder, certificate))
    tables |= asyncio.run(stacks.check(folder))
    for name, found in tables.items():
        rows = table(found)
        print("\n".join(rows), "\n")
        if installed == list(PROXIES) and not missing:
            document.write(name, rows)
    if missing:
        print(f"left out: {', '.join(missing)} (Debian: apt-get install {' '.join(missing)})")
    results = [one for found in tables.values() for column in found.values() for one in column.values()]
    has_failed = any(one.startswith("FAILS") for one in results)
    return int(has_failed or (bool(missing) and "CI" in os.environ))


if __name__ == "__main__":
    sys.exit(main())
