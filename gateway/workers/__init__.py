"""One gateway in several processes: a parent that takes in and numbers, workers that hold the clients.

wire     what they tell each other
link     how: length-prefixed messages over an inherited socket pair
crew     the parent's side: keeps workers running, hands them connections, sends what is appended
process  one worker as the parent sees it
register all clients of all workers, and their sessions
totals   all workers' metrics as one gateway's
worker   the other side: replicated logs, and the sockets of the clients that it holds
lobby    those clients, of which the parent decides
forward  REST requests, which the parent answers for the whole gateway
"""
