"""Run each proxy that is installed with its configuration, and print which checks pass: ``python -m tests.proxies``."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.support.tls import make


def main() -> int:
    """Make a certificate, and run the checks in a process that trusts it: clients look that up once."""
    with tempfile.TemporaryDirectory(prefix="ng-proxies-") as folder:
        certificate = make(Path(folder))
        trusted = {"SSL_CERT_FILE": str(certificate.cert), "NODE_EXTRA_CA_CERTS": str(certificate.cert)}
        command = [sys.executable, "-m", "tests.proxies.run", folder, *sys.argv[1:]]
        return subprocess.run(command, env=os.environ | trusted, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
