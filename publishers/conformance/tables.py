"""The tables that the runner writes into README.md: which language passes which case, and throughput."""

from collections.abc import Mapping

from publishers.conformance.cases import CASES
from publishers.conformance.languages import PUBLISHERS


README = PUBLISHERS / "README.md"
NOT_OFFERED = "not offered"


def results(failures: Mapping[str, Mapping[str, str]]) -> str:
    """Return the table of results, from errors by language and case; a case without an entry is a missing feature."""
    lines = ["| | " + " | ".join(failures) + " |", "|---" * (len(failures) + 1) + "|"]
    for case in CASES:
        summary = (case.__doc__ or "").strip()
        marks = [
            NOT_OFFERED if (why := of.get(case.__name__)) is None else "**no**" if why else "yes"
            for of in failures.values()
        ]
        lines.append(f"| {summary} | " + " | ".join(marks) + " |")
    return "\n".join(lines)


def write(mark: str, text: str) -> None:
    """Replace the text between two marks in the README."""
    begin, end = f"<!-- {mark}: written by the runner -->\n", f"<!-- end of {mark} -->\n"
    before, _, rest = README.read_text().partition(begin)
    _, _, after = rest.partition(end)
    README.write_text(f"{before}{begin}\n{text}\n\n{end}{after}")
