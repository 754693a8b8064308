"""The bench's own arithmetic; what it measures is verified while it runs."""

from __future__ import annotations

import sys
from xml.etree import ElementTree as ET

import pytest

from bench import cases, pages, plot
from bench.measure import Program, Runs, Sample, in_rounds


def runs(*seconds: float) -> Runs:
    found = Runs()
    found.samples = [Sample(one, one / 2, 1000) for one in seconds]
    return found


def test_a_ratio_is_the_median_of_rounds_so_that_one_busy_moment_does_not_count():
    base, other = runs(1, 1, 10), runs(2, 2, 2)
    assert other.ratio(base) == 2
    assert (base.seconds, base.cpu, base.memory) == (1, 0.5, 1000)


def test_programs_take_turns_and_see_their_stdin(tmp_path):
    log = tmp_path / "log"
    given = tmp_path / "given"
    given.write_text("x")
    source = f"import sys; open({str(log)!r}, 'a').write(sys.argv[1] + sys.stdin.read())"
    programs = {name: Program([sys.executable, "-c", source, name], reads=str(given)) for name in "ab"}
    took = in_rounds(programs, 60, most=3)
    assert log.read_text() == "axbxaxbxaxbx"
    assert [len(one.samples) for one in took.values()] == [3, 3]


def test_a_program_that_fails_ends_the_bench():
    with pytest.raises(SystemExit, match="exit status 3"):
        Program([sys.executable, "-c", "raise SystemExit(3)"]).run()


@pytest.mark.parametrize("line", ["  a: ENC[AES256_GCM,data:x]\n", "sops:\n"])
def test_an_output_with_something_encrypted_is_no_result(tmp_path, line):
    output = tmp_path / "out"
    output.write_text(f"a: {cases.PLAINTEXT}1\nb: {cases.PLAINTEXT}2\n")
    assert cases.opened(str(output)) == 2
    output.write_text(output.read_text() + line)
    assert cases.opened(str(output)) == -1


def test_only_what_is_between_the_marks_changes(tmp_path, monkeypatch):
    monkeypatch.setattr(pages, "DOCS", tmp_path)
    page = tmp_path / "page.md"
    page.write_text("# Ours\n<!-- bench a -->\nold\n<!-- end -->\nto stay\n<!-- bench b -->\n<!-- end -->\n")
    pages.fill("page.md", "a", "new")
    assert page.read_text().startswith("# Ours\n<!-- bench a -->\nnew\n<!-- end -->\nto stay\n<!-- bench b -->\n")
    with pytest.raises(SystemExit, match="no place for c"):
        pages.fill("page.md", "c", "x")


def test_a_table_aligns_figures_to_the_right():
    assert pages.table("name | >ms", [["a", "1"]]) == "| name | ms |\n| --- | ---: |\n| a | 1 |"


def test_a_plot_is_xml_with_a_line_for_each_program():
    lines = {"a < b & c": [(1, 0.02), (10, 0.2)], "d": [(1, 0.01), (10, 5.0)]}
    root = ET.fromstring(plot.svg({"One": lines, "Two": lines}, "count", "seconds"))
    name = "{http://www.w3.org/2000/svg}"
    assert len(root.findall(f".//{name}polyline")) == 4
    assert "a < b & c" in [text.text for text in root.iter(f"{name}text")]


def test_an_axis_has_whole_powers_of_ten():
    axis = plot.Axis([2, 300], 0, 100)
    assert axis.ticks() == [1, 10, 100, 1000]
    assert [round(axis.at(tick)) for tick in axis.ticks()] == [0, 33, 67, 100]
