"""A real Prometheus on a port of its own, with the project's rules in a shortened form."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import aiohttp

from tests.support.addresses import free_port
from tests.support.waiting import eventually


ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "ops/prometheus"
JOB = "neurograph-gateway"
_UNITS = {"s": 1, "m": 60, "h": 3600}


def shortened(rules: str, faster: int) -> str:
    """Return the rules with every duration, and the limit of a silence, divided by `faster`."""

    def shorter(found: re.Match[str]) -> str:
        before, count, unit, after = found.groups()
        return f"{before}{max(int(count) * _UNITS[unit] // faster, 1)}s{after}"

    shorter_rules = re.sub(r"(for: |\[)(\d+)([smh])(\]|$)", shorter, rules, flags=re.MULTILINE)
    return shorter_rules.replace("last_event_seconds) > 120", f"last_event_seconds) > {120 // faster}")


@dataclass(frozen=True)
class Target:
    """What to scrape, under which name."""

    instance: str
    port: int
    scheme: str = "http"
    token: str = ""


def configuration(text: str, targets: Sequence[Target], folder: Path, interval: int) -> str:
    """Return the project's configuration with these targets; one token is one job."""
    text = text.replace("15s", f"{interval}s")
    beginning, job = text.split("  - job_name: ")
    job, end = job.split("\n\n", 1)
    jobs = []
    for number, token in enumerate(dict.fromkeys(target.token for target in targets)):
        file = folder / f"token{number}"
        file.write_text(token or "none")
        static = [
            {
                "targets": [f"127.0.0.1:{target.port}"],
                "labels": {"job": JOB, "instance": target.instance, "__scheme__": target.scheme},
            }
            for target in targets
            if target.token == token
        ]
        own = job.replace(JOB, f"{JOB}-{number}", 1).replace("/etc/prometheus/gateway.token", str(file))
        own = re.sub(r"static_configs:.*", f"static_configs: {json.dumps(static)}", own, flags=re.DOTALL)
        jobs.append(f"  - job_name: {own}\n    tls_config: {{insecure_skip_verify: true}}\n")
    return beginning + "".join(jobs) + "\n" + end


class Prometheus:
    """Use it as an async context manager; its data lie in a folder that goes with it.

    It looks every `interval` seconds, which is its limit for an answer, too."""

    def __init__(self, targets: Sequence[Target], *, faster: int) -> None:
        self._targets = targets
        self._faster = faster
        self.interval = max(30 // faster, 1)
        self.url = ""
        self._problems: dict[str, str] = {}
        """The last error of each target."""

    async def __aenter__(self) -> Prometheus:
        self._folder = Path(tempfile.mkdtemp(prefix="ng-prometheus-"))
        self._log = (self._folder / "log").open("wb")
        (self._folder / "rules.yml").write_text(shortened((FOLDER / "rules.yml").read_text(), self._faster))
        text = (FOLDER / "prometheus.yml").read_text()
        config = configuration(text, self._targets, self._folder, self.interval)
        (self._folder / "prometheus.yml").write_text(config)
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self._process = await asyncio.create_subprocess_exec(
            "prometheus",
            f"--config.file={self._folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={self._folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
            stdout=self._log,
            stderr=self._log,
        )
        self._http = aiohttp.ClientSession()
        try:
            await eventually(self._ready, saying=lambda: (self._folder / "log").read_text()[-2000:])
            await eventually(self._all_scraped, saying=lambda: f"all gateways are scraped; {self._problems}")
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        await self._http.close()
        self._process.terminate()
        await self._process.wait()
        self._log.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    async def firing(self) -> set[tuple[str, str]]:
        """Return the alerts that fire, each with the instance."""
        alerts = (await self._get("/api/v1/alerts"))["alerts"]
        return {
            (alert["labels"]["alertname"], alert["labels"]["instance"])
            for alert in alerts
            if alert["state"] == "firing"
        }

    async def query(self, expression: str, *, at: float | None = None) -> list[tuple[dict[str, str], float]]:
        """Return the series of an instant query, labels and value."""
        moment = {} if at is None else {"time": str(at)}
        found = await self._get("/api/v1/query", query=expression, **moment)
        return [(one["metric"], float(one["value"][1])) for one in found["result"]]

    async def _get(self, path: str, **query: str) -> Any:
        async with self._http.get(self.url + path, params=query) as answer:
            document = await answer.json()
        assert document["status"] == "success", f"{query}: {document.get('error')}"
        return document["data"]

    async def _ready(self) -> bool:
        assert self._process.returncode is None, (self._folder / "log").read_text()[-2000:]
        try:
            async with self._http.get(self.url + "/-/ready") as answer:
                return answer.status == 200
        except aiohttp.ClientError:
            return False

    async def _all_scraped(self) -> bool:
        targets = (await self._get("/api/v1/targets"))["activeTargets"]
        self._problems = {one["labels"]["instance"]: one["lastError"] for one in targets if one["lastError"]}
        often = await self.query("count_over_time(up[5m]) * up")
        return {target.instance for target in self._targets} == {labels["instance"] for labels, n in often if n >= 2}
