"""Run every publisher through the same cases against a real gateway.

python -m publishers.conformance [LANGUAGE…] [--case NAME] [--verbose] [--all] [--bench] [--write]
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from publishers.conformance import tables
from publishers.conformance.bench import compare
from publishers.conformance.cases import CASES
from publishers.conformance.languages import LANGUAGES, Language
from publishers.conformance.processes import Setting


AT_ONCE = 4
"""Cases mostly wait, so more of them run at once than there are CPUs."""

Case = Callable[[Setting], None]
Runs = dict[str, Future[tuple[str, float]]]
"""The result of each case, by its name: the error, empty if it passed, and the seconds that it took."""


def _build(language: Language) -> str:
    """Build a driver and run the package's own tests; return the error, empty if there is none."""
    for command in language.build:
        done = subprocess.run(command, cwd=language.folder, capture_output=True, text=True, check=False)
        if done.returncode:
            return f"{' '.join(command)}\n{done.stdout}{done.stderr}"
    return ""


def _run(language: Language, case: Case) -> tuple[str, float]:
    """Run a case; return the error, empty if there is none, and the seconds that it took."""
    began, why = time.monotonic(), ""
    with tempfile.TemporaryDirectory() as scratch:
        try:
            with Setting(language, Path(scratch)) as setting:
                case(setting)
        except Exception:  # any exception is the result of the case
            why = traceback.format_exc()
    return why, time.monotonic() - began


def _begin(language: Language, cases: Sequence[Case], pool: ThreadPoolExecutor) -> Runs | None:
    """Build a language's driver and start its cases; return None if the build fails."""
    began = time.monotonic()
    wrong = _build(language)
    print(f"{language.name}: built and tested in {time.monotonic() - began:.0f} s", flush=True)
    if wrong:
        print(wrong, file=sys.stderr)
        return None
    offered = [case for case in cases if case.__name__ not in language.lacks]
    return {case.__name__: pool.submit(_run, language, case) for case in offered}


def _run_all(languages: Sequence[Language], cases: Sequence[Case], *, verbose: bool) -> dict[str, dict[str, str]]:
    """Return the errors by language and case; a language whose build fails has no cases.

    All languages are built at the same time, as builds wait for the network; each one's cases start after its build.
    """
    failures: dict[str, dict[str, str]] = {}
    with ThreadPoolExecutor(AT_ONCE) as pool, ThreadPoolExecutor(len(LANGUAGES)) as builders:
        begun = {one.name: builders.submit(_begin, one, cases, pool) for one in languages}
        for name, begin in begun.items():
            if (runs := begin.result()) is None:
                continue
            failures[name] = {}
            for case_name, run in runs.items():
                why, seconds = run.result()
                failures[name][case_name] = why
                if why:
                    print(f"{name}: {case_name} failed\n{why}", file=sys.stderr)
                if verbose:
                    print(f"{name}: {case_name} {'failed' if why else 'passed'} in {seconds:.1f} s")
    return failures


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("languages", nargs="*", metavar="LANGUAGE", help="default: all six")
    parser.add_argument("--case", action="append", help="run only this case; may be given several times")
    parser.add_argument("--write", action="store_true", help="write the results into README.md")
    parser.add_argument("--bench", action="store_true", help="compare the throughput with that of the ZeroMQ libraries")
    parser.add_argument("--verbose", action="store_true", help="print each case with its result")
    parser.add_argument("--all", action="store_true", help="fail if a toolchain is missing")
    options = parser.parse_args()
    unknown = sorted(set(options.languages) - {one.name for one in LANGUAGES})
    unknown += sorted(set(options.case or ()) - {one.__name__ for one in CASES})
    if unknown:
        parser.error(f"no such language or case: {', '.join(unknown)}")
    return options


def main() -> int:
    options = _options()
    chosen = [one for one in LANGUAGES if not options.languages or one.name in options.languages]
    incomplete = [one for one in chosen if one.missing]
    for one in incomplete:
        print(f"left out: {one.name} needs {', '.join(one.missing)}; get {one.get}", file=sys.stderr)
    languages = [one for one in chosen if one not in incomplete]
    cases = [one for one in CASES if not options.case or one.__name__ in options.case]
    failures = _run_all(languages, cases, verbose=options.verbose)
    ready = [one for one in languages if one.name in failures]
    for one in ready:
        whys = failures[one.name].values()
        lacking = [case.__name__ for case in cases if case.__name__ in one.lacks]
        more = f"; {tables.NOT_OFFERED}: {', '.join(lacking)}" if lacking else ""
        print(f"{one.name}: {sum(not why for why in whys)} of {len(whys)} cases passed{more}")
    if options.write and not options.case:
        tables.write("results", tables.results(failures))
    if options.bench:
        figures = compare(ready)
        print(figures)
        if options.write:
            tables.write("figures", figures)
    failed = len(ready) < len(languages) or any(why for whys in failures.values() for why in whys.values())
    return int(failed or bool(incomplete and (options.all or os.environ.get("CI"))))


sys.exit(main())
