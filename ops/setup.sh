#!/usr/bin/env bash
# Set up .venv: the locked packages, checked by hash, and this project's own packages, editable.
# Usage: ops/setup.sh LOCK_FILE…      (PYTHON=python3.12 selects the interpreter)
set -euo pipefail
cd "$(dirname "$0")/.."

python="${PYTHON:-python3}"
fail() { echo "make: $1" >&2; exit 1; }

command -v "$python" >/dev/null || fail "there is no $python; install Python 3.11 or later, or name one: make PYTHON=/path/to/python3"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    fail "$python is $("$python" -V 2>&1); 3.11 or later is needed: make PYTHON=/path/to/python3.12"
"$python" -c 'import ensurepip, venv' 2>/dev/null ||
    fail "$python lacks the modules venv and ensurepip (on Debian and Ubuntu: apt-get install python3-venv)"

if ! .venv/bin/python -c '' 2>/dev/null; then
    echo "Setting up .venv, once: an environment for Python, …"
    "$python" -m venv --clear .venv
fi
pip() { PYTHONUNBUFFERED=1 .venv/bin/python -m pip --disable-pip-version-check "$@"; }

# One line for each package that is downloaded, and one at the end: a minute of silence looks like a failure.
# A lock file names all dependencies, so pip need not look for any.
count="$(cat "$@" | grep -c '^[^ #].*==')"
pip install --require-hashes --no-deps "${@/#/--requirement=}" |
    awk -v count="$count" '/^Collecting/ { printf "  package %2d of at most %d: %s\n", ++done, count, $2 }
        /^Installing collected/ { print "  installing them …" }'
pip --quiet install --no-deps --no-build-isolation --editable . --editable publishers/python --editable clients/python
