// What the page shows: a conversation, whose last turn has its layers open; or two runs side by side; or the chosen mixture.

import { announce, attempt } from "./actions.js";
import { runAddress, setAddress } from "./addresses.js";
import { catalogue } from "./catalogue.js";
import { Side, comparisonElement } from "./comparison.js";
import { editor } from "./editor.js";
import { byId } from "./elements.js";
import { messageElement, textOf } from "./messages.js";
import { previewOf } from "./preview.js";
import { runList } from "./runlist.js";
import { server } from "./server.js";
import { Turn } from "./turn.js";

export const conversation = {
  earlier: [], // messages before the first turn
  turns: [],
  sides: [],
  sending: null, // aborts the question that is on its way to the server

  get runs() {
    return [...this.turns, ...this.sides].map((view) => view.run);
  },

  get lastTurn() {
    return this.turns.at(-1);
  },

  clear() {
    for (const view of [...this.turns, ...this.sides]) view.close();
    Object.assign(this, { earlier: [], turns: [], sides: [] });
    document.body.classList.remove("comparing", "idle");
    byId("turns").replaceChildren();
  },

  /** Show nothing but the mixture that would answer. */
  showHome() {
    this.clear();
    this.showPreview();
    this.update();
  },

  showPreview() {
    if (!catalogue.isLoaded) return;
    document.body.classList.add("idle");
    byId("turns").replaceChildren(previewOf(editor.draft.table()));
  },

  /** Show a run: the messages before it as they are, and the run with its layers. */
  async showRun(id, signal) {
    if (this.lastTurn?.run.id === id) return;
    const { messages, model, mixture } = await server.json(`/runs/${id}`, { signal });
    this.clear();
    const question = messages.findLastIndex((message) => message.role === "user");
    this.earlier = question < 0 ? messages : messages.slice(0, question);
    byId("turns").append(...this.earlier.map(messageElement));
    editor.choose(model, mixture);
    this.startTurn(id, question < 0 ? [] : messages.slice(question));
  },

  async showComparison(ids, signal) {
    const records = await Promise.all(ids.map((id) => server.json(`/runs/${id}`, { signal })));
    this.clear();
    document.body.classList.add("comparing");
    this.sides = ids.map((id) => new Side(id));
    const questions = records.map((record) => textOf(record.messages.findLast((message) => message.role === "user") ?? {}));
    byId("turns").append(comparisonElement(this.sides, questions));
    this.update();
    for (const side of this.sides) attempt(() => side.follow(() => this.update()));
  },

  /**
   * Ask a question, as soon as the server has a place for it; returns whether its run began. `left` is aborted when the user
   * goes elsewhere on the page: the run continues, and the page does not show it.
   */
  async ask(question, left) {
    this.sending = new AbortController();
    this.update();
    announce("Question sent.");
    try {
      await editor.load();
      const messages = [...this.earlier, ...this.turns.flatMap((turn) => turn.transcript), { role: "user", content: question }];
      const body = { ...editor.selection, messages };
      const { run } = await server.json("/runs", { method: "POST", body, signal: this.sending.signal });
      if (!left.aborted) {
        if (this.sides.length) this.clear();
        this.startTurn(run, messages.slice(-1));
        setAddress(runAddress(run));
      }
      runList.load();
      return true;
    } finally {
      this.sending = null;
      this.update();
    }
  },

  startTurn(id, messages) {
    if (document.body.classList.contains("idle")) this.clear();
    for (const turn of this.turns) turn.fold();
    const turn = new Turn(id, messages, () => this.update());
    this.turns.push(turn);
    byId("turns").append(turn.element);
    turn.element.scrollIntoView({ block: "start" });
    this.update();
    attempt(() => turn.follow());
  },

  /** Stop every run in progress, and the question on its way. */
  stop() {
    announce("Stopping.");
    this.sending?.abort();
    for (const run of this.runs) {
      if (!run.hasEnded) attempt(() => server.json(`/runs/${run.id}/stop`, { method: "POST" }));
    }
  },

  /** Show what can be pressed now. */
  update() {
    const inProgress = this.sending !== null || this.runs.some((run) => !run.hasEnded);
    const disappearing = inProgress ? byId("send") : byId("stop");
    if (disappearing === document.activeElement) byId("main").focus({ preventScroll: true });
    byId("send").hidden = inProgress;
    byId("stop").hidden = !inProgress;
    const question = this.lastTurn?.question.slice(0, 80);
    document.title = `${inProgress ? "… " : ""}${question ? `${question} · ` : ""}Mixture-of-Agents`;
    const stage = this.lastTurn?.stage;
    byId("to-answer").hidden = !(stage?.isAnswerBelow && (stage.run.answer || stage.run.hasEnded));
    editor.offerRunAgain(Boolean(this.lastTurn?.run.record));
  },
};
