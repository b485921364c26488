// A run as a fold of its events. Pure: no document, no server.
//
// A reload or a second window folds the same events, and so draws the same run.

import { plural } from "./figures.js";

export const HAS_TEXT = new Set(["done", "cut", "recalled"]);
export const HAS_NONE = new Set(["failed", "dropped", "stopped", "unasked", "skipped"]);

/** States of an agent and of a run, in words. */
export const LABELS = {
  waiting: "waiting",
  unasked: "not called",
  skipped: "not called",
  reading: "reading",
  thinking: "thinking",
  writing: "writing",
  done: "done",
  cut: "cut short",
  recalled: "reused",
  failed: "failed",
  dropped: "dropped",
  stopped: "stopped",
  answered: "done",
  "broken off": "broken off",
};

/** What identifies an agent's part in a run: its layer and its name. */
export const keyOf = ({ layer, agent }) => `${layer}/${agent}`;

/** One agent's part in a run. Times are seconds since the run's start. */
export class Part {
  constructor({ agent, layer, model, role }) {
    Object.assign(this, { agent, layer, model, role });
    this.key = keyOf(this);
    this.state = "waiting";
    this.text = this.reasoning = this.why = "";
    this.references = []; // names of the agents whose proposals it reads
    this.readAgain = []; // when it received more of them
    this.began = this.first = this.ended = this.usage = this.cost = null;
  }

  /** Output tokens, estimated from the text until the model reports them. */
  get tokens() {
    return this.usage ? this.usage.output_tokens : Math.ceil((this.text.length + this.reasoning.length) / 4);
  }

  get hasEnded() {
    return HAS_TEXT.has(this.state) || HAS_NONE.has(this.state);
  }
}

export class Run {
  constructor(id) {
    this.id = id;
    this.state = "waiting"; // then running, answered, failed, stopped, broken off
    this.record = null; // the server's record, once the run has ended
    this.parts = new Map();
    this.mixture = this.schedule = "";
    this.analysis = this.speaker = this.selected = this.start = this.firstToken = this.ended = null;
    this.count = null; // how the answers of the proposals were counted
    this.notices = [];
    this.causes = [];
    this.error = "";
    this.toolCalls = [];
    this.lastEvent = 0; // seconds from the start to the last event, by the server's clock
    this.received = 0; // milliseconds: when it came, by this page's clock
  }

  get hasEnded() {
    return this.ended !== null;
  }

  /** Seconds since the start, by the server's clock as far as this page knows it. */
  get now() {
    return this.hasEnded ? this.ended : this.lastEvent + (this.received ? (performance.now() - this.received) / 1000 : 0);
  }

  get proposers() {
    return [...this.parts.values()].filter((part) => part.role === "proposer");
  }

  get ranker() {
    return [...this.parts.values()].find((part) => part.role === "ranker" && part.began !== null) ?? null;
  }

  /** The agent that compares the proposals before the answer, while it does. */
  get analyst() {
    return [...this.parts.values()].find((part) => part.role === "analyst" && part.began !== null) ?? null;
  }

  /** The answer's state, which colours it, and its label. */
  get standing() {
    const state = this.hasEnded ? this.state : this.selected ? "done" : ((this.speaker ?? this.ranker ?? this.analyst)?.state ?? "waiting");
    const open = this.proposers.filter((part) => !part.hasEnded).length;
    if (state === "failed" && this.hasEnded) return [state, this.answer ? "broken off" : "no answer"];
    if (state === "waiting" && open && this.start !== null) return [state, `waiting for ${plural(open, "proposal")}`];
    return [state, LABELS[state]];
  }

  get answer() {
    return this.selected ? this.selected.text : (this.speaker?.text ?? "");
  }

  apply(event) {
    if (event.event === "run_started") this.begin(event);
    const at = (this.lastEvent = event.at - this.start);
    this.received = performance.now();
    const part = event.agent === undefined ? null : this.part(event);
    switch (event.event) {
      case "agent_started":
        this.beginPart(part, event, at);
        break;
      case "agent_continued":
        part.references = event.references ?? part.references;
        part.readAgain.push(at);
        break;
      case "agent_said":
        this.extendPart(part, event, at);
        break;
      case "agent_finished":
        this.endPart(part, event, event.cut ? "cut" : "done", event.cut ?? "");
        break;
      case "agent_failed":
        this.endPart(part, event, "failed", event.error);
        break;
      case "agent_dropped":
        this.endPart(part, event, "dropped", event.reason);
        break;
      case "agent_skipped":
        Object.assign(part, { state: "skipped", why: event.reason });
        break;
      case "agent_recalled":
        Object.assign(part, { state: "recalled", text: event.text, began: at, first: at, ended: at, model: event.model });
        break;
      case "answer_began":
        if (event.recalled) this.restoreProposals(event.references ?? [], at);
        break;
      case "moderated":
        for (const name of event.dropped ?? []) {
          Object.assign(this.part({ agent: name, layer: event.layer }), { state: "dropped", why: `${event.agent} kept other proposals` });
        }
        break;
      case "analysed":
        this.analysis = event.analysis;
        break;
      case "agent_voted":
        part.vote = event.answer ?? "";
        break;
      case "votes_counted":
        this.count = { way: event.way, clusters: event.clusters, agreement: event.agreement };
        break;
      case "selected":
        this.selected = event;
        this.firstToken = at;
        break;
      case "noticed":
        this.notices.push({ text: event.message, degrades: Boolean(event.degrades) });
        break;
      case "run_finished":
        this.end("answered", at);
        break;
      case "run_failed":
        this.error = event.error;
        this.causes = event.causes ?? [];
        this.end("failed", at);
        break;
      case "run_stopped":
        this.end("stopped", at);
        break;
    }
  }

  begin({ at, mixture, schedule, seats = [] }) {
    Object.assign(this, { start: at, state: "running", mixture, schedule });
    for (const seat of seats) this.parts.set(keyOf(seat), new Part(seat));
  }

  /** The part that an event is about. Agents without a seat are rankers. */
  part(event) {
    const key = keyOf(event);
    if (!this.parts.has(key)) this.parts.set(key, new Part({ model: "", role: "ranker", ...event }));
    return this.parts.get(key);
  }

  beginPart(part, { model, role, references = [] }, at) {
    Object.assign(part, { state: "reading", began: at, model, role, references });
    if (role !== "aggregator") return;
    // A fallback's answer replaces what the aggregator before it had written.
    const failed = this.speaker;
    if (failed) this.notices.push({ text: `${failed.agent} failed, so ${part.agent} answers instead: ${failed.why}`, degrades: true });
    this.speaker = part;
    this.firstToken = null;
    this.toolCalls = [];
  }

  extendPart(part, { text = "", reasoning = "", thought = 0, tool_calls: toolCalls = [] }, at) {
    part.first ??= at;
    if (thought) {
      // The end of the text so far was reasoning. Characters count as in Python, by code point.
      const characters = [...part.text];
      part.reasoning += characters.slice(-thought).join("");
      part.text = characters.slice(0, -thought).join("");
    }
    part.text += text;
    part.reasoning += reasoning;
    part.state = part.text ? "writing" : "thinking";
    if (part !== this.speaker) return;
    if (text || toolCalls.length) this.firstToken ??= at;
    this.toolCalls.push(...toolCalls);
  }

  endPart(part, { usage, cost }, state, why) {
    Object.assign(part, { state, why, ended: this.lastEvent, usage, cost });
  }

  /** Proposals of this turn that an earlier run made: a run that continues after tool calls does not make them again. */
  restoreProposals(references, at) {
    for (const { agent, layer, text } of references) {
      const part = this.part({ agent, layer: layer ?? 1, role: "proposer" });
      if (part.state === "waiting") Object.assign(part, { state: "recalled", role: "proposer", text, began: at, first: at, ended: at });
    }
  }

  end(state, at = this.lastEvent) {
    Object.assign(this, { state, ended: at });
    for (const part of this.parts.values()) {
      if (!part.hasEnded) Object.assign(part, part.began === null ? { state: "unasked" } : { state: "stopped", ended: at });
    }
  }

  /** Calls, tokens and US dollars: from the server's record, or from the events received so far. */
  get figures() {
    if (this.record) {
      const { calls, usage, cost, cost_is_at_least: atLeast } = this.record;
      return { calls: calls.length, tokens: usage.total_tokens, dollars: cost, atLeast };
    }
    const parts = [...this.parts.values()].filter((part) => part.usage);
    const tokens = parts.reduce((sum, { usage }) => sum + usage.input_tokens + usage.output_tokens, 0);
    const priced = parts.filter((part) => part.cost && part.cost.dollars !== null);
    const sum = priced.reduce((total, part) => total + part.cost.dollars, 0);
    const atLeast = priced.length < parts.length || priced.some((part) => part.cost.at_least);
    return { calls: parts.length, tokens, dollars: parts.length && (!priced.length || (atLeast && !sum)) ? null : sum, atLeast };
  }
}
