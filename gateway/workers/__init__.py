"""One gateway in several processes: the parent receives and numbers events, workers hold the clients.

    messages    what the processes send each other
    pipe        how: length-prefixed messages over an inherited socket pair

The parent:

    supervisor  keeps the workers running, hands them connections, sends them what is appended
    child       one worker: its process, its pipe, and the socket for connections
    clients     all clients of all workers, and their sessions

A worker:

    worker      the connections of its clients
    replica     its logs, which it asks for again if it cannot follow them
    parent      asks the parent which clients may connect, and reports what they do
    proxy       REST requests, which the parent answers for the whole gateway"""
