// A turn of a conversation: a question, its run, and what can be done with the run.

import { announce, button, copyButton, download } from "./actions.js";
import { HOME, comparisonAddress, navigate, runAddress } from "./addresses.js";
import { catalogue } from "./catalogue.js";
import { highlights } from "./colours.js";
import { editor } from "./editor.js";
import { el, put } from "./elements.js";
import { money, plural, seconds } from "./figures.js";
import { follow, redraw } from "./follow.js";
import { messageElement, textOf } from "./messages.js";
import { Rating } from "./rating.js";
import { HAS_NONE, HAS_TEXT, Run } from "./run.js";
import { runList } from "./runlist.js";
import { delay, server } from "./server.js";
import { Stage } from "./stage.js";

const CONFIRMATION = 5000; // milliseconds in which a second press deletes a run

export class Turn {
  /**
   * @param messages what this turn adds to its conversation: the question, and tool calls with their results.
   * @param onChange called whenever the run's state, or what the window shows of it, may have changed.
   */
  constructor(id, messages, onChange) {
    Object.assign(this, { messages, onChange });
    this.run = new Run(id);
    this.question = messages.length ? textOf(messages[0]) : "";
    this.stage = new Stage(this.run, catalogue.explained, onChange);
    this.closed = new AbortController();
    this.isFolded = false;
    this.totals = el("p", { class: "totals" });
    this.actions = el("div", { class: "actions" });
    this.element = el("section", { class: "turn", "aria-label": this.question.slice(0, 80) || "A run" },
      messages.map(messageElement), this.stage.element, el("div", { class: "row foot" }, this.totals, el("span", { class: "gap" }), this.actions));
  }

  /** The turn as messages for a further question; without an answer, only its own. */
  get transcript() {
    return this.run.answer ? [...this.messages, { role: "assistant", content: this.run.answer }] : this.messages;
  }

  /** Draw the run until it has ended, then offer what can be done with it. */
  async follow() {
    let announced = "";
    const onEvent = (event) => {
      if (event?.event === "answer_began") announce("The answer has begun.");
      const now = progressOf(this.run);
      if (now && now !== announced) announce(now);
      announced = now;
      this.onChange();
    };
    try {
      await follow(this.stage, this.closed.signal, onEvent);
    } catch (error) {
      if (error.status === 404) this.breakOff();
      throw error;
    }
    this.complete();
  }

  /** The run was deleted in another window: keep what is drawn, and mark it as broken off. */
  breakOff() {
    if (!this.run.hasEnded) this.run.end("broken off");
    this.stage.draw();
    this.onChange();
  }

  /** Draw the ended run from its record, and offer what can be done with it. */
  complete() {
    const { run } = this;
    this.stage.complete();
    const { calls, tokens, dollars, atLeast } = run.figures;
    const figures = [plural(calls, "call"), plural(tokens, "token"), money(dollars, atLeast)];
    if (run.firstToken !== null) figures.push(`first token ${seconds(run.firstToken)}`);
    figures.push(`${seconds(run.ended)} total`, run.schedule.replace("Barrier()", "barrier"));
    put(this.totals, figures.join(" · "));
    this.offerActions();
    const ends = { failed: "The run failed.", stopped: "The run was stopped.", "broken off": "The run was broken off." };
    announce(ends[run.state] ?? `The answer is complete: ${figures.join(", ")}`);
    this.onChange();
    runList.load();
  }

  offerActions() {
    const { run } = this;
    const { outcome } = run.record;
    const canContinue = outcome !== "answered" && outcome !== "degraded";
    const record = () => JSON.stringify(run.record, null, 2);
    const buttons = [
      run.answer && copyButton("Copy answer", () => run.answer, { class: "quiet" }),
      canContinue && button("Continue", () => this.continueRun()),
      button("Run again", () => this.runAgain(), { class: "quiet" }),
      button("Export", () => download(`run-${run.id.slice(0, 8)}.json`, record(), "application/json"), { class: "quiet" }),
      this.deleteButton(),
    ];
    this.actions.append(...buttons.filter(Boolean));
    if (run.answer) this.actions.prepend(new Rating(run).element);
  }

  /** Continue from the finished proposals, in a new run. */
  async continueRun() {
    const { run } = await server.json("/runs", { method: "POST", body: { continue: this.run.id } });
    navigate(runAddress(run));
  }

  /** Send the same request to what is chosen now, and show both runs side by side. */
  async runAgain() {
    const { parameters, messages } = this.run.record;
    const { run } = await server.json("/runs", { method: "POST", body: { ...parameters, ...editor.selection, messages } });
    navigate(comparisonAddress([this.run.id, run]));
  }

  /** Nothing restores a deleted run: the button asks for a second press. */
  deleteButton() {
    const deleter = button("Delete", async () => {
      if (deleter.textContent !== "Delete") return this.deleteRun();
      put(deleter, "Delete permanently");
      announce("Press again to delete the run permanently.");
      delay(CONFIRMATION).then(() => put(deleter, "Delete"));
    }, { class: "quiet" });
    return deleter;
  }

  async deleteRun() {
    await server.json(`/runs/${this.run.id}`, { method: "DELETE" }).catch((error) => {
      if (error.status !== 404) throw error; // otherwise it was deleted in another window
    });
    navigate(HOME);
  }

  /** A later turn begins: show the question and the answer alone, with a button for the layers. */
  fold() {
    if (this.isFolded) return;
    this.isFolded = true;
    this.element.classList.add("past");
    const toggle = button("Layers", () => {
      const isPast = this.element.classList.toggle("past");
      toggle.setAttribute("aria-expanded", String(!isPast));
      redraw(this.stage);
    }, { class: "quiet", "aria-expanded": "false" });
    this.actions.prepend(toggle);
  }

  close() {
    this.closed.abort();
    this.stage.close();
    highlights.clear();
  }
}

/** How many proposals are ready, as words to be read aloud; empty while there is nothing to report. */
function progressOf({ proposers }) {
  const failed = proposers.filter((part) => HAS_NONE.has(part.state)).length;
  const ready = proposers.filter((part) => HAS_TEXT.has(part.state)).length;
  if (!ready && !failed) return "";
  return `${ready} of ${plural(proposers.length, "proposal")} ready${failed ? `, ${failed} failed` : ""}.`;
}
