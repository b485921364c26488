// Markdown as elements of a short list. Every text node knows where its text is in the source: that is how the page finds
// a sentence of the answer, or a passage of a proposal, which the server gives as offsets.

import { el } from "../elements.js";
import { LONGEST_PARAGRAPH } from "./blocks.js";
import { inlineAt } from "./inline.js";
import { SourceText } from "./source.js";

const DEEPEST = 6; // levels of inline elements

export class Writer {
  /** @param sentences of the source, as {start, end}, in order; their text nodes are wrapped and numbered. */
  constructor(sentences = []) {
    this.sentences = sentences;
    this.sentence = 0; // the first that may still come
    this.places = []; // {start, end, node}: source offsets of text nodes
  }

  blocks(into, blocks, tight = false) {
    for (const block of blocks) into.append(this.block(block, tight));
  }

  block(block, tight) {
    switch (block.kind) {
      case "heading": // the page's own headings are the first three levels
        return this.inline(el(`h${Math.min(block.level + 3, 6)}`, { class: `level-${block.level}`, dir: "auto" }), block.lines);
      case "code":
        return this.code(block);
      case "rule":
        return el("hr");
      case "quote": {
        const quote = el("blockquote", { dir: "auto" });
        this.blocks(quote, block.blocks);
        return quote;
      }
      case "list":
        return this.list(block);
      case "table":
        return this.table(block);
      default:
        return this.inline(tight ? document.createDocumentFragment() : el("p", { dir: "auto" }), block.lines);
    }
  }

  code(block) {
    const code = el("code");
    block.lines.forEach((line, n) => {
      if (n) code.append("\n");
      this.text(code, line.text, line.at);
    });
    const language = block.language ? { "data-language": block.language.slice(0, 20) } : {};
    return el("pre", { tabIndex: 0, ...language }, code);
  }

  list(block) {
    const list = el(block.ordered ? "ol" : "ul");
    if (block.ordered && block.start !== 1) list.start = block.start;
    for (const blocks of block.items) {
      const item = el("li", { dir: "auto" });
      this.blocks(item, blocks, blocks.length === 1 || blocks.slice(1).every((inner) => inner.kind === "list"));
      list.append(item);
    }
    return list;
  }

  table(block) {
    const row = (cells, tag) => el("tr", {}, cells.map((line, n) => {
      const cell = this.inline(el(tag, { dir: "auto" }), [line]);
      cell.style.textAlign = block.aligned[n] ?? "";
      return cell;
    }));
    const [head, ...rows] = block.rows;
    const table = el("table", {}, el("thead", {}, row(head, "th")), el("tbody", {}, rows.map((cells) => row(cells, "td"))));
    return el("div", { class: "wide", tabIndex: 0, role: "group", "aria-label": "Table" }, table);
  }

  inline(into, lines) {
    const source = new SourceText(lines);
    if (source.text.length > LONGEST_PARAGRAPH) this.text(into, source.text, source.sourceOffset(0));
    else this.spans(into, source, 0, source.text.length, 0);
    return into;
  }

  /** The inline elements of a stretch of text, and the plain text between them. */
  spans(into, source, from, to, depth) {
    let plain = from;
    let at = from;
    while (at < to) {
      const found = depth < DEEPEST ? inlineAt(source.text, at, to) : null;
      if (!found) {
        at += 1;
        continue;
      }
      this.plain(into, source, plain, at);
      const { tag, fields, start, end, next, literal } = found;
      const element = tag ? into.appendChild(el(tag, fields)) : into;
      if (literal) this.text(element, source.text.slice(start, end), source.sourceOffset(start));
      else this.spans(element, source, start, end, depth + 1);
      at = plain = next;
    }
    this.plain(into, source, plain, to);
  }

  /** Plain text, line by line: what stood before a line in the source may have been cut off there. */
  plain(into, source, from, to) {
    for (let at = from; at < to; ) {
      const next = Math.min(to, source.nextLine(at));
      this.text(into, source.text.slice(at, next), source.sourceOffset(at));
      at = next;
    }
  }

  /** Text nodes for a stretch of source, each sentence's wrapped. */
  text(into, text, at) {
    let from = 0;
    const { sentences } = this;
    while (this.sentence < sentences.length && sentences[this.sentence].end <= at) this.sentence += 1;
    for (let n = this.sentence; n < sentences.length && sentences[n].start < at + text.length; n += 1) {
      const start = Math.max(from, sentences[n].start - at);
      const end = Math.min(text.length, sentences[n].end - at);
      if (start > from) this.node(into, text.slice(from, start), at + from);
      if (end > start) {
        const span = el("span", { class: "sentence", "data-sentence": String(n) });
        this.node(span, text.slice(start, end), at + start);
        into.append(span);
        from = end;
      }
    }
    if (from < text.length) this.node(into, text.slice(from), at + from);
  }

  node(into, text, at) {
    const node = document.createTextNode(text);
    this.places.push({ start: at, end: at + text.length, node });
    into.append(node);
  }
}
