"""A publisher that does what each line of standard input says, and answers each with a line.

    {"publish": "channel", "from": 1, "to": 9, "data": {…}}    events with data {"n": number, …}
    {"restart": true}                                          a new incarnation

Started with the endpoint that it connects to; says `true` once a gateway has subscribed.
"""

import json
import sys

from neurograph_publisher import Publisher


def start() -> Publisher:
    """Join the bus and wait for the gateway."""
    publisher = Publisher(connect=sys.argv[1], high_water_mark=1_000_000)
    publisher.wait_for_subscriber(60)
    return publisher


publisher = start()
sys.stdout.write("true\n")
sys.stdout.flush()
for line in sys.stdin:
    order = json.loads(line)
    if "restart" in order:
        publisher.close()
        publisher = start()
    else:
        for number in range(order["from"], order["to"] + 1):
            data = {"n": number, **order.get("data", {})}
            publisher.publish(
                order["publish"], data, event_type=order.get("event_type", "test.event")
            )
    sys.stdout.write("true\n")
    sys.stdout.flush()
publisher.close()
