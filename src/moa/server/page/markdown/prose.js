// A Markdown text that grows while it is shown.

import { el } from "../elements.js";
import { LONGEST_PARAGRAPH, blocksOf } from "./blocks.js";
import { linesOf } from "./source.js";
import { Writer } from "./writer.js";

/** Draws a growing text: blocks that cannot change any more are drawn once, and only the last one is drawn again. */
export class Prose {
  constructor(element) {
    this.element = element;
    this.text = "";
    this.settled = 0; // source offset of the first block that may still change
    this.kept = 0; // number of children that cannot
    this.places = [];
    this.raw = null; // the text node of a paragraph that is too long to be read as Markdown
    this.nextDraw = 0; // the page's clock: a text that takes long to draw is drawn less often
  }

  /** Draw the text as it is now, unless drawing it has just taken long. */
  draw(text) {
    const began = performance.now();
    if (text === this.text || began < this.nextDraw) return;
    this.write(text);
    this.nextDraw = performance.now() + 5 * (performance.now() - began);
  }

  write(text) {
    if (!text.startsWith(this.text)) this.clear();
    this.text = text;
    if (this.raw && !this.writeRaw(text)) return;
    while (this.element.childNodes.length > this.kept) this.element.lastChild.remove();
    const blocks = blocksOf(linesOf(text.slice(this.settled), this.settled));
    const writer = new Writer();
    const last = blocks.pop();
    writer.blocks(this.element, blocks);
    this.kept = this.element.childNodes.length;
    if (!last) return;
    this.settled = last.at;
    if (last.kind === "paragraph" && text.length - last.at > LONGEST_PARAGRAPH) {
      this.raw = document.createTextNode(text.slice(last.at));
      this.element.append(el("p", { dir: "auto" }, this.raw));
      this.settled = text.length;
    } else {
      writer.blocks(this.element, [last]);
    }
  }

  /** Append to the paragraph that is shown as it is; returns whether it has ended. */
  writeRaw(text) {
    const end = text.indexOf("\n\n", this.settled);
    this.raw.appendData(text.slice(this.settled, end < 0 ? text.length : end));
    this.settled = end < 0 ? text.length : end;
    if (end < 0) return false;
    this.raw = null;
    this.kept = this.element.childNodes.length;
    return true;
  }

  clear() {
    this.element.replaceChildren();
    this.settled = this.kept = 0;
    this.raw = null;
  }

  /** Draw the whole text with its sentences marked; from then on `ranges` finds stretches of the source. */
  finish(text, sentences = []) {
    this.clear();
    this.text = text;
    const writer = new Writer(sentences);
    writer.blocks(this.element, blocksOf(linesOf(text)));
    this.places = writer.places;
    this.kept = this.element.childNodes.length;
  }

  /** Ranges of the document that show this stretch of the source. */
  ranges(start, end) {
    const ranges = [];
    for (const place of this.places) {
      if (place.end <= start || place.start >= end) continue;
      const range = document.createRange();
      range.setStart(place.node, Math.max(0, start - place.start));
      range.setEnd(place.node, Math.min(place.end, end) - place.start);
      ranges.push(range);
    }
    return ranges;
  }
}
