// Thumbs up and down for the answer of a run, and a note on why.

import { announce, attempt, button } from "./actions.js";
import { el, svg } from "./elements.js";
import { runList } from "./runlist.js";
import { server } from "./server.js";

const LONGEST_NOTE = 4000; // characters that the server keeps
const THUMB = "M2.5 9.5h3.5v8.5h-3.5zM6 10.5l3.6-7.2c1.4 0 2.2 1 2 2.4l-.5 3.3h5.4a1.6 1.6 0 0 1 1.6 2l-1.3 5.6a1.8 1.8 0 0 1-1.8 1.4h-9";
const NAMES = { up: "Good answer", down: "Bad answer" };

/** The rating of a run, from its record on; every change is saved at once. */
export class Rating {
  constructor(run) {
    Object.assign(this, { run, rating: run.record.rating?.rating ?? null });
    this.thumbs = Object.entries(NAMES).map(([rating, name]) => {
      const drawn = svg("svg", { viewBox: "0 0 21 21", "aria-hidden": "true" });
      drawn.append(svg("path", { d: THUMB }));
      return button(drawn, () => this.toggle(rating), { class: "quiet thumb", title: name, "aria-label": name, "data-rating": rating });
    });
    this.note = el("input", { class: "note-field", type: "text", maxLength: LONGEST_NOTE, value: run.record.rating?.note ?? "",
      "aria-label": "Note on the rating", onchange: () => attempt(() => this.save("Note saved.")) });
    this.element = el("div", { class: "rating", role: "group", "aria-label": "Rate the answer" }, this.thumbs, this.note);
    this.draw();
  }

  /** Rate; the thumb that is pressed already removes the rating. */
  async toggle(rating) {
    const before = this.rating;
    this.rating = before === rating ? null : rating;
    try {
      await this.save(this.rating ? `Rated: ${NAMES[rating]}.` : "Rating removed.");
    } catch (error) {
      this.rating = before;
      throw error;
    }
  }

  async save(message) {
    await server.json(`/runs/${this.run.id}/rating`, { method: "POST", body: { rating: this.rating, note: this.note.value.trim() } });
    this.draw();
    announce(message);
    runList.load();
  }

  draw() {
    for (const thumb of this.thumbs) thumb.setAttribute("aria-pressed", String(thumb.dataset.rating === this.rating));
    this.note.hidden = this.rating === null;
    this.note.placeholder = this.rating === "down" ? "What is wrong?" : "Why? (optional)";
  }
}
