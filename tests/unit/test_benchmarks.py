"""The benchmark's own judgement: ratios, the edge it looks for, what it writes."""

from __future__ import annotations

from pathlib import Path

import pytest

from ops.benchmarks import flame, plot, report, scenarios
from ops.benchmarks.results import Result, Results


def results(**figures: list[float]) -> Results:
    """One figure of several servers, in rounds."""
    found = [
        Result("s", server, number, {"cpu": value})
        for server, values in figures.items()
        for number, value in enumerate(values)
    ]
    return Results(found)


def test_a_ratio_is_the_median_of_ratios_within_a_round() -> None:
    found = results(limit=[1.0, 10.0, 2.0], gateway=[2.0, 15.0, 4.0])

    assert found.ratio("s", "gateway", "cpu") == 2.0
    assert found.median("s", "gateway", "cpu") == 4.0


def test_a_round_that_failed_does_not_count() -> None:
    found = results(limit=[1.0, 1.0], gateway=[3.0])
    found.all.append(Result("s", "gateway", 1, error="no"))

    assert found.ratio("s", "gateway", "cpu") == 3.0
    assert found.error("s", "gateway") == ""


def test_a_server_without_figures_says_why() -> None:
    found = results(limit=[1.0])
    found.all.append(Result("s", "gateway", 0, error="does not start"))

    assert found.error("s", "gateway") == "does not start"
    assert found.median("s", "gateway", "cpu") is None


def test_tables_replace_what_stands_between_their_markers(tmp_path: Path) -> None:
    document = tmp_path / "performance.md"
    document.write_text("# A\n<!-- x -->\nold\n<!-- end of x -->\n# B\n")

    report.write("x", "new", document)
    report.write("x", "newer", document)

    assert document.read_text() == "# A\n<!-- x -->\n\nnewer\n\n<!-- end of x -->\n# B\n"
    with pytest.raises(ValueError, match="has no <!-- y -->"):
        report.write("y", "new", document)


def test_there_are_as_many_different_sets_of_channels_as_it_says() -> None:
    sets = set(scenarios.many_views().load) - {"--text"}

    assert len(sets) == scenarios.SETS
    assert sum('"filter"' in one for one in sets) == sum('"rate"' in one for one in sets) == 33


def test_samples_count_for_the_first_phase_that_they_have_a_frame_of() -> None:
    sending = ("Service._tick", "Hub.tick", "Fanout.deliver", "UVStream_write", "write (libc.so.6)")
    shares = flame.phases({sending: 3, ("Service._tick", "Hub.tick", "Ingest._fields"): 1})

    assert shares["the kernel's send"] == 75
    assert shares["validation of events"] == 25


def test_pictures_name_what_they_show() -> None:
    curves = plot.draw([plot.Panel("clients <n>", [plot.Line("ours", [(1, 2), (10, 1)])])], "us")
    flames = flame.draw({("Hub.tick", "Fanout._write"): 9, ("Hub.tick",): 1})

    assert "clients &lt;n&gt;" in curves
    assert "ours" in curves
    assert "Fanout._write: 90.0 %" in flames
