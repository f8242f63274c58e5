#!/bin/sh
# Run all tests; those of the TypeScript client run at the same time, and their output follows that of the others.
# With TEST_FULL=1, also measure which lines and branches of each file of gateway/ the tests about it reach, in every
# process that they start: no file may be below 90 %. `ops/test.sh coverage` does only this.
set -u
cd "$(dirname "$0")/.."
about_gateway="tests/unit tests/integration tests/test_decoders.py publishers/python/tests"

run() { # the command that runs pytest, and its arguments
    .venv/bin/$1 -rs --numprocesses 4 --dist worksteal $2
    found=$?
    # In CI, up to three failed tests run once more, alone: the list says which ones a busy machine made fail.
    failed=.pytest_cache/v/cache/lastfailed
    if [ "$found" = 1 ] && [ -n "${CI:-}" ] && [ "$(grep -c :: "$failed")" -le 3 ]; then
        echo "These tests failed while others ran; they now run alone:"
        cat "$failed"
        .venv/bin/pytest -rs --last-failed --last-failed-no-failures none $2
        found=$?
    fi
    return "$found"
}

measure() {
    rm -rf build/coverage
    mkdir -p build/coverage
    run "coverage run -m pytest" "$about_gateway"
    found=$?
    # One test runs a copy of the gateway, whose files may be gone by now.
    .venv/bin/coverage combine --quiet &&
        .venv/bin/coverage report --include="gateway/*" --precision=1 >build/coverage/report || return 1
    # With Python 3.11, see tests/support/resumed.py, too.
    awk '{ print }
        /^gateway\// && $NF + 0 < 90 { below = below "\n    " $1 " " $NF }
        END { if (below) { print "Below 90 %:" below; exit 1 } }' build/coverage/report && return "$found"
}

if [ "${1:-}" = coverage ]; then
    measure
    exit
fi
log="$(mktemp)"
[ "${TEST_FULL:-}" = 1 ] || brief=brief
ops/typescript.sh ${brief:-} >"$log" 2>&1 &
typescript=$!
trap 'kill "$typescript" 2>/dev/null; rm -f "$log"' EXIT
trap 'exit 130' INT TERM

if [ "${TEST_FULL:-}" = 1 ]; then
    measure
    status=$?
    run pytest "$(printf -- '--ignore=%s ' $about_gateway)" || status=1
else
    run pytest ""
    status=$?
fi
wait "$typescript" || status=1
cat "$log"
exit "$status"
