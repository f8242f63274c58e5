"""Errors as RFC 9457 problem documents."""

from collections.abc import Awaitable, Callable
from http import HTTPStatus

import msgspec
from aiohttp import web

from gateway.core.protocol.errors import ErrorCode, RequestError
from gateway.runtime.logs import logger


log = logger("gateway.http")

CONTENT_TYPE = "application/problem+json"
RETRY_AFTER_SECONDS = 5
SERVER = "neurograph-gateway"
"""The `Server` header: the name alone, without versions of libraries."""

_KEPT_HEADERS = ("Allow", "Upgrade", "Connection")
_BY_STATUS = {
    400: ErrorCode.INVALID_FIELD,
    404: ErrorCode.NOT_FOUND,
    405: ErrorCode.METHOD_NOT_ALLOWED,
    413: ErrorCode.TOO_LARGE,
    426: ErrorCode.UPGRADE_REQUIRED,
    503: ErrorCode.UNAVAILABLE,
}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Problem(msgspec.Struct):
    """An error; `code` is the word that ``error`` messages use too."""

    type: str
    title: str
    status: int
    detail: str
    code: str


def invalid_field(message: str) -> RequestError:
    """Return the error for a part of a request that cannot be used."""
    return RequestError(ErrorCode.INVALID_FIELD, message)


def problem(code: ErrorCode, detail: str, *, status: int | None = None) -> web.Response:
    status = status or code.status
    title = HTTPStatus(status).phrase  # as RFC 9457, section 4.2.1, requires for about:blank
    document = Problem("about:blank", title, status, detail, code.word)
    response = web.Response(
        body=msgspec.json.encode(document),
        status=status,
        content_type=CONTENT_TYPE,
        headers={"Cache-Control": "no-store", "Server": SERVER},
    )
    if status == ErrorCode.UNAVAILABLE.status:
        response.headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    if status == ErrorCode.UNAUTHORIZED.status:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


@web.middleware
async def problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer exceptions with problems; unexpected ones are logged, and not shown."""
    try:
        return await handler(request)
    except Exception as error:
        if isinstance(error, web.HTTPException) and error.status < 400:
            raise
        answer = _answer(request, error)
        # Some outlive this request: the body of a lost connection and aiohttp's routes keep what they raise.
        drop_traceback(error)
        return answer


def drop_traceback(error: BaseException | None) -> None:
    """Break the cycle of an error and the frames in its traceback, which would keep the connection."""
    while error is not None:
        error.__traceback__ = None
        error = error.__context__


def _answer(request: web.Request, error: Exception) -> web.Response:
    match error:
        case RequestError():
            return problem(error.code, error.message)
        case web.HTTPException():
            code = _BY_STATUS.get(error.status, ErrorCode.INVALID_FIELD)
            response = problem(code, _detail(request, error), status=error.status)
            kept = {name: error.headers[name] for name in _KEPT_HEADERS if name in error.headers}
            response.headers.update(kept)
            return response
        case UnicodeEncodeError():
            return problem(ErrorCode.INVALID_FIELD, "the request's head is not ASCII; percent-encode other characters")
        case web.RequestPayloadError() | ConnectionError():
            return problem(ErrorCode.INVALID_JSON, "the body is incomplete; send as much as Content-Length says")
        case _:
            log.error("request_failed", method=request.method, path=request.path, exc_info=error)
            return problem(ErrorCode.INTERNAL, "an internal error occurred; the gateway's log has the details")


def _detail(request: web.Request, error: web.HTTPException) -> str:
    match error:
        case web.HTTPNotFound():
            return f"{request.path[:128]!r} is not served; see the address / for what is"
        case web.HTTPMethodNotAllowed():
            allowed = ", ".join(sorted(error.allowed_methods))
            return f"{request.method[:32]!r} is not supported at this address; use {allowed}"
        case _:
            return error.text or error.reason
