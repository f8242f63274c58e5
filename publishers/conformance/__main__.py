"""Run every publisher through the same cases against a real gateway.

python -m publishers.conformance [LANGUAGE…] [--case NAME] [--write] [--bench] [--all]
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from publishers.conformance.bench import compare
from publishers.conformance.cases import CASES
from publishers.conformance.languages import LANGUAGES, PUBLISHERS, Language
from publishers.conformance.processes import Setting


README = PUBLISHERS / "README.md"


def _build(language: Language) -> str:
    """Build a driver and run the package's own tests; return what went wrong."""
    for command in language.build:
        done = subprocess.run(
            command, cwd=language.folder, capture_output=True, text=True, check=False
        )
        if done.returncode:
            return f"{' '.join(command)}\n{done.stdout}{done.stderr}"
    return ""


def _run(language: Language, name: str) -> str:
    """Run a case; return what went wrong."""
    [case] = [one for one in CASES if one.__name__ == name]
    with tempfile.TemporaryDirectory() as scratch:
        try:
            with Setting(language, Path(scratch)) as setting:
                case(setting)
        except Exception:  # whatever happens in a case is its result
            return traceback.format_exc()
    return ""


def _table(results: dict[str, dict[str, str]]) -> str:
    names = list(results)
    lines = ["| case | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for case in CASES:
        marks = [
            "" if (why := results[name].get(case.__name__)) is None else "no" if why else "yes"
            for name in names
        ]
        summary = (case.__doc__ or "").strip()
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
    parser.add_argument("--all", action="store_true", help="fail if a toolchain is missing")
    options = parser.parse_args()
    known = {one.name: one for one in LANGUAGES}
    unknown = sorted(set(options.languages) - set(known))
    unknown += sorted(set(options.case or ()) - {one.__name__ for one in CASES})
    if unknown:
        parser.error(f"no such language or case: {', '.join(unknown)}")
    results: dict[str, dict[str, str]] = {}
    failed = False
    ready = []
    for name in options.languages or known:
        language = known[name]
        if language.missing:
            print(
                f"left out: {name} needs {', '.join(language.missing)}: {language.get}",
                file=sys.stderr,
            )
            failed = failed or options.all or bool(os.environ.get("CI"))
            continue
        began = time.monotonic()
        wrong = _build(language)
        print(f"{name}: built in {time.monotonic() - began:.0f} s", flush=True)
        if wrong:
            print(wrong, file=sys.stderr)
            failed = True
            continue
        ready.append(language)
    for language in ready:
        began = time.monotonic()
        names = [one.__name__ for one in CASES if not options.case or one.__name__ in options.case]
        with ThreadPoolExecutor(2) as pool:  # cases wait more than they work
            whys = list(pool.map(lambda case, language=language: _run(language, case), names))
        results[language.name] = dict(zip(names, whys, strict=True))
        for case, why in results[language.name].items():
            if why:
                failed = True
                print(f"{language.name}: {case} failed\n{why}", file=sys.stderr)
        passed = sum(not why for why in whys)
        print(
            f"{language.name}: {passed} of {len(names)} cases in {time.monotonic() - began:.0f} s",
            flush=True,
        )
    if options.write and not options.case:
        _write("results", _table(results))
    if options.bench:
        figures = compare(ready)
        print(figures)
        if options.write:
            _write("figures", figures)
    return int(failed)


sys.exit(main())
