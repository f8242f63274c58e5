#!/bin/sh
# Build the dashboard into gateway/web/static, and test it in a headless Chromium, and Firefox if there is one, against real gateways.
# Without Node or Chromium, print what was left out; in CI that is an error, and so is a built page that is not up to date.
# With an argument, take the pictures for docs/ instead of testing.
set -eu
cd "$(dirname "$0")/../clients/dashboard"
PYTHON="$(cd ../.. && pwd)/.venv/bin/python" # the gateways that it starts run in this project's environment
export PYTHON

leave_out() {
    echo "left out: building the dashboard needs $1; the gateway serves the last build" >&2
    [ -z "${CI:-}" ] || exit 1
    exit 0
}
command -v npm >/dev/null || leave_out "Node.js 20.19 or later with npm (nodejs.org, or your system's packages)"
command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null ||
    leave_out "Chromium (Debian: apt-get install chromium)"
FIREFOX="$(command -v firefox-esr || command -v firefox || true)"
export FIREFOX
[ -n "$FIREFOX" ] || [ -z "${CI:-}" ] || leave_out "Firefox (Debian: apt-get install firefox-esr)"
npm ci --no-audit --no-fund --silent
npm run --silent types
built="$(mktemp -d)"
trap 'rm -rf "$built"' EXIT
cp -R ../../gateway/web/static/. "$built"
npm run --silent build
if [ -n "${CI:-}" ] && ! diff -r "$built" ../../gateway/web/static >/dev/null; then
    echo "gateway/web/static is not up to date with the dashboard's sources: run make dashboard, and commit it" >&2
    exit 1
fi
if [ $# = 0 ]; then
    npm test --silent
else
    node --experimental-websocket --no-warnings scripts/screenshots.mjs
fi
