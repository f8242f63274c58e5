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
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from publishers.conformance.bench import compare
from publishers.conformance.cases import CASES
from publishers.conformance.languages import LANGUAGES, PUBLISHERS, Language
from publishers.conformance.processes import Setting


README = PUBLISHERS / "README.md"
AT_ONCE = 4
"""Cases wait more than they work, so more of them run than there are cores."""


def _build(language: Language) -> str:
    """Build a driver and run the package's own tests; return what went wrong."""
    for command in language.build:
        done = subprocess.run(command, cwd=language.folder, capture_output=True, text=True, check=False)
        if done.returncode:
            return f"{' '.join(command)}\n{done.stdout}{done.stderr}"
    return ""


def _run(language: Language, case: Callable[[Setting], None]) -> tuple[str, float]:
    """Run a case; return what went wrong, and how many seconds it took."""
    began, why = time.monotonic(), ""
    with tempfile.TemporaryDirectory() as scratch:
        try:
            with Setting(language, Path(scratch)) as setting:
                case(setting)
        except Exception:  # whatever happens in a case is its result
            why = traceback.format_exc()
    return why, time.monotonic() - began


NOT_OFFERED = "not offered"


def _table(failures: dict[str, dict[str, str]]) -> str:
    """Return the table; a language without a result for a case does not offer what it is about."""
    lines = ["| | " + " | ".join(failures) + " |", "|---" * (len(failures) + 1) + "|"]
    for case in CASES:
        summary = (case.__doc__ or "").strip()
        marks = [
            NOT_OFFERED if (why := of.get(case.__name__)) is None else "**no**" if why else "yes"
            for of in failures.values()
        ]
        lines.append(f"| {summary} | " + " | ".join(marks) + " |")
    return "\n".join(lines)


def _write(mark: str, text: str) -> None:
    """Replace what stands between two marks in the README."""
    begin, end = f"<!-- {mark}: written by the runner -->\n", f"<!-- end of {mark} -->\n"
    before, _, rest = README.read_text().partition(begin)
    _, _, after = rest.partition(end)
    README.write_text(f"{before}{begin}\n{text}\n\n{end}{after}")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("languages", nargs="*", metavar="LANGUAGE", help="default: all six")
    parser.add_argument("--case", action="append", help="run this case alone; repeatable")
    parser.add_argument("--write", action="store_true", help="write the results into README.md")
    parser.add_argument("--bench", action="store_true", help="compare with the bare libraries")
    parser.add_argument("--verbose", action="store_true", help="tell of each case")
    parser.add_argument("--all", action="store_true", help="fail if a toolchain is missing")
    options = parser.parse_args()
    known = {one.name: one for one in LANGUAGES}
    unknown = sorted(set(options.languages) - set(known))
    unknown += sorted(set(options.case or ()) - {one.__name__ for one in CASES})
    if unknown:
        parser.error(f"no such language or case: {', '.join(unknown)}")
    failed = False
    ready = []
    for name in options.languages or known:
        language = known[name]
        if language.missing:
            print(f"left out: {name} needs {', '.join(language.missing)}; get {language.get}", file=sys.stderr)
            failed = failed or options.all or bool(os.environ.get("CI"))
            continue
        began = time.monotonic()
        wrong = _build(language)
        print(f"{name}: built and tested in {time.monotonic() - began:.0f} s", flush=True)
        if wrong:
            print(wrong, file=sys.stderr)
            failed = True
            continue
        ready.append(language)
    cases = [one for one in CASES if not options.case or one.__name__ in options.case]
    failures: dict[str, dict[str, str]] = {one.name: {} for one in ready}
    with ThreadPoolExecutor(AT_ONCE) as pool:
        running = {
            (language.name, case.__name__): pool.submit(_run, language, case)
            for language in ready
            for case in cases
            if case.__name__ not in language.lacks
        }
        for (name, case_name), run in running.items():
            why, seconds = run.result()
            failures[name][case_name] = why
            if why:
                failed = True
                print(f"{name}: {case_name} failed\n{why}", file=sys.stderr)
            if options.verbose:
                print(f"{name}: {case_name} {'failed' if why else 'passed'} in {seconds:.1f} s")
    for name, whys in failures.items():
        lacking = [case.__name__ for case in cases if case.__name__ in known[name].lacks]
        more = f"; {NOT_OFFERED}: {', '.join(lacking)}" if lacking else ""
        print(f"{name}: {sum(not why for why in whys.values())} of {len(whys)} cases passed{more}")
    if options.write and not options.case:
        _write("results", _table(failures))
    if options.bench:
        figures = compare(ready)
        print(figures)
        if options.write:
            _write("figures", figures)
    return int(failed)


sys.exit(main())
