"""`gateway keys`: makes a pair of CURVE keys for the bus."""

import json
from pathlib import Path

import click


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--name", default="gateway", show_default=True, help="Name of the files.")
def keys(folder: Path, name: str) -> None:
    """Make a pair of CURVE keys for the bus: DIR/NAME.key is public, DIR/NAME.key_secret is secret.

    Existing files are never overwritten. Each publisher and each gateway needs a pair of its own.
    """
    # Imported here, so that other commands start without zmq.
    from gateway.bus.keys import make_pair

    if not name or name.startswith(".") or not name.isprintable() or set(name) & {"/", "\\"}:
        raise click.BadParameter(f"{name!r} is not a file name", param_hint="--name")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        public, secret = make_pair(folder.resolve(), name)
    except OSError as error:
        raise click.ClickException(f"{error.filename}: {error.strerror}") from error
    own = json.dumps(str(secret), ensure_ascii=False)  # as TOML and Python write it, too
    click.echo(
        f"""\
Give {public} to everyone who connects with {name}. Keep {secret.name} on its machine.

In the gateway's [bus]:  curve_key_file = {own}
                         curve_client_keys_dir = "FOLDER with the .key file of each publisher"  # for bind
                         curve_server_key_file = "the .key file of the publisher"               # for connect
A publisher, to connect: Publisher(connect=…, curve=Curve({own}, "the .key file of the gateway"))
             to bind:    Publisher(bind=…, curve=Curve({own}, "FOLDER with the .key file of each gateway"))"""
    )
