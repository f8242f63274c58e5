"""The Autobahn test suite against an echo of the gateway's sockets: ``python -m tests.autobahn --wstest PATH``.

The suite (autobahntestsuite, command `wstest`) needs Python 2.7, so it is not among the requirements."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from tests.autobahn.echo import serving


CASES = [f"{number}.*" for number in (*range(1, 11), 12, 13)]
GOOD = {"OK", "INFORMATIONAL"}
"""Autobahn calls cases informational whose outcome RFC 6455 leaves open, such as what is done with large close reasons."""


def run(wstest: list[str], cases: list[str]) -> dict[str, Any]:
    """Run the suite; return what it says of each case."""
    with tempfile.TemporaryDirectory() as folder:
        spec = Path(folder, "spec.json")
        status = asyncio.run(_run([*wstest, "-m", "fuzzingclient", "-s", str(spec)], spec, cases))
        if status:
            raise SystemExit(f"{' '.join(wstest)} ended with status {status}")
        found: dict[str, Any] = json.loads(Path(folder, "index.json").read_text())["gateway"]
        return found


async def _run(command: list[str], spec: Path, cases: list[str]) -> int:
    async with serving() as port:
        server = {"agent": "gateway", "url": f"ws://127.0.0.1:{port}/"}
        wanted = {"servers": [server], "outdir": str(spec.parent), "cases": cases, "exclude-cases": []}
        await asyncio.to_thread(spec.write_text, json.dumps(wanted))
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.DEVNULL)
        return await process.wait()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.autobahn", description=__doc__)
    parser.add_argument("--wstest", default="wstest", help="the command of the suite, with its arguments")
    parser.add_argument("--cases", nargs="*", default=CASES)
    given = parser.parse_args()
    found = run(given.wstest.split(), given.cases)
    bad = {
        case: (one["behavior"], one["behaviorClose"])
        for case, one in found.items()
        if not {one["behavior"], one["behaviorClose"]} <= GOOD
    }
    print(len(found), "cases:", dict(Counter(one["behavior"] for one in found.values())))
    for case, what in bad.items():
        print("  ", case, *what)
    return int(bool(bad) or not found)


if __name__ == "__main__":
    sys.exit(main())
