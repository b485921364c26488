"""The report: one self-contained page, and its drawings."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from moa.cli import report as command
from moa.errors import ConfigError
from moa.evals.benchmarks import ALL, flask, mt_bench
from moa.evals.drawing import plots
from moa.evals.reading.measured import measured, runs_in
from moa.evals.reading.report import write
from moa.mixture.mixture import Mixture
from moa.models.scripted import Scripted
from tests.fakes.measured_runs import PRICES, grader, measure

pytestmark = pytest.mark.anyio

NOW = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)

MERGING: dict[str, Any] = {
    "analysis": "merging",
    "system": "a <b>mixture</b>",
    "prompts": 12,
    "proposals": 4.0,
    "copied": 0.25,
    "closest_is_best": 0.5,
    "correlations": [
        {
            "measure": name,
            "rho": rho,
            "standard_error": 0.02,
            "controls": {"blind": 0.1},
            "excess": {"blind": {"difference": rho - 0.1, "low": rho - 0.2, "high": rho}},
        }
        for name, rho in (("BLEU-4", 0.331), ("TF-IDF", 0.281))
    ],
}


class Read(HTMLParser):
    """The text of a page, its tables' cells row by row, the addresses in it, and whether every tag is closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.text, self.addresses, self.open = "", list[str](), list[str]()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data
        self.text += data if "style" not in self.open else ""


@pytest.fixture(scope="module")
async def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two systems on each benchmark, one of them a mixture that costs more, in one folder."""
    folder = tmp_path_factory.mktemp("runs")
    one = Scripted("One line.", name="paid/one")
    two = Mixture(
        [[one, Scripted("Two.", name="paid/two")]], Scripted("Both.", name="paid/boss"), name="duo", prices=PRICES
    )
    for benchmark in (benchmark for benchmark in ALL if not benchmark.takes_file):
        for system in (one, two):
            run = await measure(folder / benchmark.name, system, benchmark)
            run.rename(folder / f"{benchmark.name}-{run.name}")
    return folder


@pytest.mark.slow
async def test_one_page_has_every_figure_of_the_runs(runs: Path, tmp_path: Path) -> None:
    """Scores, orders, lengths, differences, costs and fronts of all benchmarks; the page loads nothing."""
    found = runs_in([runs])
    assert len(found) == 6
    billions = {"paid/one": 1.0, "paid/two": 2.0, "paid/boss": 3.0}
    written = write(found, tmp_path / "page", billions=billions, analyses=[MERGING], now=NOW)
    page = Read(written[0].read_text(encoding="utf-8"))
    assert not page.open
    assert all(address.startswith("data:image/svg+xml;base64,") for address in page.addresses)
    assert len(page.addresses) == len(written) - 1
    for heading in ("AlpacaEval 2.0", "MT-Bench", "FLASK", "How far to trust the judge", "Differences, item by item"):
        assert heading in page.text
    assert "6 runs, alpaca-eval, mt-bench, flask; made 2026-01-02 03:04 UTC" in page.text
    assert [
        "system",
        "length-controlled win rate, %",
        "win rate, %",
        "won",
        "lost",
        "drawn",
        "judged",
        "failed",
    ] in page.rows
    by_first = {row[0]: row for row in page.rows if row}
    assert {"paid/one", "moa/duo", "writing", "readability", "Math", "BLEU-4"} <= by_first.keys()
    assert any(row[:2] == ["paid/one − moa/duo", row[1]] and " to " in row[2] for row in page.rows)
    assert {path.name for path in written[1:]} == {
        *("alpaca-eval.svg", "alpaca-eval-differences.svg", "alpaca-eval-dollars.svg", "alpaca-eval-tflops.svg"),
        *("mt-bench.svg", "mt-bench-categories.svg", "mt-bench-differences.svg", "mt-bench-dollars.svg"),
        *("mt-bench-tflops.svg", "flask-differences.svg", "flask-dollars.svg", "flask-tflops.svg"),
        *("merging.svg", "merging-excess.svg"),
    }
    for path in written[1:]:
        assert ElementTree.parse(path).getroot().tag == "{http://www.w3.org/2000/svg}svg"


async def test_names_and_notes_are_escaped(tmp_path: Path) -> None:
    """The name of a model cannot become markup."""
    run = await measure(tmp_path, Scripted("x", name="evil/<script>alert(1)</script>&"), limit=2)
    (page,) = [path for path in write([measured(run)], tmp_path / "page", analyses=[MERGING]) if path.suffix == ".html"]
    html = page.read_text(encoding="utf-8")
    assert "<script" not in html
    assert "<b>" not in html
    assert "evil/<script>alert(1)</script>&" in Read(html).text
    for drawing in (tmp_path / "page").glob("*.svg"):
        assert "<script" not in drawing.read_text()


async def test_unknown_and_doubtful_figures_are_marked(tmp_path: Path) -> None:
    """No price, no size, few items, failed judgments, a system that judged itself."""
    itself = Scripted("no grade", name="nobody/knows")
    run = measured(await measure(tmp_path, itself, mt_bench.BENCHMARK, judge=itself))
    html = write([run], tmp_path / "page")[0].read_text(encoding="utf-8")
    page = Read(html)
    assert ["nobody/knows", "-", "unknown"] in [row[:3] for row in page.rows]
    for note in (
        "only 0 items were judged",
        "6 judgments failed",
        "judged by itself",
        "without the size of: nobody/knows",
    ):
        assert note in page.text
    assert not [*(tmp_path / "page").glob("*.svg")]


async def test_the_same_runs_give_the_same_bytes(tmp_path: Path) -> None:
    """So a report can be kept under version control."""
    run = measured(await measure(tmp_path, Scripted("x", name="scripted/x"), flask.BENCHMARK, judge=grader()))
    first = [path.read_bytes() for path in write([run], tmp_path / "first", now=NOW)]
    assert first == [path.read_bytes() for path in write([run], tmp_path / "second", now=NOW)]


async def test_two_runs_of_one_system_have_different_names(tmp_path: Path) -> None:
    """The names of their folders are added."""
    system = Scripted("x", name="scripted/x")
    one, two = await measure(tmp_path / "a", system, limit=4), await measure(tmp_path / "b", system, limit=4)
    two = two.rename(tmp_path / "again")
    page = Read(write([measured(one), measured(two)], tmp_path / "page")[0].read_text(encoding="utf-8"))
    assert {"scripted/x (scripted-x)", "scripted/x (again)"} <= {row[0] for row in page.rows}


async def test_the_command_prints_its_files_and_names_unreadable_ones(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One path per line; a file that is no analysis is an error, and so is nothing to report."""
    out = tmp_path / "page"
    assert command.report([runs / "flask-paid-one"], out, ["paid/one=7"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == str(out / "report.html")
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(ConfigError, match="nor a file of moa analyse … --out"):
        command.report([tmp_path / "other.json"], out, [])
    with pytest.raises(ConfigError, match="nothing to report"):
        write([], out)


def test_a_radar_plot_has_gaps_for_missing_values() -> None:
    """Long names stay inside the drawing."""
    drawn = plots.radar({"a": {"x": 1.0, "y": 2.0, "z": 3.0}, "b" * 60: {"x": 4.0, "z": 1.0}}, ["x", "y", "z"], 1, 5)
    assert "b" * 60 in drawn
    assert re.match(r"<\?xml", drawn)
    assert ElementTree.fromstring(drawn) is not None
