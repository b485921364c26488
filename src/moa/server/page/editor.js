// The choice of a mixture or model: one of the list, or a mixture changed here.

import { button, copyButton, download } from "./actions.js";
import { catalogue } from "./catalogue.js";
import { openSheet } from "./dialogs.js";
import { Draft } from "./draft.js";
import { byId, el, put } from "./elements.js";
import { MixtureForm } from "./form.js";
import { server } from "./server.js";

class Editor {
  constructor() {
    this.draft = new Draft("", {});
    this.given = null; // the table that came with a run, if the server has no mixture of its name
    this.form = new MixtureForm(byId("editor"), {
      changed: ({ shape }) => this.draw({ shape }),
      undo: () => this.choose(this.draft.name, this.given),
      runAgain: () => this.onRunAgain(),
      saveAsToml: () => this.saveAsToml(),
    });
    this.canRunAgain = false;
    // Hooks, set by page.js.
    this.onChange = () => {};
    this.onRunAgain = async () => {};
  }

  /** Load the catalogue into the list, unless it is loaded, and choose the server's default. */
  async load() {
    if (catalogue.isLoaded) return;
    await catalogue.load();
    const { mixtures, models } = catalogue;
    const option = ({ name, why_not: why }) => el("option", { value: `moa/${name}`, disabled: Boolean(why), title: why ?? "" }, `moa/${name}`);
    const groups = {
      Mixtures: mixtures.filter((each) => each.available !== false).map(option),
      "Single models": models.map((name) => el("option", { value: name }, name)),
      "Not set up here": mixtures.filter((each) => each.available === false).map(option),
    };
    for (const [label, options] of Object.entries(groups)) {
      if (options.length) byId("mixture").append(el("optgroup", { label }, options));
    }
    this.choose(`moa/${catalogue.default}`);
  }

  /** The fields of a request that name the mixture or model. */
  get selection() {
    const { draft } = this;
    if (!draft.isChanged && !this.given) return { model: draft.name };
    return { mixture: { ...draft.table(), name: draft.tableName } };
  }

  /** Choose by name; `table` is a run's own, for a mixture that the server may not have. */
  choose(name, table = null) {
    const known = catalogue.mixture(name);
    this.given = known || catalogue.models.includes(name) ? null : table;
    this.draft = new Draft(name, this.given ?? known?.table ?? { layers: [], aggregator: { model: name } });
    this.draw({ shape: true });
  }

  /** Show what is chosen; with `shape`, draw the form anew. */
  draw({ shape }) {
    const { draft } = this;
    const list = byId("mixture");
    for (const option of [...list.querySelectorAll("option.changed")]) option.remove();
    const isListed = [...list.options].some((option) => option.value === draft.name);
    if (draft.isChanged || !isListed) {
      list.prepend(el("option", { class: "changed", value: "", selected: true }, draft.isChanged ? `${draft.name}, changed` : draft.name));
      list.value = "";
    } else {
      list.value = draft.name;
    }
    const known = catalogue.mixture(draft.name);
    const places = known?.text_goes_to?.length && !draft.isChanged ? `Text goes to: ${known.text_goes_to.join(", ")}.` : "";
    put(byId("about"), known?.why_not ?? [known?.description, places].filter(Boolean).join(" · "));
    if (shape && !byId("editor").hidden) this.drawForm();
    const undo = this.form.find("undo");
    if (undo) undo.disabled = !draft.isChanged;
    this.onChange();
  }

  drawForm() {
    this.form.draw(this.draft);
    this.offerRunAgain(this.canRunAgain);
  }

  /** Show or hide the form's button to run again: without a finished run there is nothing to run again. */
  offerRunAgain(isPossible) {
    this.canRunAgain = isPossible;
    const again = this.form.find("again");
    if (again) again.hidden = !isPossible;
  }

  /** Open or close the form. */
  toggle() {
    const isOpen = !byId("editor").hidden;
    byId("editor").hidden = isOpen;
    byId("change").setAttribute("aria-expanded", String(!isOpen));
    if (!isOpen) this.drawForm();
  }

  /** Open the sheet with the draft as a table of moa.toml, under a name that can be changed. */
  async saveAsToml() {
    const name = el("input", { type: "text", value: this.draft.tableName, id: "toml-name", autocomplete: "off" });
    const text = el("pre", { tabIndex: 0, "aria-label": "TOML" });
    const problem = el("p", { class: "problem", role: "alert", hidden: true });
    const actions = [
      copyButton("Copy", () => text.textContent),
      button("Download", () => download(`${name.value.trim()}.toml`, text.textContent, "application/toml")),
    ];
    const write = async () => {
      const typed = name.value;
      const options = { method: "POST", body: { name: typed.trim(), mixture: this.draft.table() } };
      const { toml = "", message = "" } = await server.json("/mixtures/toml", options).catch((error) => error);
      if (name.value !== typed) return; // the name has changed since, and its own response follows
      put(text, toml);
      put(problem, message);
      problem.hidden = !message;
      for (const action of actions) action.disabled = !toml;
    };
    name.addEventListener("input", write);
    await write();
    openSheet("Save as TOML",
      [el("label", { htmlFor: "toml-name" }, "Name"), name, problem, text,
        el("p", { class: "note" }, "Add this to moa.toml, and restart the server.")],
      actions);
  }
}

export const editor = new Editor();
