"""Python's logging, onto the gateway's logs channel."""

import logging

from neurograph_publisher.publisher import Publisher


class GatewayLogHandler(logging.Handler):
    """Publishes each record on ``logs``.

    `service` is the name of the program; a record's ``correlation_id`` (from ``extra=``) is published, too. Lone
    surrogates are escaped. In a forked process the handler makes a new publisher. Errors go to `handleError`, as with
    any handler, and never to the caller.
    """

    def __init__(self, publisher: Publisher, *, service: str | None = None, level: int = logging.NOTSET) -> None:
        super().__init__(level)
        self._publisher = publisher
        self._service = service
        self._plain = logging.Formatter()

    def emit(self, record: logging.LogRecord) -> None:
        """Publish a record, unless the publisher or ZeroMQ itself has logged it."""
        if record.name.split(".")[0] in {"zmq", "neurograph_publisher"}:
            return
        try:
            self._publisher = self._publisher.for_this_process()
            exception = self._plain.formatException(record.exc_info) if record.exc_info else None
            message = record.getMessage() if self.formatter is None else self.format(record)
            correlation_id = getattr(record, "correlation_id", None)
            self._publisher.log(
                _escaped(record.levelname.lower()),
                _escaped(message),
                service=self._service,
                correlation_id=_escaped(correlation_id) if isinstance(correlation_id, str) else correlation_id,
                logger=_escaped(record.name),
                **({"exception": _escaped(exception)} if exception else {}),
            )
        except Exception:
            self.handleError(record)


def _escaped(text: str) -> str:
    """Return text that UTF-8 can represent: a file name that is not UTF-8 has lone surrogates."""
    return text.encode(errors="backslashreplace").decode()
