"""`gateway token`: a token to develop with."""

import asyncio
from collections.abc import Iterable
from datetime import UTC, datetime

import click

from gateway.cli.options import configured
from gateway.config import Config
from gateway.core.protocol.channels import EVERYONE, PERSONAL, is_pattern
from gateway.core.sessions.permissions import Grants


SECONDS_MAX = 31_536_000  # a year: what lasts longer belongs to an identity provider


def _patterns(_: click.Context, option: click.Parameter, given: tuple[str, ...]) -> tuple[str, ...]:
    own = {EVERYONE, PERSONAL} if option.name == "publish" else set()
    for pattern in given:
        if pattern not in own and not is_pattern(pattern):
            raise click.BadParameter(f"{pattern!r} is no pattern of channels")
    return given


@click.command()
@click.option("--role", "roles", multiple=True, help="A role that its bearer has. Repeatable.")
@click.option("--user", help="Whose token it is.")
@click.option(
    "--seconds",
    type=click.IntRange(1, SECONDS_MAX),
    default=3600,
    show_default=True,
    help="How long it is good.",
)
@click.option(
    "--subscribe",
    multiple=True,
    metavar="PATTERN",
    callback=_patterns,
    help="Channels to follow beyond those of the roles. Repeatable.",
)
@click.option(
    "--publish",
    multiple=True,
    metavar="PATTERN",
    callback=_patterns,
    help="Channels to broadcast to beyond those of the roles. Repeatable.",
)
@click.option(
    "--private-key-file",
    metavar="FILE",
    help="Sign with this private key in PEM, if the gateway has only the public one.",
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
    """Print a token for development, signed as the configured gateway wants it.

    Standard output has the token and nothing else. Whoever has it may do what it says until it
    expires: it cannot be called back.
    """
    # Here, so that the other commands start without all that signing needs.
    from gateway.auth import minting

    key = minting.signing_key(config.auth, private_key_file)
    grants = Grants(subscribe=subscribe, publish=publish)
    made = minting.mint(config.auth, key, user=user, roles=roles, grants=grants, seconds=seconds)
    claims = asyncio.run(minting.tried(config.auth, made))
    click.echo(made)
    until = datetime.now(UTC).timestamp() + seconds
    for line in _hints(config, user, roles, until, checked=claims is not None):
        click.echo(line, err=True)


def _hints(
    config: Config, user: str | None, roles: Iterable[str], until: float, *, checked: bool
) -> Iterable[str]:
    bearer = user or "nobody in particular"
    named = ", ".join(roles) or "anonymous"
    yield f"For {bearer} as {named}, until {datetime.fromtimestamp(until, UTC):%Y-%m-%d %H:%M:%S} UTC."
    yield "Send it in a header: `Authorization: Bearer …`"
    for role in roles:
        if role not in config.roles:
            yield f"warning: there is no role {role!r} in the configuration, so it allows nothing"
    if not checked:
        yield "warning: not tried, for the gateway's public keys are at a URL"
