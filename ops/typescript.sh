#!/bin/sh
# Test the TypeScript client: in Node, in a headless Chromium, and through the conformance cases of all clients.
# With the argument brief, only those in Node. Without Node or Chromium, print what was left out and how to install it; in
# CI that is an error.
set -eu
cd "$(dirname "$0")/../clients/typescript"
PYTHON="$(cd ../.. && pwd)/.venv/bin/python" # the gateways that it starts run in this project's environment
export PYTHON

leave_out() {
    echo "left out: the TypeScript client's tests need $1" >&2
    [ -z "${CI:-}" ] || exit 1
    exit 0
}
command -v npm >/dev/null || leave_out "Node.js 20 or later with npm (nodejs.org, or your system's packages)"
[ "$(node -p 'Number(process.versions.node.split(".")[0]) >= 20')" = true ] ||
    leave_out "Node.js 20 or later; this is $(node --version)"
[ "${1:-}" = brief ] || command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null ||
    leave_out "Chromium (Debian: apt-get install chromium)"
if [ "${1:-}" = brief ]; then
    [ node_modules/.package-lock.json -nt package-lock.json ] || npm ci --no-audit --no-fund --silent
    # What is built and newer than its sources is not built again.
    [ -f dist/index.js ] && [ -z "$(find src tsconfig.json package-lock.json -newer dist/index.js)" ] ||
        npm run build --silent || { rm -rf dist && exit 1; }
    # All files in one process: each would start a process of its own for its gateways.
    in_node="$(grep -L support/browser test/*.test.mjs | grep -v package)"
    # shellcheck disable=SC2086 # a list of files
    node --experimental-websocket --input-type=module --eval 'for (const file of process.argv.slice(1)) await import(file)' \
        $(printf "$PWD/%s " $in_node)
    echo "left out: the TypeScript client in Chromium, its types, its package, and its conformance cases;"
    echo "    TEST_FULL=1 make test adds them."
    exit 0
fi
npm ci --no-audit --no-fund --silent
npm test --silent
"$PYTHON" ../conformance/runner.py -- node --experimental-websocket conformance/driver.mjs # as built just now
