// A run as a picture: its layers from left to right, the answer last and largest, the timeline below.

import { Card, partFigures } from "./card.js";
import { Colours } from "./colours.js";
import { Connections } from "./connections.js";
import { el, put } from "./elements.js";
import { plural } from "./figures.js";
import { Prose } from "./markdown/prose.js";
import { toolCallsText } from "./messages.js";
import { Resemblance } from "./resemblance.js";
import { Timeline } from "./timeline.js";

export class Stage {
  /** @param onVisibility called when the answer comes into the window or leaves it; see `isAnswerBelow`. */
  constructor(run, explanation, onVisibility) {
    this.run = run;
    this.colours = new Colours();
    this.cards = new Map();
    this.layers = el("div", { class: "layers" });
    this.body = el("div", { class: "prose answer-text" });
    this.prose = new Prose(this.body);
    this.name = el("h3", { class: "layer-name" });
    this.model = el("p", { class: "model" });
    this.state = el("span", { class: "state" });
    this.figures = el("p", { class: "figures" });
    this.analysis = el("details", { class: "thinking analysis", hidden: true }, el("summary", {}, "Analysis of the proposals"), el("div"));
    this.thinking = el("details", { class: "thinking", hidden: true }, el("summary", {}, "Thinking"), el("p"));
    this.problem = el("p", { class: "problem", hidden: true });
    this.tools = el("pre", { class: "tools", hidden: true, tabIndex: 0 });
    this.votes = el("ol", { class: "votes", hidden: true, "aria-label": "Votes" });
    this.resemblance = new Resemblance(run, this.colours, this.cards, this.body, explanation);
    this.answer = el("article", { class: "answer", "data-state": "waiting", "aria-label": "Answer" },
      el("header", {}, el("h3", {}, "Answer"), this.state),
      this.model, this.votes, this.analysis, this.thinking, this.body, this.tools, this.problem, this.figures, this.resemblance.element);
    this.connections = new Connections(run, this.colours, this.cards, this.layers, this.answer);
    this.timeline = new Timeline(this.colours);
    this.notices = el("ul", { class: "notices" });
    const last = el("section", { class: "layer last", "aria-label": "Answer" }, this.name, this.answer);
    const below = el("div", { class: "below" }, this.notices, this.timeline.element);
    this.element = el("div", { class: "stage" }, el("div", { class: "flow" }, this.connections.element, this.layers, last, below));
    this.isAnswerBelow = false; // below what the window shows
    this.observer = new IntersectionObserver(([entry]) => {
      this.isAnswerBelow = !entry.isIntersecting && entry.boundingClientRect.top > 0;
      onVisibility();
    });
    this.observer.observe(this.answer);
  }

  /** A card for each proposer, in a column for each layer. */
  build() {
    const layers = Map.groupBy(this.run.proposers, (part) => part.layer);
    const columns = [...layers].sort(([one], [other]) => one - other).map(([layer, parts]) => {
      const cards = parts.map((part) => {
        const card = new Card(part, this.colours.of(part.agent));
        this.cards.set(part.key, card);
        return card.element;
      });
      const column = el("section", { class: "layer", "aria-label": `Layer ${layer}` }, el("h3", { class: "layer-name" }, `Layer ${layer}`), cards);
      column.style.setProperty("--count", String(parts.length));
      return column;
    });
    this.layers.replaceChildren(...columns);
    this.element.style.setProperty("--layers", String(columns.length));
    this.element.dataset.layers = String(columns.length);
    this.builtFor = this.run.proposers.length;
  }

  draw() {
    const { run } = this;
    if (this.builtFor !== run.proposers.length) this.build();
    for (const card of this.cards.values()) {
      card.draw(run);
      if (run.hasEnded) card.complete();
    }
    this.drawAnswer();
    this.timeline.draw(run);
    const notices = run.notices.map((notice) => el("li", { class: notice.degrades ? "degrades" : "" }, notice.text));
    if (this.notices.childElementCount !== notices.length) this.notices.replaceChildren(...notices);
    if (!run.hasEnded) for (const card of this.cards.values()) card.followEnd();
    this.connections.update();
  }

  drawAnswer() {
    const { run } = this;
    const { speaker, selected } = run;
    const [state, label] = run.standing;
    this.answer.dataset.state = state;
    put(this.state, label);
    const roles = new Set([...run.parts.values()].map((part) => part.role));
    if (run.count && this.votes.hidden) this.drawVotes(run.count);
    put(this.name, run.count ? "Count" : roles.has("ranker") ? "Ranker" : roles.has("aggregator") || !roles.size ? "Aggregator" : "Selection");
    this.element.classList.toggle("answering", Boolean(run.answer));
    put(this.model, answerer(run));
    if (run.analysis && this.analysis.hidden) {
      this.analysis.hidden = false;
      this.analysis.lastChild.replaceChildren(...analysisOf(run.analysis));
    }
    this.thinking.hidden = !speaker?.reasoning;
    if (speaker?.reasoning) put(this.thinking.lastChild, speaker.reasoning);
    if (!this.resemblance.isShown) this.prose.draw(run.answer);
    this.problem.hidden = !run.error;
    put(this.problem, [run.error, ...run.causes].join("\n"));
    this.tools.hidden = !run.toolCalls.length;
    if (run.toolCalls.length) put(this.tools, toolCallsText(run.toolCalls));
    put(this.figures, speaker && !selected ? partFigures(speaker, run) : "");
  }

  /** Each answer that the proposals gave, as a bar of its share of the votes; the first has won. */
  drawVotes({ clusters }) {
    const all = clusters.reduce((sum, { agents }) => sum + agents.length, 0);
    this.votes.replaceChildren(...clusters.map(({ answer, agents }) => {
      const bar = el("span", { class: "bar" });
      bar.style.setProperty("--share", String(agents.length / all));
      return el("li", { title: agents.join(", ") }, bar, el("span", { class: "voted" }, answer), el("span", { class: "count" }, plural(agents.length, "vote")));
    }));
    this.votes.hidden = false;
  }

  /** The run has ended and the server has compared its answer with the proposals: draw it complete. */
  complete() {
    const { run } = this;
    this.resemblance.show(run.record.attribution, this.prose);
    if (!this.resemblance.isShown && run.answer) this.prose.finish(run.answer);
    this.draw();
  }

  close() {
    this.connections.close();
    this.observer.disconnect();
  }
}

const POINTS = {
  consensus: "Consensus",
  contradictions: "Contradictions",
  partial_coverage: "Covered by some",
  unique_points: "Said by one",
  blind_spots: "Blind spots",
};

/** What the aggregator noted of the proposals, as lists. */
function analysisOf(analysis) {
  return Object.entries(POINTS)
    .filter(([kind]) => analysis[kind]?.length)
    .flatMap(([kind, title]) => [el("h4", {}, title), el("ul", {}, analysis[kind].map((point) => el("li", {}, point)))]);
}

/** The agent and model that write the answer, or will. */
function answerer(run) {
  if (run.selected) return `${run.selected.agent}’s proposal, word for word: ${run.selected.reason}`;
  const part = run.speaker ?? [...run.parts.values()].find(({ role }) => role === "aggregator" || role === "ranker");
  if (!part) return run.parts.size ? "the proposal most like the others" : "";
  return part.agent === part.model ? part.model : `${part.agent} · ${part.model}`;
}
