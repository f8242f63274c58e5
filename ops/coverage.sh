#!/bin/sh
# Measure which lines and branches of gateway/ its unit and integration tests reach, in every process that they start;
# fail if that is less than 90 % of a file.
set -eu
cd "$(dirname "$0")/.."
rm -rf build/coverage
mkdir -p build/coverage
.venv/bin/coverage run -m pytest -rs --numprocesses 3 --dist worksteal tests/unit tests/integration
.venv/bin/coverage combine --quiet
.venv/bin/coverage report --precision=1 >build/coverage/report
awk '{ print }
    /^gateway\// && $NF + 0 < 90 { low = low "\n    " $1 " " $NF }
    END { if (low) { print "Below 90 %:" low; exit 1 } }' build/coverage/report
