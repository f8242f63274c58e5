"""Python's logging, onto the gateway's logs channel."""

import logging

from neurograph_publisher.publisher import Publisher


class GatewayLogHandler(logging.Handler):
    """Publishes each record on ``logs``.

    `service` names who is logging; a record's ``correlation_id`` (from ``extra=``) goes along. What
    cannot be published goes to `handleError`, as with any handler, and never to the caller.
    """

    def __init__(self, publisher: Publisher, *, service: str | None = None, level: int = logging.NOTSET) -> None:
        super().__init__(level)
        self._publisher = publisher
        self._service = service
        self._plain = logging.Formatter()

    def emit(self, record: logging.LogRecord) -> None:
        """Publish a record; one that the publisher or ZeroMQ logs about itself goes no further."""
        if record.name.split(".")[0] in {"zmq", "neurograph_publisher"}:
            return
        try:
            exception = self._plain.formatException(record.exc_info) if record.exc_info else None
            self._publisher.log(
                record.levelname.lower(),
                record.getMessage() if self.formatter is None else self.format(record),
                service=self._service,
                correlation_id=getattr(record, "correlation_id", None),
                logger=record.name,
                **({"exception": exception} if exception else {}),
            )
        except Exception:
            self.handleError(record)
