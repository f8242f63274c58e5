#!/bin/sh
# Run all tests: those of the TypeScript client meanwhile, whose output follows that of the others.
set -u
cd "$(dirname "$0")/.."
log="$(mktemp)"
ops/typescript.sh >"$log" 2>&1 &
typescript=$!
trap 'kill "$typescript" 2>/dev/null; rm -f "$log"' EXIT
trap 'exit 130' INT TERM

.venv/bin/pytest -rs --numprocesses 6 --dist worksteal
status=$?
wait "$typescript" || status=1
cat "$log"
exit "$status"
