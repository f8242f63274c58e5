"""What can go wrong, for the application.

ClientError
  NotConnected    there is no connection now; a later attempt may succeed
  RequestRefused  the gateway does not do what was asked
  Closed          the client has ended for good
"""


class ClientError(Exception):
    """The root of this package's exceptions."""


class NotConnected(ClientError):
    """There is no connection, or it was lost before the answer came."""


class RequestRefused(ClientError):
    """The gateway's answer to a request that it does not serve.

    `code` is its word, such as ``invalid_filter``; `status` is the number that HTTP has for it;
    `temporary` says whether the same may be served later, and `retry_after` in how many seconds, if
    that is known.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        status: int,
        temporary: bool = False,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.status = status
        self.temporary = temporary
        self.retry_after = retry_after


class Closed(ClientError):
    """The client has ended, and does not connect again.

    `code` is the close code of the gateway that sent it away for good, or the HTTP status of one
    that did not let it in; None if the application has closed it.
    """

    def __init__(self, reason: str, code: int | None = None) -> None:
        super().__init__(reason if code is None else f"{reason} ({code})")
        self.reason = reason
        self.code = code
