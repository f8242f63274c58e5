"""`gateway request`: ask a process on the bus, and print its answer."""

import click
import orjson

from neurograph_client import BlockingClient, ClientError
from neurograph_client.terminal import output
from neurograph_client.terminal.formatting import item_as_json, item_as_text
from neurograph_client.terminal.options import Gateway, complete_channel, gateway_options, wait_option
from neurograph_client.terminal.tail import log_as_notices, new_client


@click.command()
@click.argument("channel", shell_complete=complete_channel)
@click.argument("data")
@click.option("--type", "event_type", default="request", show_default=True, metavar="TYPE", help="The event's type.")
@click.option("--text", is_flag=True, help="DATA is text, not JSON. It is sent as a JSON string.")
@wait_option("for a gateway, and for the answer")
@click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON on a terminal, too.")
@gateway_options
def request(
    gateway: Gateway, channel: str, data: str, event_type: str, text: bool, wait_seconds: float, as_json: bool
) -> None:
    """Publish DATA, a JSON document, as a request on CHANNEL, and print the answer.

    A process on the bus answers, or a program over HTTP. The request is published once. The answer is a line:
    on a terminal for people, otherwise JSON.

    The exit status is 0; 1 if nobody listens on CHANNEL, no answer comes, or the gateway is lost before that;
    2 if DATA is not JSON; 130 after Ctrl-C.

    \b
    gateway request core.commands '{"do": "status"}'
    gateway request core.commands '"ping"' --json | jq .data
    """
    log_as_notices()
    try:
        given = data if text else orjson.loads(data)
    except ValueError as error:
        raise click.BadParameter(f"not JSON ({error}); --text sends it as a string", param_hint="DATA") from None
    with output.clean_exit():
        try:
            with BlockingClient(new_client(gateway, timeout=wait_seconds)) as client:
                answer = client.request(channel, given, event_type)
        except ClientError as error:
            raise output.CommandError(gateway.explain(error)) from None
        except TimeoutError as error:
            raise output.CommandError(str(error)) from None
        is_text = output.is_terminal() and not as_json
        output.write(item_as_text(answer, colour=output.has_colours()) if is_text else item_as_json(answer))
