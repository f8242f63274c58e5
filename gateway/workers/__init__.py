"""One gateway in several processes: a parent that reads the bus and numbers, workers that hold the clients.

messages    what they send each other
pipe        how: length-prefixed messages over an inherited socket pair
supervisor  the parent's side: keeps workers running, hands them connections, sends what is appended
child       one worker as the parent sees it
clients     all clients of all workers, and their sessions
observers   what parent and workers do with what their hubs report
worker      the worker's side: replicated logs, and the sockets of its clients
parent      the parent as a worker sees it: it admits clients
proxy       REST requests, which the parent answers for the whole gateway
"""
