"""What a terminal shows of a moderator and of an analysis."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from moa import Mixture, Request, Scripted
from moa.cli.live import View
from moa.cli.output import print_text
from moa.cli.terminal import Show
from moa.mixture.aggregation import Synthesize

pytestmark = pytest.mark.anyio


def moderated() -> Mixture:
    """Three proposals, of which two go on, are compared, and are answered from."""

    def reply(request: Request) -> str:
        if '"done" is true only' in str(request.messages):
            return '{"best": [1, 3], "done": false}'
        if "one JSON object" in str(request.messages):
            return json.dumps({"consensus": ["[bold]both[/bold] say \x1b[31myes"], "blind_spots": ["when", "where"]})
        return "The answer."

    proposers = [Scripted(f"by {name}", name=f"x/{name}") for name in "abc"]
    return Mixture([proposers], Scripted(reply, name="x/last"), keep=2, aggregate=Synthesize(analysis=True))


@pytest.mark.parametrize(
    ("show", "shown", "hidden"),
    [
        (None, ["the moderator keeps a, c", "analysis: consensus 1, blind spots 2"], ["both"]),
        (Show.PROPOSALS, ["the moderator keeps a, c", "- [bold]both[/bold] say yes", "- where"], ["\x1b[31myes"]),
        (Show.ANSWER, [], ["moderator", "analysis", "both"]),
    ],
)
async def test_an_analysis_is_folded_on_a_terminal(show: Show | None, shown: list[str], hidden: list[str]) -> None:
    """A line says how many points it has; with whole proposals all of them follow, as text; the answer alone has none."""
    screen = io.StringIO()
    await View(Console(file=screen, width=100), show).follow(moderated().run("Why?"))
    text = screen.getvalue()
    assert "The answer." in text
    assert all(each in text for each in shown)
    assert not any(each in text for each in hidden)


async def test_a_pipe_gets_the_answer_alone(capsys: pytest.CaptureFixture[str]) -> None:
    """With whole proposals, the analysis has a heading of its own before the answer."""
    await print_text(moderated().run("Why?"), None)
    assert capsys.readouterr().out == "The answer.\n"
    await print_text(moderated().run("Why?"), Show.PROPOSALS)
    out = capsys.readouterr().out
    assert out.index("by b") < out.index("## analysis") < out.index("- where") < out.index("## answer")
