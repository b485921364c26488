// When each call of a run waited, received its first token and ended.

import { el, put } from "./elements.js";
import { seconds } from "./figures.js";
import { LABELS } from "./run.js";

const STEPS = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800]; // seconds between marks of the axis
const MOST_MARKS = 8;

export class Timeline {
  constructor(colours) {
    this.colours = colours;
    this.rows = new Map();
    this.list = el("ol", { class: "rows" });
    this.axis = el("div", { class: "axis", "aria-hidden": "true" });
    const key = [["wait", "waiting"], ["write", "writing"], ["again", "reads more"]];
    this.element = el("figure", { class: "timeline" },
      el("figcaption", {}, "Timeline", el("span", { class: "key" }, key.flatMap(([name, label]) => [el("i", { class: name }), label]))),
      this.list, this.axis);
  }

  draw(run) {
    const length = Math.max(run.now, 0.5);
    const place = (time) => `${Math.min(100, (time / length) * 100)}%`;
    for (const part of run.parts.values()) {
      if (part.began !== null) this.drawRow(part, run, place);
    }
    const step = STEPS.find((size) => length / size <= MOST_MARKS) ?? 3600;
    if (this.step === step && this.length === length) return;
    Object.assign(this, { step, length });
    const marks = [];
    for (let time = 0; time < length * 0.985; time += step) {
      const mark = el("span", {}, seconds(time).replace(".0", ""));
      mark.style.setProperty("--from", place(time));
      marks.push(mark);
    }
    this.axis.replaceChildren(...marks);
  }

  drawRow(part, run, place) {
    const row = this.rows.get(part.key) ?? this.addRow(part);
    const first = part.first ?? part.ended ?? run.now;
    row.wait.style.setProperty("--from", place(part.began));
    row.wait.style.setProperty("--to", place(first));
    row.write.style.setProperty("--from", place(first));
    row.write.style.setProperty("--to", place(part.ended ?? run.now));
    row.element.dataset.state = part.state;
    while (row.again.childElementCount < part.readAgain.length) row.again.append(el("i"));
    part.readAgain.forEach((time, n) => row.again.children[n].style.setProperty("--from", place(time)));
    put(row.words, part.hasEnded ? inWords(part) : LABELS[part.state]);
  }

  addRow(part) {
    const [wait, write] = ["wait", "write"].map((name) => el("i", { class: name }));
    const [again, words] = ["again", "visually-hidden"].map((name) => el("span", { class: name }));
    const place = part.role === "proposer" ? `layer ${part.layer}` : part.role;
    const element = el("li", { class: `agent-${this.colours.of(part.agent)}` },
      el("span", { class: "label", title: `${part.agent}, ${place}` }, el("bdi", {}, part.agent), " ", el("small", {}, place)),
      el("span", { class: "track" }, wait, write, again), words);
    this.list.append(element);
    const row = { element, wait, write, again, words };
    this.rows.set(part.key, row);
    return row;
  }
}

function inWords(part) {
  if (part.state === "recalled") return "reused from an earlier run";
  const first = part.first === null ? "no token" : `first token at ${seconds(part.first)}`;
  return `called at ${seconds(part.began)}, ${first}, ${LABELS[part.state]} at ${seconds(part.ended)}`;
}
