// The form that changes a mixture: its layers, agents, aggregator and schedule.

import { button } from "./actions.js";
import { catalogue } from "./catalogue.js";
import { el } from "./elements.js";

const AGGREGATES = {
  synthesize: "written from the proposals",
  select: "the proposal that it picks",
  central: "the proposal most like the others",
};
const SCHEDULES = {
  barrier: "barrier: layer after layer",
  quorum: "quorum: skips stragglers",
  staircase: "staircase: chunk by chunk",
};

export class MixtureForm {
  /**
   * @param actions what the buttons do: changed({ shape }), undo(), runAgain(), saveAsToml(). `shape`: whether agents, layers or
   *   fields were added or removed; only then is the form drawn again, since that loses a click in progress.
   */
  constructor(element, actions) {
    Object.assign(this, { element, actions });
  }

  /** Draw a draft's fields; the focus stays where it was, or goes to what took that place. */
  draw(draft) {
    this.draft = draft;
    const { aggregator, aggregate, layers } = draft.fields;
    const focused = this.element.contains(document.activeElement) ? document.activeElement.dataset : null;
    const last = el("fieldset", { class: "edit-layer" }, el("legend", {}, "Aggregator"),
      aggregator ? this.agent(aggregator, "aggregator") : el("p", { class: "note" }, "none: the proposal most like the others is the answer"),
      this.choice("Answer", aggregate, AGGREGATES, (way) => draft.setAggregate(way, catalogue.models)),
      this.schedule());
    this.element.replaceChildren(
      el("div", { class: "edit-layers" }, layers.map((layer, n) => this.layer(layer, n)), last),
      this.buttons(),
      el("datalist", { id: "models" }, catalogue.models.map((model) => el("option", { value: model }))));
    const find = (field) => this.element.querySelector(`[data-field="${CSS.escape(field)}"]:not(:disabled)`);
    if (focused?.field) (find(focused.field) ?? find(focused.else ?? ""))?.focus();
  }

  /** A field or button of the form by its name; null while the form is not drawn. */
  find(field) {
    return this.element.querySelector(`[data-field="${field}"]`);
  }

  /** Change the draft's shape. */
  edit(change) {
    change();
    this.actions.changed({ shape: true });
  }

  buttons() {
    const { draft, actions } = this;
    const { layers } = draft.fields;
    return el("div", { class: "row" },
      button("Add layer", () => this.edit(() => layers.push([draft.agentLike(layers.at(-1)?.[0], catalogue.models)])),
        { class: "quiet", "data-field": "add layer" }),
      el("span", { class: "gap" }),
      button("Run again and compare", () => actions.runAgain(), { "data-field": "again" }),
      button("Save as TOML", () => actions.saveAsToml(), { class: "quiet", "data-field": "save" }),
      button("Undo changes", () => actions.undo(),
        { class: "quiet", disabled: !draft.isChanged, "data-field": "undo", "data-else": "add layer" }));
  }

  layer(agents, n) {
    const { draft } = this;
    const { layers } = draft.fields;
    const add = `add agent ${n}`;
    return el("fieldset", { class: "edit-layer" }, el("legend", {}, `Layer ${n + 1}`),
      agents.map((agent, place) => this.agent(agent, `layer ${n + 1}, agent ${place + 1}`, () => agents.splice(place, 1), add)),
      el("div", { class: "row" },
        button("Add agent", () => this.edit(() => agents.push(draft.agentLike(agents.at(-1), catalogue.models))),
          { class: "quiet", "data-field": add }),
        button("Remove layer", () => this.edit(() => layers.splice(n, 1)),
          { class: "quiet", "data-field": `remove layer ${n}`, "data-else": "add layer" })));
  }

  /** Fields of one agent; `focusAfter` names the field that takes the focus when the last agent is removed. */
  agent(agent, place, remove = null, focusAfter = "") {
    const field = (label, name, fields, read) => el("label", { class: name },
      el("span", {}, name === "model" && agent.name ? `${agent.name}: ${label.toLowerCase()}` : label),
      el("input", { ...fields, value: agent[name] ?? "", "aria-label": `${label} of ${place}`, "data-field": `${name} of ${place}`,
        onchange: this.typed((text) => {
          if (text) agent[name] = read(text);
          else delete agent[name];
        }) }));
    const switchOff = () => el("input", { type: "checkbox", checked: !agent.off, "aria-label": `Call ${place}`, "data-field": `call ${place}`,
      onchange: ({ target }) => this.edit(() => (agent.off = target.checked ? undefined : true)) });
    return el("div", { class: `edit-agent${agent.off ? " off" : ""}` },
      remove && el("label", { class: "on" }, switchOff()),
      field("Model", "model", { type: "text", autocomplete: "off", spellcheck: false, list: "models", placeholder: "provider/model" }, String),
      field("Temperature", "temperature", { type: "number", min: 0, max: 2, step: "any", placeholder: "default" }, Number),
      field("Max tokens", "max_tokens", { type: "number", min: 1, step: 1, placeholder: "no limit" }, Number),
      remove && button("✕", () => this.edit(remove),
        { class: "quiet tiny", "aria-label": `Remove ${place}`, "data-field": `remove ${place}`, "data-else": focusAfter }));
  }

  /** A listener for typed values: an invalid one is marked, the browser says why, and the draft stays as it is. */
  typed(write) {
    return ({ target }) => {
      const valid = target.reportValidity();
      target.setAttribute("aria-invalid", String(!valid));
      if (!valid) return;
      write(target.value.trim());
      this.actions.changed({ shape: false });
    };
  }

  choice(label, value, options, write) {
    return el("label", { class: "choice" }, el("span", {}, label),
      el("select", { "data-field": label, onchange: ({ target }) => this.edit(() => write(target.value)) },
        Object.entries(options).map(([name, words]) => el("option", { value: name, selected: name === value }, words))));
  }

  figure(label, value, fields, write) {
    return el("label", { class: "choice" }, el("span", {}, label),
      el("input", { ...fields, value, "data-field": label, onchange: this.typed(write) }));
  }

  schedule() {
    const { draft } = this;
    const { schedule } = draft.fields;
    const count = { type: "number", min: 1, step: 1, required: true };
    const counts = { type: "text", pattern: "[\\d ,]*", placeholder: "32, 128, 384" };
    const details = {
      quorum: () => this.figure("Proposals to wait for", schedule.usable, count, (text) => (schedule.usable = Number(text))),
      staircase: () => this.figure("Tokens read at a time", (schedule.chunks ?? []).join(", "), counts, (text) => draft.setChunks(text)),
    };
    const kind = schedule?.kind ?? "barrier";
    return [this.choice("Schedule", kind, SCHEDULES, (chosen) => draft.setSchedule(chosen)), details[kind]?.()];
  }
}
