"""Requests of the Python client, one after the other; each line of the output is what became of one.

requests.py URL: until standard input ends.
"""

import asyncio
import itertools
import json
import sys

from neurograph_client import Client, ClientError


async def main(url: str) -> None:
    ended = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    async with Client(url, timeout=60) as client:
        for number in itertools.count():
            if ended.done():
                return
            core = ("plain", "library")[number % 2]
            outcome: dict[str, object] = {"from": "python", "n": number, "core": core}
            try:
                answer = await client.request(f"core.{core}", {"from": "python", "n": number}, timeout=10)
                outcome |= {"double": answer.data["double"]}
            except (ClientError, TimeoutError) as error:
                outcome |= {"reason": str(error)}
            print(json.dumps(outcome), flush=True)
            await asyncio.sleep(0.02)


asyncio.run(main(sys.argv[1]))
