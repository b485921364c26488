"""``--explain``: each agent's share of the answer, and what each sentence resembles.

A terminal shows it below the answer. A pipe gets the answer alone, and the explanation goes to standard error.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from moa.attribution.shares import EXPLAINED, Attribution, LayerShares, Sentence, attribution_json, attribution_of
from moa.cli.terminal import can_redraw, notify, notify_detail, one_line, screen, write
from moa.messages import Answer

if TYPE_CHECKING:
    from rich.text import Text

NOTHING = "nothing to compare the answer with: no agent wrote a proposal"

CAVEAT = "similar words prove neither cause nor truth: models that saw no proposal also write similar answers"

WIDEST = 100
"""The most columns used; longer lines are hard to read."""

NAME = 30
"""The most columns of an agent's name."""

NARROW = 72
"""Columns below which a sentence and what it resembles are on two lines."""

COLOURS = ("cyan", "green", "magenta", "blue", "yellow", "red")


def explain_answer(answer: Answer, *, as_json: bool = False) -> None:
    """Print the explanation of an answer: as a further event of ``--json``, on the terminal, or to standard error."""
    if as_json:
        write(json.dumps(explained_json(answer)))
    elif can_redraw():
        _draw(answer)
    else:
        _print_lines(answer)


def explained_json(answer: Answer) -> dict[str, Any]:
    """The event that follows those of ``--json``. It has no layers if there is nothing to compare with."""
    return {"event": "attribution", **attribution_json(attribution_of(answer) or Attribution((), ()))}


def _print_lines(answer: Answer) -> None:
    """To standard error: a line for each layer, and one for each sentence."""
    attribution = attribution_of(answer)
    if attribution is None:
        notify(NOTHING)
        return
    for layer in attribution.layers:
        notify(f"layer {layer.layer}: {', '.join(f'{name} {_percent(share)}' for name, share in _rows(layer))}")
        if layer.ignored:
            notify_detail(f"ignored: {', '.join(layer.ignored)}")
    for sentence in attribution.sentences:
        agents = ", ".join(f"{name} {_percent(share)}" for name, share in _resembled(sentence, attribution))
        notify_detail(f"{agents}: {_words(answer.text, sentence)[:200]}")
    notify_detail(CAVEAT)


def _draw(answer: Answer) -> None:
    """To the terminal: a bar for each agent of each layer, then the sentences, then what the figures mean."""
    from rich.table import Table
    from rich.text import Text

    console = screen()
    width = min(console.width, WIDEST)
    attribution = attribution_of(answer)
    console.print()
    if attribution is None:
        console.print(Text(NOTHING, "dim"), width=width)
        return
    agents = list(
        dict.fromkeys(name for layer in reversed(attribution.layers) for name, _ in _rows(layer) if name != "new")
    )
    styles = {name: COLOURS[number % len(COLOURS)] for number, name in enumerate(agents)} | {"new": "dim"}
    title = "what the answer resembles"
    console.print(Text(f"── {title} {'─' * max(width - len(title) - 4, 2)}", "dim", no_wrap=True, overflow="crop"))
    for layer in attribution.layers:
        console.print()
        if len(attribution.layers) > 1:
            console.print(Text(f"layer {layer.layer}", "dim"))
        for line in _bars(layer, styles, width):
            console.print(line)
        if layer.ignored:
            names = ", ".join(map(one_line, layer.ignored))
            console.print(Text(f"ignored: {names}", "dim"), width=width)
    console.print()
    if len(attribution.layers) > 1:
        console.print(Text(f"sentence by sentence, compared with layer {attribution.layers[-1].layer}", "dim"))
    rows = []
    for sentence in attribution.sentences:
        parts = [
            Text(f"{_short(name, NAME)} {_percent(share)}", styles.get(name, ""))
            for name, share in _resembled(sentence, attribution)
        ]
        rows.append((Text(_words(answer.text, sentence)), Text(" · ").join(parts)))
    if width < NARROW:
        rows = [(line, Text()) for words, similar in rows for line in (words, Text("  ") + similar)]
    right = min(max((similar.cell_len for _, similar in rows), default=0), width // 2)
    table = Table.grid(padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column(no_wrap=True, overflow="ellipsis", width=width - right - 2 if right else width)
    table.add_column(no_wrap=True, overflow="ellipsis", width=right)
    for row in rows:
        table.add_row(*row)
    console.print(table)
    console.print()
    console.print(Text(EXPLAINED, "dim"), width=width)


def _bars(layer: LayerShares, styles: dict[str, str], width: int) -> Iterator[Text]:
    from rich.cells import cell_len
    from rich.text import Text

    rows = [(name, _short(name, min(NAME, width // 3)), share) for name, share in _rows(layer)]
    names = max(cell_len(short) for _, short, _ in rows)
    room = max(width - names - 9, 4)
    for name, short, share in rows:
        line = Text(f"{short}{' ' * (names - cell_len(short))}  ", no_wrap=True, overflow="crop")
        line.append(f"{_percent(share):>5}  ", "bold" if name != "new" else "")
        yield line.append(("░" if name == "new" else "█") * max(round(share * room), 1 if share else 0), styles[name])


def _rows(layer: LayerShares) -> list[tuple[str, float]]:
    """Agents with their shares, the largest first; then the share of text that is new."""
    counted = [each for each in layer.shares.items() if each[0] not in layer.ignored]
    return [*sorted(counted, key=lambda each: -each[1]), ("new", layer.new)]


def _resembled(sentence: Sentence, attribution: Attribution) -> Sequence[tuple[str, float]]:
    """The agents of the last layer that a sentence resembles, the most similar first, and its new share; 5 % or more."""
    shares: dict[str, float] = {}
    for passage in sentence.passages:
        if passage.layer == attribution.layers[-1].layer:
            shares[passage.agent] = shares.get(passage.agent, 0.0) + passage.share
    ranked = sorted(shares.items(), key=lambda each: -each[1])
    return [each for each in [*ranked, ("new", sentence.new)] if each[1] >= 0.05]


def _percent(share: float) -> str:
    return "<1 %" if 0 < share < 0.005 else f"{share * 100:.0f} %"


def _words(text: str, sentence: Sentence) -> str:
    return one_line(text[sentence.start : sentence.end]).replace("**", "")


def _short(name: str, width: int) -> str:
    from rich.text import Text

    short = Text(one_line(name))
    short.truncate(width, overflow="ellipsis")
    return short.plain
