"""The ZeroMQ side; the only home of zmq."""
