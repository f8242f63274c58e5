"""`gateway token`: makes a token for development."""

import asyncio
from collections.abc import Iterable
from datetime import UTC, datetime

import click

from gateway.cli.options import configured
from gateway.config import Config
from gateway.core.protocol.channels import EVERYONE, PERSONAL, is_pattern
from gateway.core.sessions.permissions import Grants


SECONDS_MAX = 31_536_000  # a year; get tokens that last longer from an identity provider


def _patterns(_: click.Context, option: click.Parameter, given: tuple[str, ...]) -> tuple[str, ...]:
    own = {EVERYONE, PERSONAL} if option.name == "publish" else set()
    for pattern in given:
        if pattern not in own and not is_pattern(pattern):
            raise click.BadParameter(
                f"{pattern!r} is not a channel pattern; expected a name, with * for a segment or a final >"
            )
    return given


@click.command()
@click.option("--role", "roles", multiple=True, help="A role of the token. Repeatable.")
@click.option("--user", help="The user whose token it is.")
@click.option(
    "--seconds",
    type=click.IntRange(1, SECONDS_MAX),
    default=3600,
    show_default=True,
    help="How long the token is valid.",
)
@click.option(
    "--subscribe",
    multiple=True,
    metavar="PATTERN",
    callback=_patterns,
    help="Channels to subscribe to, besides those of the roles. Repeatable.",
)
@click.option(
    "--publish",
    multiple=True,
    metavar="PATTERN",
    callback=_patterns,
    help="Channels to broadcast to, besides those of the roles. Repeatable.",
)
@click.option(
    "--private-key-file",
    metavar="FILE",
    help="Private key in PEM to sign with, if the gateway is configured with the public one.",
)
@configured
def token(
    config: Config,
    roles: tuple[str, ...],
    user: str | None,
    seconds: int,
    subscribe: tuple[str, ...],
    publish: tuple[str, ...],
    private_key_file: str | None,
) -> None:
    """Print a token for development that the configured gateway accepts.

    Standard output has the token and nothing else. Everyone who has the token can use it until it
    expires: it cannot be revoked."""
    from gateway.auth import minting  # here, so that other commands start faster

    key = minting.signing_key(config.auth, private_key_file)
    grants = Grants(subscribe=subscribe, publish=publish)
    made = minting.mint(config.auth, key, user=user, roles=roles, grants=grants, seconds=seconds)
    claims = asyncio.run(minting.verify(config.auth, made))
    click.echo(made)
    until = datetime.now(UTC).timestamp() + seconds
    for line in _hints(config, user, roles, until, verified=claims is not None):
        click.echo(line, err=True)


def _hints(config: Config, user: str | None, roles: Iterable[str], until: float, *, verified: bool) -> Iterable[str]:
    bearer = user or "no user"
    named = ", ".join(roles) or "anonymous"
    yield f"For {bearer} as {named}, until {datetime.fromtimestamp(until, UTC):%Y-%m-%d %H:%M:%S} UTC."
    yield "Send it in a header: `Authorization: Bearer …`"
    for role in roles:
        if role not in config.roles:
            yield f"warning: there is no role {role!r} in the configuration; it permits nothing"
    if not verified:
        yield "warning: not verified, because the gateway's keys are at a URL"
