// What the answer resembles: a bar for each layer, and the passages of the sentence that is pointed at.

import { highlights } from "./colours.js";
import { el } from "./elements.js";
import { percent } from "./figures.js";
import { unitsOf } from "./markdown/source.js";
import { keyOf } from "./run.js";

const HINT = "Point at a sentence of the answer, or click it and move with the arrow keys.";
const LONGEST_QUOTE = 240; // characters
const STEPS = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };

/** A bar for each layer: the agents' shares of the answer, what is new, and a legend. */
export function barsOf(attribution, colours) {
  const layers = attribution?.layers ?? [];
  return layers.map(({ layer, shares, new: fresh, ignored = [] }) => {
    const agents = Object.entries(shares).sort(([, one], [, other]) => other - one);
    const parts = agents.map(([name, share]) => ({ name, share, kind: `agent-${colours.of(name)}` }));
    parts.push({ name: "new", share: fresh, kind: "new" });
    const segments = parts.map(({ share, kind }) => {
      const segment = el("i", { class: kind });
      segment.style.setProperty("--share", String(share));
      return segment;
    });
    const legend = parts.map(({ name, share, kind }) => el("li", { class: kind }, el("b", { class: "dot" }), el("bdi", {}, name), " ",
      el("span", {}, percent(share)), ignored.includes(name) ? el("em", {}, " ignored") : null));
    const words = parts.map(({ name, share }) => `${name} ${percent(share)}`).join(", ");
    return el("div", { class: "layer-bar" },
      layers.length > 1 ? el("p", { class: "note" }, `Compared with layer ${layer}`) : null,
      el("div", { class: "bar", role: "img", "aria-label": words }, segments),
      el("ul", { class: "legend" }, legend));
  });
}

export class Resemblance {
  /**
   * @param cards the proposals' cards, by key.
   * @param body the element of the answer's text.
   * @param explanation what the figures mean, in the server's words.
   */
  constructor(run, colours, cards, body, explanation) {
    Object.assign(this, { run, colours, cards, body });
    this.bars = el("div", { class: "bars" });
    this.pointed = el("div", { class: "pointed", "aria-live": "polite" });
    this.element = el("section", { class: "resemblance", "aria-label": "What the answer resembles", hidden: true },
      el("h4", {}, "What the answer resembles"), this.bars, this.pointed,
      el("details", {}, el("summary", {}, "What these figures mean"), el("p", { class: "note" }, explanation)));
    this.current = null; // the index of the current sentence
    this.isPinned = false; // whether it stays current when the pointer leaves it
    this.isShown = false;
  }

  /** Draw the server's figures, and let the reader point at the answer's sentences. */
  show(attribution, prose) {
    if (!attribution?.sentences.length) return;
    this.attribution = attribution;
    const units = unitsOf(this.run.answer);
    this.sentences = attribution.sentences.map((sentence) => ({ ...sentence, start: units(sentence.start), end: units(sentence.end) }));
    prose.finish(this.run.answer, this.sentences);
    this.isShown = true;
    this.bars.replaceChildren(...barsOf(attribution, this.colours));
    for (const { layer, shares, ignored = [] } of attribution.layers) {
      for (const [agent, share] of Object.entries(shares)) {
        this.cards.get(keyOf({ layer, agent }))?.showShare(share, ignored.includes(agent));
      }
    }
    this.element.hidden = false;
    this.describe(null);
    this.listen();
  }

  listen() {
    this.body.tabIndex = 0;
    this.body.setAttribute("role", "group");
    this.body.setAttribute("aria-label", "Answer. Arrow keys move through its sentences.");
    this.body.addEventListener("pointerover", (event) => {
      const over = event.target.closest?.(".sentence");
      if (!this.isPinned) this.point(over ? Number(over.dataset.sentence) : null);
    });
    this.body.addEventListener("pointerleave", () => this.isPinned || this.point(null));
    this.body.addEventListener("click", (event) => {
      const clicked = event.target.closest?.(".sentence");
      if (!clicked || event.target.closest("a") || !getSelection().isCollapsed) return;
      const sentence = Number(clicked.dataset.sentence);
      this.isPinned = !(this.isPinned && this.current === sentence);
      this.point(this.isPinned ? sentence : null);
    });
    this.body.addEventListener("keydown", (event) => this.move(event));
    // A sentence that was clicked stays current while the reader reads its passages in their cards.
    const stage = this.body.closest(".stage");
    stage.addEventListener("click", (event) => event.target.closest(".answer-text, .card, .pointed") || this.unpin());
    stage.addEventListener("keydown", (event) => event.key === "Escape" && this.unpin());
  }

  unpin() {
    this.isPinned = false;
    this.point(null);
  }

  move(event) {
    const step = STEPS[event.key];
    if (!step || event.target !== this.body) return;
    event.preventDefault();
    const last = this.sentences.length - 1;
    const next = this.current === null ? (step > 0 ? 0 : last) : this.current + step;
    this.isPinned = true;
    this.point(Math.max(0, Math.min(last, next)));
    this.body.querySelector(`[data-sentence="${this.current}"]`)?.scrollIntoView({ block: "nearest" });
  }

  /** Make a sentence current: highlight it and its passages, and describe them. */
  point(number) {
    if (number === this.current) return;
    this.current = number;
    for (const span of this.body.querySelectorAll(".sentence.lit")) span.classList.remove("lit");
    highlights.clear();
    const sentence = number === null ? null : this.sentences[number];
    if (sentence) {
      for (const span of this.body.querySelectorAll(`[data-sentence="${number}"]`)) span.classList.add("lit");
      for (const passage of sentence.passages) {
        const card = this.cards.get(keyOf(passage));
        if (card) highlights.add(this.colours.of(passage.agent), card.reveal(passage));
      }
    }
    for (const [key, card] of this.cards) {
      const own = sentence?.passages.filter((passage) => keyOf(passage) === key) ?? [];
      card.showSentenceShare(sentence ? own.reduce((sum, passage) => sum + passage.share, 0) : null);
    }
    this.describe(sentence);
  }

  describe(sentence) {
    if (!sentence) {
      this.pointed.replaceChildren(el("p", { class: "note" }, HINT));
      return;
    }
    const passages = [...sentence.passages].sort((one, other) => other.layer - one.layer || other.share - one.share);
    const place = `Sentence ${this.current + 1} of ${this.sentences.length}`;
    const fresh = sentence.new > 0.005 ? ` (${percent(sentence.new)} new)` : "";
    const words = passages.length ? `${place}${fresh} resembles:` : `${place} resembles no passage of a proposal: it is new.`;
    this.pointed.replaceChildren(el("p", {}, words), el("ul", {}, passages.map((passage) => this.passageRow(passage))));
  }

  passageRow(passage) {
    const card = this.cards.get(keyOf(passage));
    const text = card?.part.text.slice(...card.span(passage)) ?? "";
    const layer = this.attribution.layers.length > 1 ? `, layer ${passage.layer}` : "";
    return el("li", { class: `agent-${this.colours.of(passage.agent)}` },
      el("b", { class: "dot" }), el("strong", {}, el("bdi", {}, passage.agent), layer), ` ${percent(passage.share)} of the sentence`,
      el("q", { dir: "auto" }, text.length > LONGEST_QUOTE ? `${text.slice(0, LONGEST_QUOTE)}…` : text));
  }
}
