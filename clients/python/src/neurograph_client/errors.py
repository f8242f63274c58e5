"""What can go wrong, for the application.

ClientError
  NotConnectedError    there is no connection now; a later attempt may succeed
  RequestRefusedError  the gateway refused a request
  ClosedError          the client is closed and does not reconnect
"""


class ClientError(Exception):
    """The root of this package's exceptions."""


class NotConnectedError(ClientError):
    """There is no connection, or it was lost before the answer came."""


class RequestRefusedError(ClientError):
    """The gateway's answer to a request that it does not serve.

    `code` is the gateway's word for the reason, such as ``invalid_filter`` (see `ErrorCode`); `status`
    is the HTTP status that goes with it. If `temporary`, the same request may succeed later, after
    `retry_after` seconds if that is known.
    """

    def __init__(
        self, code: str, message: str, *, status: int, temporary: bool = False, retry_after: float | None = None
    ) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.status = status
        self.temporary = temporary
        self.retry_after = retry_after


class ClosedError(ClientError):
    """The client has ended, and does not connect again.

    `code` is the close code of the gateway (see `CloseCode`), or the HTTP status if the gateway
    refused the connection; None if the application closed the client.
    """

    def __init__(self, reason: str, code: int | None = None) -> None:
        super().__init__(reason if code is None else f"{reason} ({code})")
        self.reason = reason
        self.code = code
