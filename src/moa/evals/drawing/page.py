"""A self-contained page of HTML: headings, tables, notes, and drawings embedded in it."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape

STYLE = """
:root { --ink: #1b1f24; --dim: #5d6670; --line: #d9dee3; --wash: #f5f7f9; --accent: #0072B2; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1080px; padding: 2.5rem 1.5rem 4rem; background: #fff; color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
h1 { font-size: 1.7rem; margin: 0 0 .25rem; } h2 { margin: 2.75rem 0 .5rem; font-size: 1.25rem;
  border-top: 2px solid var(--ink); padding-top: .9rem; } h3 { margin: 1.6rem 0 .4rem; font-size: 1rem; }
p, li { max-width: 46rem; } .dim { color: var(--dim); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .88rem; margin: .5rem 0; }
th, td { padding: .3rem .8rem .3rem 0; text-align: right; vertical-align: top; white-space: nowrap;
  border-bottom: 1px solid var(--line); }
th { color: var(--dim); font-weight: 500; white-space: normal; } th:first-child, td:first-child { text-align: left; }
td:first-child { font-weight: 500; max-width: 20rem; overflow-wrap: anywhere; white-space: normal; }
tr.best td { background: var(--wash); }
figure { margin: 1rem 0; } figure img { display: block; max-width: 100%; height: auto; }
figcaption { color: var(--dim); font-size: .85rem; max-width: 46rem; }
.note { border-left: 3px solid var(--accent); padding: .1rem .8rem; background: var(--wash); font-size: .88rem;
  max-width: 46rem; margin: .6rem 0; overflow-wrap: anywhere; }
@media print { body { max-width: none; padding: 0; } h2 { break-after: avoid; } figure { break-inside: avoid; } }
"""


@dataclass(slots=True)
class Page:
    """The page so far: pieces of HTML, and the drawings by file name. Every text is escaped."""

    pieces: list[str] = field(default_factory=list)
    drawings: dict[str, str] = field(default_factory=dict)

    def heading(self, text: str, level: int = 2) -> None:
        """Add a heading."""
        self.pieces.append(f"<h{level}>{escape(text)}</h{level}>")

    def text(self, text: str, kind: str = "") -> None:
        """Add a paragraph; ``kind`` is a class of the stylesheet."""
        self.pieces.append(f'<p class="{kind}">{escape(text)}</p>' if kind else f"<p>{escape(text)}</p>")

    def table(self, headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """Add a table."""
        head = "".join(f'<th scope="col">{escape(name)}</th>' for name in headings)
        body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
        self.pieces.append(
            f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
        )

    def drawing(self, name: str, svg: str, caption: str) -> None:
        """Add a drawing, embedded, and keep it as ``NAME.svg``."""
        self.drawings[f"{name}.svg"] = svg
        data = base64.b64encode(svg.encode()).decode()
        picture = f'<img src="data:image/svg+xml;base64,{data}" alt="{escape(caption)}">'
        self.pieces.append(f"<figure>{picture}<figcaption>{escape(caption)}</figcaption></figure>")

    def html(self, title: str) -> str:
        """The page so far as a whole document."""
        return (
            f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
            f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style></head>'
            f"<body>\n{chr(10).join(self.pieces)}\n</body></html>\n"
        )


def number(value: float | None, digits: int = 2) -> str:
    """A number, or a dash for None and NaN."""
    return "-" if value is None or math.isnan(value) else f"{value:.{digits}f}"


def with_precision(value: float | None, ends: tuple[float, float] | None, error: float | None) -> str:
    """A number and its 95 % interval in brackets, or else its standard error."""
    if value is None or ends is None:
        return with_error(value, error)
    return f"{number(value)} [{ends[0]:.2f}, {ends[1]:.2f}]"


def with_error(value: float | None, error: float | None, digits: int = 2) -> str:
    """A number and its standard error."""
    return number(value, digits) + (f" ± {error:.{digits}f}" if value is not None and error is not None else "")
