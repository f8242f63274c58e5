"""`gateway keys`: a pair of CURVE keys for the bus."""

from pathlib import Path

import click


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--name", default="gateway", show_default=True, help="What the files are called.")
def keys(folder: Path, name: str) -> None:
    """Make a pair of CURVE keys for the bus: DIR/NAME.key is public, DIR/NAME.key_secret is not.

    Existing files are never overwritten. Each publisher needs a pair, and each gateway.
    """
    # Here, so that the other commands start without zmq.
    from gateway.bus.keys import make_pair

    if not name or name.startswith(".") or not name.isprintable() or set(name) & {"/", "\\"}:
        raise click.BadParameter(f"{name!r} is no file's name", param_hint="--name")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        public, secret = make_pair(folder, name)
    except OSError as error:
        raise click.ClickException(f"{error.filename}: {error.strerror}") from error
    click.echo(
        f"""\
{public} is public, {secret} stays where it is used.

Of a gateway:   [bus] curve_key_file = "{secret}"
  and beside it curve_clients = "FOLDER" (publishers' .key files) for bind,
                curve_server_file = "PUBLISHER.key" for connect.
Of a publisher: Publisher(…, curve=Curve("{secret}", "GATEWAY.key")) to connect,
                Publisher(…, curve=Curve("{secret}", "FOLDER")) (gateways' .key files) to bind."""
    )
