"""The command `gateway`, also as ``python -m gateway``."""

import sys


def main() -> None:
    """Run the command; Ctrl-C ends it quietly, also while it starts."""
    try:
        from gateway.cli import main as run  # here, as the import takes a while

        run(prog_name="gateway", standalone_mode=True)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
