"""Record docs/demo.svg: the output of `make demo` on this machine, as a terminal shows it.

Usage: make picture      (stops after a few events)
"""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text


EVENTS = 4
WIDTH = 118
TARGET = Path(__file__).parent.parent / "docs/demo.svg"


def demo() -> list[str]:
    """Run the demo until it printed enough events; return its output."""
    environ = os.environ | {"PYTHONUNBUFFERED": "1", "GATEWAY_LOGGING_FORMAT": "console"}
    command = [sys.executable, "ops/run.py", "--demo"]
    lines: list[str] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line.rstrip("\n"))
            if sum(one.startswith("< metrics #") for one in lines) == EVENTS:
                process.send_signal(signal.SIGINT)
                break
        process.stdout.read()
    if process.returncode:
        sys.exit("\n".join([*lines, "The demo failed; docs/demo.svg was not changed."]))
    return lines


def main() -> None:
    console = Console(record=True, width=WIDTH, file=open(os.devnull, "w"))  # noqa: SIM115  # ends with us
    console.print(Text("$ make demo", style="bold"))
    for line in demo():
        text = Text(re.sub(r"\x1b\[[0-9;]*m", "", line))
        text.highlight_regex(r"^< \S+ #\d+", "bold cyan")
        text.highlight_regex(r"\b\w+=", "dim")
        text.highlight_regex(r"(https?|wss?|tcp)://[^\s\"]+", "green")
        console.print(text, no_wrap=True, overflow="ellipsis")
    drawing = console.export_svg(title="neurograph-gateway")
    # Without web fonts: viewing the picture must not contact another server.
    TARGET.write_text(re.sub(r"@font-face \{.*?\}\s*", "", drawing, flags=re.DOTALL))


if __name__ == "__main__":
    main()
