#!/usr/bin/env bash
# Write the lock files: exact versions with the hashes of all their builds, for every Python and platform.
# Usage: ops/lock.sh [--upgrade]      (keeps the locked versions without --upgrade)
set -euo pipefail
cd "$(dirname "$0")/.."

python="${PYTHON:-python3}"
[ -x build/lock/bin/uv ] || { "$python" -m venv build/lock && build/lock/bin/pip install --quiet uv; }

compile() { # lock file, what goes into it …
    build/lock/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
        --no-header --no-emit-index-url --no-emit-find-links --output-file "$@"
}

# The others are constrained by the first, so that one environment can install any of them.
compile requirements-dev.lock --group run --group terminal --group dev "$@"
compile requirements-test.lock --group run --group terminal --group test --constraint requirements-dev.lock
compile requirements.lock --group run --group terminal --constraint requirements-dev.lock
compile requirements-build.lock --group build --constraint requirements-dev.lock
compile requirements-notebook.lock --group notebook --constraint requirements-dev.lock
compile requirements-proxies.lock --group proxies --constraint requirements-dev.lock
compile requirements-valkey.lock --group valkey --constraint requirements-dev.lock

if grep -n '://' requirements*.lock; then
    echo "A lock file names a host: see above." >&2
    exit 1
fi
