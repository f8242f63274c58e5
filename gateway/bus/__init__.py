"""The ZeroMQ side: the only package that imports zmq."""
