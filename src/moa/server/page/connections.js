// Lines from each card to the cards that read it; they flow while the reader writes.

import { svg } from "./elements.js";
import { keyOf } from "./run.js";

const READING = new Set(["reading", "thinking", "writing"]);

export class Connections {
  /** @param cards by key; @param layers the element with a column of cards for each layer; @param answer the last element. */
  constructor(run, colours, cards, layers, answer) {
    Object.assign(this, { run, colours, cards, layers, answer });
    this.element = svg("svg", { class: "lines", "aria-hidden": "true" });
    this.observer = new ResizeObserver(() => this.draw());
    this.observer.observe(layers);
  }

  /** Draw the lines anew if what they show has changed. */
  update() {
    const state = [...this.run.parts.values()].map((part) => `${part.state}${part.references.length}`).join();
    if (state !== this.drawnState) this.draw();
    this.drawnState = state;
  }

  draw() {
    const around = this.element.parentElement?.getBoundingClientRect();
    if (!around?.width || getComputedStyle(this.element).display === "none") return;
    const columns = [...this.layers.children].map((column) => [...column.querySelectorAll(".card")]);
    const parts = new Map([...this.cards.values()].map((card) => [card.element, card.part]));
    const lines = columns.flatMap((column, n) => {
      const readers = columns[n + 1] ?? [this.answer];
      return column.flatMap((from) => readers.map((to) => [pathBetween(from, to, around), this.kindOf(parts.get(from), parts.get(to))]));
    });
    while (this.element.childElementCount > lines.length) this.element.lastChild.remove();
    lines.forEach(([path, kind], n) => {
      const line = this.element.children[n] ?? this.element.appendChild(svg("path"));
      if (line.getAttribute("d") !== path) line.setAttribute("d", path);
      if (line.getAttribute("class") !== kind) line.setAttribute("class", kind);
    });
  }

  /** The classes of the line from a proposal to its reader; without a reader, to the answer. */
  kindOf(from, to) {
    const { run } = this;
    const reader = to ?? run.speaker ?? run.ranker;
    const isAnswer = !to && run.selected && keyOf(run.selected) === from.key;
    const reads = isAnswer || reader?.references.includes(from.agent);
    const flows = reads && reader && !run.hasEnded && READING.has(reader.state);
    return `agent-${this.colours.of(from.agent)}${reads ? " reads" : ""}${flows ? " flows" : ""}`;
  }

  close() {
    this.observer.disconnect();
  }
}

function pathBetween(from, to, around) {
  const [a, b] = [from.getBoundingClientRect(), to.getBoundingClientRect()];
  const [x1, y1] = [a.right - around.left, a.top + Math.min(a.height / 2, 60) - around.top];
  const [x2, y2] = [b.left - around.left, b.top + Math.min(b.height / 2, 60) - around.top];
  const middle = (x1 + x2) / 2;
  return `M${x1} ${y1}C${middle} ${y1} ${middle} ${y2} ${x2} ${y2}`;
}
