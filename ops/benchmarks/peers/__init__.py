"""Other servers, which get the same events: each is a small program or a configuration in this folder."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from ops.benchmarks import scenarios
from ops.benchmarks.plan import CROWD, HIGHEST, STEADY, Scenario
from ops.benchmarks.plot import bars
from ops.benchmarks.programs import MADE, ROOT, NotHere
from ops.benchmarks.results import Results
from ops.benchmarks.servers import Server, gateway, limit


HERE = Path(__file__).parent
PICTURE = ROOT / "docs/peers.svg"
NODE = MADE / "node"
VENV = MADE / "venv/bin/python"
_NATS = 'CONNECT {"verbose":false}\r\nSUB metrics 1\r\n'
_MQTT = b"\x10\x0c\0\4MQTT\4\2\0\0\0\0" + b"\x82\x0c\0\1\0\7metrics\0"


def peers() -> Iterator[Server | NotHere]:
    """Return each peer, or how to install it."""
    yield _python("aiohttp, send_str", "aiohttp_server.py")
    yield _python("websockets, broadcast", "websockets_server.py")
    yield _python("FastAPI, send_json", "fastapi_server.py", VENV)
    yield _node("node ws", "ws_server.mjs")
    yield _node("uWebSockets.js", "uws_server.mjs")
    yield _nats()
    yield _nchan()
    yield _mosquitto()


def peers_plan() -> list[Scenario]:
    """Return the scenarios of `make bench-peers`; print which peers are missing."""
    subprocess.run([str(HERE / "get.sh"), str(MADE)], check=False)
    found = []
    for one in peers():
        if isinstance(one, NotHere):
            print("Left out:", one, file=sys.stderr)
        else:
            found.append(one)
    servers = [limit("tick"), limit("event"), gateway(), *found]
    return [
        Scenario("s1", "1,000 clients, 200 events/s", scenarios.steady(1000, 200, 3),
                 servers, STEADY, frozenset({"cpu"})),
        Scenario("s3", "1,000 clients, the highest rate held", scenarios.highest(1000, 2, start=150),
                 servers, HIGHEST, frozenset({"deliveries", "deliveries_50"})),
        Scenario("s5", "5,000 clients: idle, and one event to all", scenarios.crowd(5000, 1),
                 servers, CROWD, frozenset({"last_client"})),
    ]  # fmt: skip


def picture(results: Results) -> str:
    """Plot the highest sustained rates, the highest first."""
    held = [(name, results.median("s3", name, "deliveries") or 0.0) for name in results.servers("s3")]
    held = sorted(((name, rate) for name, rate in held if rate), key=lambda one: -one[1])
    return bars("Deliveries per second to 1,000 clients, p99 below 200 ms (logarithmic)", held)


def _python(name: str, file: str, python: Path = Path(sys.executable)) -> Server | NotHere:
    if not python.exists():
        return NotHere(f"{name}: needs Python packages, which {HERE / 'get.sh'} installs")
    return Server(name, (str(python), str(HERE / file), "{port}", "{bus}"))


def _node(name: str, file: str) -> Server | NotHere:
    node = shutil.which("node")
    if node is None or not NODE.exists():
        return NotHere(f"{name}: needs Node.js 20 and npm; then {HERE / 'get.sh'} installs the rest")
    command = (node, str(HERE / file), "{port}", "{bus}")
    return Server(name, command, environment={"PEERS_NODE": str(NODE)})


def _nats() -> Server | NotHere:
    program = _find("nats-server")
    if program is None:
        return NotHere("NATS: apt-get install nats-server")
    return Server(
        "NATS (WebSocket)",
        (program, "-c", "{folder}/nats.conf"),
        publish=("nats", "{second}"),
        load=("--path", "/", "--inside", "--hex", _NATS.encode().hex()),
        files={"nats.conf": (HERE / "nats.conf").read_text()},
    )


def _nchan() -> Server | NotHere:
    program = _find("nginx")
    module = Path(program or "/").parent.parent / "lib/nginx/modules/ngx_nchan_module.so"
    if program is None or not module.exists():
        return NotHere("nchan: apt-get install nginx libnginx-mod-nchan")
    config = (HERE / "nginx.conf").read_text().replace("{nchan}", str(module))
    return Server(
        "nchan (nginx)",
        (program, "-p", "{folder}", "-c", "{folder}/nginx.conf"),
        publish=("http", "{port}"),
        files={"nginx.conf": config},
    )


def _mosquitto() -> Server | NotHere:
    program = _find("mosquitto")
    if program is None:
        return NotHere("Mosquitto: apt-get install mosquitto")
    return Server(
        "Mosquitto (WebSocket)",
        (program, "-c", "{folder}/mosquitto.conf"),
        publish=("mqtt", "{second}"),
        load=("--path", "/mqtt", "--protocol", "mqtt", "--inside", "--hex", _MQTT.hex()),
        files={"mosquitto.conf": (HERE / "mosquitto.conf").read_text()},
    )


def _find(name: str) -> str | None:
    """Find a program, also in the sbin folders."""
    return shutil.which(name, path=os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin")))
