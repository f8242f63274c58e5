"""Publish a few events: python example.py [tcp://127.0.0.1:5556]"""

import sys

from neurograph_publisher import Publisher


endpoint = sys.argv[1] if len(sys.argv) > 1 else "tcp://127.0.0.1:5556"
with Publisher(connect=endpoint, replay=1000) as publisher:
    if not publisher.wait_for_subscriber(5):
        print("no gateway yet: what is published now reaches nobody", file=sys.stderr)
    publisher.metrics(cpu_percent=12.5, memory_mb=2048)
    publisher.log("info", "started", service="example")
    publisher.publish("robots.r2", {"x": 1.5})
print(f"published {publisher.published}, dropped {publisher.dropped}")
