#!/usr/bin/env bash
# Run the unit tests with each Python from 3.11 on that is on this machine, except that of .venv: "3.12 3.13" or all.
# Environments are kept in build/pythons, with the packages of the lock file.
set -euo pipefail
cd "$(dirname "$0")/.."
own="$(.venv/bin/python -c 'import sys; print("%d.%d" % sys.version_info[:2])')"
absent=()

interpreter() { # the version; prints the path of a working one. Some commands of pyenv only print that the version is not installed.
    for found in "python$1" "$HOME"/.pyenv/versions/"$1".*/bin/python; do
        if "$found" -c 'import ensurepip, venv' 2>/dev/null; then echo "$found" && return; fi
    done
    return 1
}

for version in ${1:-3.11 3.12 3.13 3.14}; do
    [ "$version" != "$own" ] || continue
    found="$(interpreter "$version")" || { absent+=("$version") && continue; }
    environment="build/pythons/$version"
    if [ ! "$environment/ready" -nt requirements-test.lock ]; then
        "$found" -m venv "$environment"
        "$environment/bin/python" -m pip --disable-pip-version-check --quiet install \
            --require-hashes --requirement requirements-test.lock
        "$environment/bin/python" -m pip --disable-pip-version-check --quiet install --no-deps --no-build-isolation \
            --editable . --editable publishers/python --editable clients/python
        touch "$environment/ready"
    fi
    echo "== Python $version"
    "$environment/bin/python" -m pytest -q -p no:cacheprovider --numprocesses 4 --dist worksteal tests/unit
done
[ -z "${absent[*]}" ] || echo "not on this machine: Python ${absent[*]}"
