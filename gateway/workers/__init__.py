"""One gateway in several processes: a parent that takes in and numbers, workers that hold the clients.

wire     what they tell each other
link     how: length-prefixed messages over an inherited socket pair
crew     the parent's side: starts workers, hands them connections, knows all clients
process  one worker as the parent sees it
worker   the other side: replicated logs, and the clients that it holds
forward  REST requests, which the parent answers for the whole gateway
"""
