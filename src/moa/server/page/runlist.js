// The list of runs: found by their text, opened, ticked to be compared.

import { comparisonAddress, navigate, runAddress } from "./addresses.js";
import { byId, el, put } from "./elements.js";
import { ago, money, seconds } from "./figures.js";
import { server } from "./server.js";

const PAGE = 40; // runs that are loaded at a time
const LONGEST = 200; // runs that are loaded again in one request
const SIGNS = { answered: "✓", degraded: "!", failed: "✗", stopped: "■", running: "…", "broken off": "■" };

export const runList = {
  ticked: new Set(), // run IDs
  next: null, // where the server continues the list
  loads: 0,

  /** Load the list anew, as long as it was; or `more` of it. */
  async load({ more = false } = {}) {
    if (byId("runs").hidden) return;
    const load = ++this.loads;
    const list = byId("run-list");
    const limit = more ? PAGE : Math.min(LONGEST, Math.max(PAGE, list.childElementCount));
    const query = new URLSearchParams({ limit: String(limit), search: byId("search").value.trim() });
    if (more && this.next) query.set("before", this.next);
    try {
      const found = await server.json(`/runs?${query}`);
      if (load === this.loads) this.draw(found, more); // else a later load has begun
    } catch (error) {
      put(byId("runs-note"), error.message);
    }
  },

  draw({ runs, next, kept }, more) {
    this.next = next;
    const list = byId("run-list");
    const items = runs.map((run) => this.item(run));
    const focused = list.contains(document.activeElement) ? document.activeElement : null;
    if (more) list.append(...items);
    else list.replaceChildren(...items);
    if (focused && !focused.isConnected) {
      list.querySelector(`[data-run="${focused.closest("li").dataset.run}"] ${focused.localName}`)?.focus();
    }
    byId("more").hidden = !next;
    const note = kept ? "" : "This server does not save runs: it forgets these when it stops.";
    put(byId("runs-note"), runs.length || more ? note : byId("search").value ? "Nothing found." : `No runs yet. ${note}`);
    this.drawCompare();
  },

  item(run) {
    const cost = run.cost === null ? "" : money(run.cost, run.cost_is_at_least);
    const figures = [run.model.replace(/^moa\//, ""), ago(run.started), seconds(run.duration), cost, run.rating && `rated ${run.rating}`];
    const tick = el("input", { type: "checkbox", checked: this.ticked.has(run.run), "aria-label": `Compare: ${run.question || run.model}`,
      onchange: ({ target }) => {
        if (target.checked) this.ticked.add(run.run);
        else this.ticked.delete(run.run);
        this.drawCompare();
      } });
    return el("li", { "data-outcome": run.outcome, "data-run": run.run },
      el("label", { class: "tick" }, tick),
      el("a", { href: runAddress(run.run), "aria-current": location.hash.includes(run.run) ? "page" : undefined },
        el("span", { class: "excerpt" }, run.question || "(no text)"),
        el("span", { class: "meta" },
          el("span", { class: "mark", title: run.outcome }, SIGNS[run.outcome] ?? "?"), ` ${figures.filter(Boolean).join(" · ")}`)));
  },

  drawCompare() {
    const canCompare = this.ticked.size === 2;
    byId("compare").disabled = !canCompare;
    byId("compare").title = canCompare ? "" : "Select two runs to compare";
  },

  compare() {
    navigate(comparisonAddress([...this.ticked]));
    this.ticked.clear();
  },

  open(isOpen) {
    byId("runs").hidden = !isOpen;
    byId("toggle-runs").setAttribute("aria-expanded", String(isOpen));
    document.body.classList.toggle("with-runs", isOpen);
    if (isOpen) this.load();
  },

  listen() {
    let timer = 0;
    byId("toggle-runs").addEventListener("click", () => this.open(byId("runs").hidden));
    byId("search").addEventListener("input", () => {
      clearTimeout(timer);
      timer = setTimeout(() => this.load(), 150);
    });
    byId("more").addEventListener("click", () => this.load({ more: true }));
    byId("compare").addEventListener("click", () => this.compare());
    byId("run-list").addEventListener("click", (event) => {
      if (event.target.closest("a") && matchMedia("(max-width: 900px)").matches) this.open(false);
    });
  },
};
