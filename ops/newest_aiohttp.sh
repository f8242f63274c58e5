#!/usr/bin/env bash
# Run the HTTP and WebSocket tests with the newest aiohttp that pyproject.toml allows, whatever the lock
# files say: gateway/web/sockets/http.py uses more of aiohttp than its documentation promises.
set -euo pipefail
cd "$(dirname "$0")/.."

venv="$(mktemp -d)"
trap 'rm -rf "$venv"' EXIT
.venv/bin/python -m venv "$venv"
allowed="$(.venv/bin/python -c '
import re, tomllib
for one in tomllib.load(open("pyproject.toml", "rb"))["dependency-groups"]["run"]:
    if re.match("aiohttp[^a-z]", one):
        print(one)')"
"$venv/bin/python" -m pip --disable-pip-version-check --quiet install --upgrade "$allowed"

# All other packages come from .venv, after those that were just installed.
.venv/bin/python -c '
import sysconfig
print("import site; site.addsitedir(%r)" % sysconfig.get_path("purelib"))
' >"$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/rest.pth"

"$venv/bin/python" -c '
import aiohttp, sys
assert aiohttp.__file__.startswith(sys.prefix), aiohttp.__file__
print(f"aiohttp {aiohttp.__version__}")'
if grep -q "^aiohttp==$("$venv/bin/python" -c 'import aiohttp; print(aiohttp.__version__)') " requirements.lock; then
    echo "This is the locked version, with which all tests run."
    exit 0
fi
tests=(http handshake rfc6455 events bad_requests access)
"$venv/bin/python" -m pytest -q --numprocesses logical --maxprocesses 4 --dist worksteal \
    tests/unit/web $(printf "tests/integration/test_%s.py " "${tests[@]}")
