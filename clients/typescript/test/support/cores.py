"""Two processes on the bus that double what they are asked: one of pyzmq alone, one of the publisher's package.

cores.py plain|library BUS OUT: the gateway's endpoint for publishers, and its `bus.publish`. Each line of the output is
the data of a request, when it comes.
"""

import json
import sys


def plain(bus: str, out: str) -> None:
    import zmq

    with zmq.Context() as context, context.socket(zmq.SUB) as events, context.socket(zmq.XPUB) as answers:
        events.subscribe("core.plain")
        events.connect(out)
        answers.connect(bus)
        while True:
            _, payload, *_ = events.recv_multipart()
            event = json.loads(payload)
            print(json.dumps(event["data"]), flush=True)
            answer = {"event_type": "reply", "data": doubled(event["data"]), **event["reply_to"]}
            answers.send_multipart([b"$personal", json.dumps(answer).encode()])


def library(bus: str, out: str) -> None:
    from neurograph_publisher import Inbox, Message, Publisher

    with Inbox(out, "core.library") as inbox, Publisher(connect=bus) as publisher:
        for item in inbox:
            if isinstance(item, Message):
                print(json.dumps(item.data), flush=True)
                publisher.reply(item, doubled(item.data))


def doubled(data: dict[str, object]) -> dict[str, object]:
    number = data["n"]
    assert isinstance(number, int)
    return {**data, "double": 2 * number}


if __name__ == "__main__":
    {"plain": plain, "library": library}[sys.argv[1]](*sys.argv[2:])
