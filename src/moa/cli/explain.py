"""``moa ask --explain``: what share of the answer each agent has, and what each of its sentences resembles.

On a terminal it is drawn below the answer; beside a pipe, which gets the answer alone, it goes to standard error.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from moa.attribution.shares import EXPLAINED, Attribution, LayerShares, Sentence, attribution_json, attribution_of
from moa.cli.terminal import one_line, screen, tell, tell_more
from moa.messages import Answer

if TYPE_CHECKING:
    from rich.text import Text

NOTHING = "there is nothing to compare the answer with: no agent made a proposal"

SHORTLY = "this is resemblance of words, not cause and not truth; models that saw no proposal write much alike, too"

WIDEST = 100
"""Columns beyond which a bar says no more and a line is hard to read."""

NAME = 30
"""Columns that the longest name may take."""

NARROW = 72
"""Columns from which on a sentence and whom it resembles stand on one line."""

COLOURS = ("cyan", "green", "magenta", "blue", "yellow", "red")


def explained_json(answer: Answer) -> dict[str, Any]:
    """One more line after the events of ``--json``; without layers where there is nothing to compare with."""
    told = attribution_of(answer) or Attribution((), ())
    return {"event": "attribution", **attribution_json(told)}


def explain_plainly(answer: Answer) -> None:
    """To standard error: a line for each layer, and one for each sentence."""
    told = attribution_of(answer)
    if told is None:
        tell(NOTHING)
        return
    for layer in told.layers:
        tell(f"layer {layer.layer}: {', '.join(f'{name} {_percent(share)}' for name, share in _rows(layer))}")
        if layer.ignored:
            tell_more(f"ignored: {', '.join(layer.ignored)}")
    for sentence in told.sentences:
        whom = ", ".join(f"{name} {_percent(share)}" for name, share in _resembled(sentence, told))
        tell_more(f"{whom}: {_words(answer.text, sentence)[:200]}")
    tell_more(SHORTLY)


def explain_drawn(answer: Answer) -> None:
    """To the terminal: a bar for each agent of each layer, then the sentences, then what the figures mean."""
    from rich.table import Table
    from rich.text import Text

    console = screen()
    width = min(console.width, WIDEST)
    told = attribution_of(answer)
    console.print()
    if told is None:
        console.print(Text(NOTHING, "dim"), width=width)
        return
    agents = list(dict.fromkeys(name for layer in reversed(told.layers) for name, _ in _rows(layer) if name != "new"))
    styles = {name: COLOURS[number % len(COLOURS)] for number, name in enumerate(agents)} | {"new": "dim"}
    title = "what the answer resembles"
    console.print(Text(f"── {title} {'─' * max(width - len(title) - 4, 2)}", "dim", no_wrap=True, overflow="crop"))
    for layer in told.layers:
        console.print()
        if len(told.layers) > 1:
            console.print(Text(f"layer {layer.layer}", "dim"))
        for line in _bars(layer, styles, width):
            console.print(line)
        if layer.ignored:
            names = ", ".join(map(one_line, layer.ignored))
            console.print(Text(f"ignored: {names}", "dim"), width=width)
    console.print()
    if len(told.layers) > 1:
        console.print(Text(f"sentence by sentence, beside layer {told.layers[-1].layer}", "dim"))
    rows = []
    for sentence in told.sentences:
        parts = [
            Text(f"{_short(name, NAME)} {_percent(share)}", styles.get(name, ""))
            for name, share in _resembled(sentence, told)
        ]
        rows.append((Text(_words(answer.text, sentence)), Text(" · ").join(parts)))
    if width < NARROW:
        rows = [(line, Text()) for words, whom in rows for line in (words, Text("  ") + whom)]
    right = min(max((whom.cell_len for _, whom in rows), default=0), width // 2)
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
    """Who has a share, the largest first; then what is new."""
    heard = [each for each in layer.shares.items() if each[0] not in layer.ignored]
    return [*sorted(heard, key=lambda each: -each[1]), ("new", layer.new)]


def _resembled(sentence: Sentence, told: Attribution) -> Sequence[tuple[str, float]]:
    """Whom a sentence resembles of the last layer, the most first, and what of it is new; traces are left out."""
    shares: dict[str, float] = {}
    for passage in sentence.passages:
        if passage.layer == told.layers[-1].layer:
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
