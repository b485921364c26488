// An agent's card: it fills with the agent's text while the agent writes.

import { button, copyButton } from "./actions.js";
import { openSheet } from "./dialogs.js";
import { el, put } from "./elements.js";
import { money, percent, plural, seconds } from "./figures.js";
import { Prose } from "./markdown/prose.js";
import { unitsOf } from "./markdown/source.js";
import { LABELS } from "./run.js";

export class Card {
  constructor(part, colour) {
    this.part = part;
    this.state = el("span", { class: "state" });
    this.body = el("div", { class: "text prose", tabIndex: 0, role: "group", "aria-label": `Proposal of ${part.agent}, layer ${part.layer}` });
    this.figures = el("p", { class: "figures" });
    this.vote = el("p", { class: "vote", hidden: true });
    this.why = el("p", { class: "why", hidden: true });
    this.share = el("p", { class: "share", hidden: true });
    this.shareOfAnswer = "";
    this.prose = new Prose(this.body);
    this.isComplete = false;
    this.atEnd = true; // whether the reader has not scrolled away from the end
    this.body.addEventListener("scroll", () => {
      this.atEnd = this.body.scrollTop + this.body.clientHeight > this.body.scrollHeight - 12;
      this.body.classList.toggle("more", !this.atEnd);
    }, { passive: true });
    const open = button("⤢", () => openPart(part), { class: "quiet tiny", "aria-label": `Read all of ${part.agent}`, title: "Read all of it" });
    this.element = el("article", { class: `card agent-${colour}`, "data-state": "waiting", "aria-label": `${part.agent}, layer ${part.layer}` },
      el("header", {}, el("h4", { title: part.agent }, el("bdi", {}, part.agent)), this.state, open),
      el("p", { class: "model", title: part.model }, part.model),
      this.body, this.why, this.vote, this.figures, this.share);
  }

  draw(run) {
    const { part } = this;
    if (this.element.dataset.state !== part.state) {
      this.element.dataset.state = part.state;
      put(this.state, LABELS[part.state]);
    }
    this.why.hidden = !part.hasEnded || !part.why;
    put(this.why, part.why);
    const thinks = !part.text && Boolean(part.reasoning);
    this.body.classList.toggle("thought", thinks);
    if (thinks) put(this.body, part.reasoning.slice(-2000));
    else if (!this.isComplete) this.prose.draw(part.text);
    put(this.figures, partFigures(part, run));
    this.vote.hidden = part.vote === undefined;
    put(this.vote, part.vote ? `Votes for ${part.vote}` : "Gives no answer that can be compared");
  }

  /** Keep the end in view while the text grows. Apart from `draw`, so that the page is laid out once for all cards. */
  followEnd() {
    if (this.atEnd && !this.part.hasEnded && this.part.text.length !== this.scrolledTo) this.body.scrollTop = 1e9;
    this.scrolledTo = this.part.text.length;
  }

  /** The run has ended: show the text from its beginning, with its passages ready to be found. */
  complete() {
    if (this.isComplete || !this.part.text) return;
    this.isComplete = true;
    this.units = unitsOf(this.part.text);
    this.prose.finish(this.part.text);
    this.body.scrollTop = 0;
    // After all cards are drawn, so that the page is laid out once for all of them.
    requestAnimationFrame(() => this.body.classList.toggle("more", this.body.clientHeight < this.body.scrollHeight - 12));
  }

  /** Where a passage of the server begins and ends in the card's text. */
  span({ start, end }) {
    return this.isComplete ? [this.units(start), this.units(end)] : [0, 0];
  }

  /** Ranges of the document that show a passage, the first of them scrolled into view. */
  reveal(passage) {
    const ranges = this.prose.ranges(...this.span(passage));
    const box = ranges[0]?.getBoundingClientRect();
    const inside = this.body.getBoundingClientRect();
    if (box && (box.top < inside.top || box.bottom > inside.bottom)) this.body.scrollTop += box.top - inside.top - 24;
    return ranges;
  }

  /** Show its share of the answer; `ignored` if that is next to nothing. */
  showShare(share, ignored) {
    this.shareOfAnswer = ignored ? "almost none of the answer" : `${percent(share)} of the answer`;
    this.share.classList.toggle("ignored", ignored);
    this.share.hidden = false;
    this.showSentenceShare(null);
  }

  /** Show its share of the current sentence; null if there is none. */
  showSentenceShare(share) {
    this.element.classList.toggle("lit", share > 0);
    put(this.share, share === null ? this.shareOfAnswer : share > 0 ? `${percent(share)} of this sentence` : "none of this sentence");
  }
}

/** Tokens, tokens per second, cost and duration of an agent's call, as far as they are known. */
export function partFigures(part, run) {
  const figures = [];
  const estimated = !part.usage || part.usage.estimated;
  if (part.tokens) figures.push(`${estimated ? "~" : ""}${plural(part.tokens, "token")}`);
  if (part.state === "recalled") return figures.join(" · ");
  const end = part.ended ?? run.now;
  if (part.first !== null && end - part.first > 0.2 && part.tokens > 5) figures.push(`${Math.round(part.tokens / (end - part.first))}/s`);
  if (part.hasEnded && part.cost) figures.push(money(part.cost.dollars, part.cost.at_least));
  if (part.began !== null) figures.push(seconds(end - part.began));
  return figures.join(" · ");
}

/** Open everything of an agent's part in the sheet: why it failed or was cut, its reasoning, its text. */
function openPart(part) {
  const body = el("div", { class: "prose" });
  new Prose(body).finish(part.text);
  const thinking = el("details", { class: "thinking", open: !part.text }, el("summary", {}, "Thinking"), el("p", {}, part.reasoning));
  openSheet(`${part.agent}, layer ${part.layer}`,
    [el("p", { class: "model" }, part.model), part.why && el("p", { class: "problem" }, part.why), part.reasoning && thinking, body].filter(Boolean),
    part.text ? [copyButton("Copy", () => part.text)] : []);
}
