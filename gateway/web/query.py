"""The parameters of an address: each is known, and given once."""

from collections.abc import Collection

from aiohttp import web

from gateway.core.protocol.errors import ErrorCode, RequestError
from gateway.core.protocol.suggestions import did_you_mean
from gateway.web.context import CONTEXT, Context
from gateway.web.problems import Handler, invalid_field


_SHOWN_CHARS = 40
_TOKEN = "token"  # noqa: S105  # the name of the parameter


def strict(names: Collection[str], handler: Handler) -> Handler:
    """Return a handler that refuses other parameters than `names`."""

    async def serve(request: web.Request) -> web.StreamResponse:
        found = problem_of(request, names)
        if found is not None:
            raise found
        return await handler(request)

    return serve


def problem_of(request: web.Request, names: Collection[str]) -> RequestError | None:
    """Return the error for a parameter that is not one of `names` or is given twice, or a token where none is taken."""
    for name in request.query:
        count = len(request.query.getall(name))
        if name == _TOKEN and not _takes_token(request.app[CONTEXT]):
            return RequestError(
                ErrorCode.UNAUTHORIZED,
                "token: tokens in addresses are off (`auth.query_token`); send it as `Authorization: Bearer <token>`, "
                "or from a browser's WebSocket as the subprotocol `bearer.<token>`",
            )
        if name != _TOKEN and name not in names:
            expected = ", ".join(f"`{one}`" for one in names)
            advice = did_you_mean(name, names) or (f"; expected {expected}" if names else "; this address has none")
            return invalid_field(f"{name[:_SHOWN_CHARS]}: no such parameter{advice}")
        if count > 1:
            advice = ", with commas between the names" if name == "channels" else ""
            return invalid_field(f"{name}: is given {count} times; give it once{advice}")
    return None


def _takes_token(context: Context) -> bool:
    return context.verifier is None or context.config.auth.query_token
