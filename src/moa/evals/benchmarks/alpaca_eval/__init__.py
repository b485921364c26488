"""AlpacaEval 2.0: how it is judged, its win rates, and the length-controlled one."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from moa.evals.asking.data import Row
from moa.evals.benchmark import JUDGE, Benchmark
from moa.evals.benchmarks.alpaca_eval.controlled import CONTROLLED, contrast
from moa.evals.benchmarks.alpaca_eval.judging import GAMED, JUDGING, OUTPUTS, PROMPT, SWAP, measure, trial
from moa.evals.benchmarks.alpaca_eval.judgments import preference_of
from moa.evals.benchmarks.alpaca_eval.win_rates import BOTH_ORDERS, WIN_RATE, score
from moa.evals.drawing import sections
from moa.evals.drawing.page import Page
from moa.evals.metric import Figure

NAME = "alpaca-eval"


def grade(row: Row) -> tuple[str, list[float]]:
    """An instruction and the preference for the system, in percent."""
    item = row.get("moa", {}).get("index", row.get("index", row.get("instruction")))
    preference = preference_of(row, row.get("is_switched_outputs"))
    return str(item), [] if math.isnan(preference) else [100 * (preference - 1)]


def figures(result: Row) -> Iterator[Figure]:
    """Both win rates, the official fit beside our own, and the win rate in each order of the answers."""
    if result.get("length_controlled_winrate") is not None:
        yield CONTROLLED.figure(result)
    if recorded := result.get("recorded_fit"):
        again = recorded["length_controlled_winrate_fitted_at_C"]
        official = recorded["length_controlled_winrate"]
        text = f"{official:.2f} %; fitted again at its C = {recorded['C']:.4g}: {again:.2f} %"
        yield Figure("by the recorded fit", text, part=True)
    if result.get("win_rate") is None:
        return
    counts = f"{result['n_wins']} won, {result['n_wins_base']} lost, {result['n_draws']} drawn"
    yield Figure(WIN_RATE.name, f"{WIN_RATE.figure(result).text} ({counts})")
    for name, key in (("shown second", "baseline_first"), ("shown first", "system_first")):
        order = result["order"][key]
        if order["judged"]:
            yield Figure(name, f"{order['win_rate']:.2f} % of {order['judged']}", part=True)
    if result.get(BOTH_ORDERS.field) is not None:
        yield BOTH_ORDERS.figure(result)
        agree = f"{result['consistency']:.1f} % of {result['swapped']} pairs"
        yield Figure("same verdict in both", agree, part=True)


def section(page: Page, names: Sequence[str], results: Sequence[Row]) -> None:
    """A table of both win rates, and a plot of their intervals."""
    columns = {
        CONTROLLED.label: sections.score(CONTROLLED),
        WIN_RATE.label: sections.score(WIN_RATE),
        "won": sections.count("n_wins"),
        "lost": sections.count("n_wins_base"),
        "drawn": sections.count("n_draws"),
        "judged": sections.count("judged"),
        "failed": sections.failed,
    }
    if any(result.get(BOTH_ORDERS.field) is not None for result in results):
        columns[BOTH_ORDERS.label] = sections.score(BOTH_ORDERS)
        columns["same verdict in both orders, %"] = sections.figure("consistency")
    sections.scores(page, names, results, columns)
    metrics = {"length-controlled": CONTROLLED, "raw": WIN_RATE}
    caption = "Win rates against the baseline, with 95 % intervals."
    sections.intervals(page, NAME, names, results, metrics, WIN_RATE.label, caption, zero=50)


BENCHMARK = Benchmark(
    name=NAME,
    title="AlpacaEval 2.0",
    about="AlpacaEval 2.0: 805 instructions, win rates.",
    licence="AlpacaEval's data is licensed CC BY-NC 4.0: attribution, no commercial use (github.com/tatsu-lab/alpaca_eval)",
    judge=JUDGE,
    official="openai/gpt-4-1106-preview",
    judging=JUDGING,
    metric=WIN_RATE,
    controlled=CONTROLLED,
    contrast=contrast,
    needs=lambda options: (OUTPUTS, PROMPT),
    spare=(GAMED,),
    trial=trial,
    measure=measure,
    score=score,
    grade=grade,
    figures=figures,
    section=section,
    flags=(SWAP,),
)
