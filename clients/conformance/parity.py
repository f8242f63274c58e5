"""Print the Python client's features as JSON, for the test that compares them with the table in clients/README.md."""

import inspect
import json
from typing import get_args

import neurograph_client
from neurograph_client import Backoff, Client, ClientError, Subscription
from neurograph_client.link import State


def public(kind: type) -> list[str]:
    return sorted(name for name in vars(kind) if not name.startswith("_"))


def default(name: str) -> object:
    return inspect.signature(Client).parameters[name].default


exported = [getattr(neurograph_client, name) for name in neurograph_client.__all__]
errors = [one for one in exported if isinstance(one, type) and issubclass(one, ClientError) and one is not ClientError]
backoff = Backoff()
print(
    json.dumps(
        {
            "client": public(Client),
            "subscription": public(Subscription),
            "errors": sorted(one.__name__ for one in errors),
            "states": get_args(State),
            "buffer": default("buffer"),
            "backoff_ms": [round(backoff.first * 1000), round(backoff.most * 1000)],
        }
    )
)
