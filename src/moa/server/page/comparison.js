// Two runs side by side: their answers, what each took, what each resembles.

import { runAddress } from "./addresses.js";
import { Colours } from "./colours.js";
import { el, put } from "./elements.js";
import { count, money, seconds } from "./figures.js";
import { follow } from "./follow.js";
import { Prose } from "./markdown/prose.js";
import { questionElement } from "./messages.js";
import { barsOf } from "./resemblance.js";
import { Run } from "./run.js";
import { runList } from "./runlist.js";
import { Timeline } from "./timeline.js";

/** The sides of a comparison, below their questions; a question that both share is shown once. */
export function comparisonElement(sides, questions) {
  return el("section", { class: "comparison", "aria-label": "Comparison" },
    el("div", { class: "questions" }, [...new Set(questions)].map(questionElement)),
    el("div", { class: "sides" }, sides.map((side) => side.element)));
}

export class Side {
  constructor(id) {
    this.run = new Run(id);
    this.closed = new AbortController();
    this.body = el("div", { class: "prose answer-text" });
    this.prose = new Prose(this.body);
    this.title = el("h3", {}, "…");
    this.state = el("span", { class: "state" });
    this.figures = el("dl", { class: "figures" });
    this.problem = el("p", { class: "problem", hidden: true });
    this.bars = el("div", { class: "bars" });
    this.timeline = new Timeline(new Colours());
    this.element = el("article", { class: "side" },
      el("header", {}, this.title, this.state), this.figures, this.body, this.problem, this.bars, this.timeline.element,
      el("p", {}, el("a", { href: runAddress(id) }, "Open with layers")));
  }

  draw() {
    const { run } = this;
    put(this.title, run.mixture || "…");
    const [state, label] = run.standing;
    this.element.dataset.state = state;
    put(this.state, label);
    if (!run.record) this.prose.draw(run.answer);
    this.problem.hidden = !run.error;
    put(this.problem, [run.error, ...run.causes].join("\n"));
    this.timeline.draw(run);
    this.drawFigures();
  }

  drawFigures() {
    const { run } = this;
    const { calls, tokens, dollars, atLeast } = run.figures;
    const rows = {
      "First token": run.firstToken === null ? "–" : seconds(run.firstToken),
      "Total time": seconds(run.now),
      Calls: String(calls),
      Tokens: count(tokens),
      Cost: money(dollars, atLeast),
      Words: count(run.answer.split(/\s+/).filter(Boolean).length),
    };
    if (!this.figures.childElementCount) {
      this.figures.replaceChildren(...Object.keys(rows).map((name) => el("div", {}, el("dt", {}, name), el("dd"))));
    }
    Object.values(rows).forEach((value, n) => put(this.figures.children[n].lastChild, value));
  }

  /** Draw the run until it has ended; `onChange` is called whenever its state may have changed. */
  async follow(onChange) {
    await follow(this, this.closed.signal, onChange);
    this.draw();
    this.prose.finish(this.run.answer);
    this.bars.replaceChildren(...barsOf(this.run.record.attribution, this.timeline.colours));
    runList.load();
  }

  close() {
    this.closed.abort();
  }
}
