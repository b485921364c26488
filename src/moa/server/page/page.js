// The page: asks, draws each run from its events while they come, and shows what the answer resembles.
//
// Notable decisions:
// - Text from models and people only ever becomes text nodes. Nothing here builds HTML from a string, and the page's
//   Content-Security-Policy forbids it (Trusted Types without a policy).
// - A run is a fold of the server's event stream (GET /runs/ID/events), so a reload or a second window draws the same thing,
//   and a server that went away is asked again for what comes behind the last event, until it is back.
// - Markdown is read into elements of a short list, with every text node knowing where it stands in the source: that is how
//   a sentence of the answer and a passage of a proposal, which the server gives as offsets, are found again.

// -- elements ---------------------------------------------------------------------------------------------------------

const byId = (id) => document.getElementById(id);

/** An element. `fields` are properties; `class`, `data-…`, `aria-…` and `role` attributes; `on…` listeners. */
function el(tag, fields = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(fields)) {
    if (value === undefined || value === null) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name === "class") made.className = value;
    else if (name === "role" || name === "list" || name.includes("-")) made.setAttribute(name, value);
    else made[name] = value;
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

function drawn(tag, fields) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(fields)) made.setAttribute(name, value);
  return made;
}

/** A button. What it does may take a while and may be refused; pressed again meanwhile, it does nothing. */
function button(label, work, fields = {}) {
  let busy = false;
  const onclick = async () => {
    if (busy) return;
    busy = true;
    await attempt(work).finally(() => (busy = false));
  };
  return el("button", { type: "button", onclick, ...fields }, label);
}

/** Set text only where it differs, so that nothing is laid out or announced for nothing. */
function put(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Say it to who hears the page. */
function say(text) {
  put(byId("status"), text);
}

/** Say what went wrong, beside the question; nothing takes it away. */
function tell(text) {
  put(byId("problem"), text);
  byId("problem").hidden = !text;
}

/** Do something that may be refused, and say so where people look. */
async function attempt(work) {
  tell("");
  try {
    return await work();
  } catch (error) {
    if (error instanceof Refused) tell(error.message);
    else if (error.name !== "AbortError") throw error; // a mistake of the page's own
  }
}

// -- figures ----------------------------------------------------------------------------------------------------------

const counted = new Intl.NumberFormat("en");
const small = new Intl.NumberFormat("en", { maximumSignificantDigits: 2 });
const percent = (share) => (share > 0 && share < 0.005 ? "under 1 %" : `${Math.round(share * 100)} %`);
const plural = (count, word) => `${counted.format(count)} ${word}${count === 1 ? "" : "s"}`;

function seconds(value) {
  if (value === null || value === undefined) return "";
  if (value < 9.95) return `${value.toFixed(1)} s`;
  const whole = Math.round(value);
  if (whole < 120) return `${whole} s`;
  return `${Math.floor(whole / 60)} min${whole % 60 ? ` ${whole % 60} s` : ""}`;
}

function money(dollars, atLeast = false) {
  if (dollars === null || dollars === undefined) return "cost unknown";
  return `${atLeast ? "at least " : ""}$${dollars >= 0.001 ? dollars.toFixed(4) : small.format(dollars)}`;
}

function ago(time) {
  const age = Date.now() / 1000 - time;
  if (age < 60) return "just now";
  if (age < 3600) return `${Math.floor(age / 60)} min ago`;
  if (age < 86400) return `${Math.floor(age / 3600)} h ago`;
  return new Date(time * 1000).toLocaleDateString(undefined, { dateStyle: "medium" });
}

/** The text of a message: its string, or its text parts. */
function textOf(message) {
  const content = message.content ?? "";
  if (typeof content === "string") return content;
  return content.map((part) => (part.type === "text" ? part.text : `[${part.type}]`)).join("\n");
}

// -- the server -------------------------------------------------------------------------------------------------------

/** The server said no, with this status; 0 where there was no server to say anything. */
class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }

  get passes() {
    return this.status === 0 || this.status >= 500;
  }
}

const server = {
  key: "",

  async ask(path, { method = "GET", body, signal, headers = {} } = {}) {
    for (;;) {
      const sent = { ...headers };
      if (this.key) sent.authorization = `Bearer ${this.key}`;
      if (body !== undefined) sent["content-type"] = "application/json";
      const response = await fetch(`.${path}`, { method, headers: sent, body: body && JSON.stringify(body), signal }).catch((error) => {
        throw error.name === "AbortError" ? error : new Refused(0, "The server cannot be reached.");
      });
      if (response.ok) return response;
      if (response.status === 401 && (await askForKey())) continue;
      let message = `${response.status} ${response.statusText}`;
      try {
        const { error } = await response.json();
        message = [error.message, ...(error.causes ?? [])].join("\n");
      } catch {
        // Something between here and the server answered, in its own words.
      }
      throw new Refused(response.status, message);
    }
  },

  async json(path, how) {
    const response = await this.ask(path, how);
    return response.status === 204 ? null : response.json();
  },

  /** Ask until there is an answer: a server that went away comes back. */
  async patiently(path, how = {}) {
    let told = "";
    for (let pause = 300; ; pause = Math.min(pause * 2, 5000)) {
      try {
        const response = await this.ask(path, how);
        if (told && byId("problem").textContent === told) tell("");
        return response;
      } catch (error) {
        if (!error.passes) throw error;
        told = `${error.message} Trying again.`;
        tell(told);
      }
      await passed(pause);
      how.signal?.throwIfAborted();
    }
  },
};

const passed = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

let keyAsked = null;
function askForKey() {
  keyAsked ??= new Promise((resolve) => {
    const dialog = byId("key");
    byId("key-value").value = "";
    dialog.returnValue = "";
    dialog.addEventListener("close", () => {
      server.key = dialog.returnValue === "use" ? byId("key-value").value.trim() : "";
      byId("key-value").value = "";
      keyAsked = null;
      resolve(Boolean(server.key));
    }, { once: true });
    dialog.showModal();
  });
  return keyAsked;
}

const DEAF = 45_000; // milliseconds of silence: a server that is there says something three times as often

/** The events of a run, from its start, over as many connections as it takes. Ends with the run's last event. */
async function* eventsOf(id, signal) {
  for (let last = 0; ; ) {
    const headers = last ? { "last-event-id": String(last) } : {};
    const response = await server.patiently(`/runs/${id}/events`, { signal, headers });
    if (response.status === 204) return; // it is over, and there is no more than what came
    for await (const [number, event] of numbered(response, signal)) {
      last = number;
      yield event;
      if (event.event === "run_finished" || event.event === "run_failed" || event.event === "run_stopped") return;
    }
    await passed(300); // the connection broke: go on after the last event that came
    signal.throwIfAborted();
  }
}

/** The events of one connection with their numbers, until it ends, breaks or falls silent. */
async function* numbered(response, signal) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let alarm = 0;
  try {
    for (let rest = ""; ; ) {
      clearTimeout(alarm);
      alarm = setTimeout(() => reader.cancel().catch(() => {}), DEAF);
      const { value, done } = await reader.read().catch(() => ({ done: true }));
      signal.throwIfAborted();
      if (done) return;
      const parts = (rest + value).split("\n\n");
      rest = parts.pop();
      for (const part of parts) {
        const found = /^id: (\d+)\ndata: ([^]*)$/.exec(part); // all else says only that somebody is there
        if (found) yield [Number(found[1]), JSON.parse(found[2])];
      }
    }
  } finally {
    clearTimeout(alarm);
  }
}

// -- Markdown ---------------------------------------------------------------------------------------------------------

const LONGEST = 20_000; // characters of a paragraph beyond which it is shown as it is: nobody wrote that as Markdown

/** Lines of a source, each with the offset where it begins. */
function linesOf(text, from = 0) {
  const lines = [];
  for (let at = 0; at <= text.length; ) {
    let end = text.indexOf("\n", at);
    if (end < 0) end = text.length;
    lines.push({ text: text.slice(at, text[end - 1] === "\r" ? Math.max(at, end - 1) : end), at: from + at });
    at = end + 1;
  }
  return lines;
}

const ITEM = /^ {0,3}([-*+]|\d{1,9}[.)])([ \t]+|$)/;
const FENCE = /^( {0,3})(`{3,}(?=[^`]*$)|~{3,})\s*([^\s`]*)/;
const HEADING = /^ {0,3}(#{1,6})(?:[ \t]+|$)(.*?)(?:[ \t]+#+)?[ \t]*$/s;
const RULE = /^ {0,3}(?:(?:-[ \t]*){3,}|(?:\*[ \t]*){3,}|(?:_[ \t]*){3,})$/;
const QUOTE = /^ {0,3}> ?/;
const ROW_RULE = /^ {0,3}\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*$/;
const headingOf = (text) => (text.length < 2000 ? HEADING.exec(text) : null);
const isRule = (text) => text.length < 2000 && RULE.test(text);
const cut = (line, count) => ({ text: line.text.slice(count), at: line.at + count });
const isRowRule = (text) => text.length < 2000 && text.includes("-") && ROW_RULE.test(text);
const opensBlock = (text) => FENCE.test(text) || headingOf(text) || isRule(text) || ITEM.test(text);
const opensTable = (lines, n) => lines[n].text.includes("|") && isRowRule(lines[n + 1]?.text ?? "");
const blank = (line) => !line.text.trim();

// TeX is left as it is: nothing here can set it, and as Markdown it loses its backslashes and stars.
const FORMULA = /\\\(.+?\\\)|\\\[.+?\\\]|\$\$.+?\$\$|\$(?![\s$])(?:[^$\n]*[^\s$\\])?\$(?!\d)/sy;
const FORMULA_ENDS = { "\\[": "\\]", $$: "$$" };

/** The columns of white space that a text begins with, a tab up to the next fourth; `most` of them, and how many characters. */
function indentOf(text, most = Number.POSITIVE_INFINITY) {
  let [columns, characters] = [0, 0];
  for (; columns < most && (text[characters] === " " || text[characters] === "\t"); characters += 1) {
    columns += text[characters] === "\t" ? 4 - (columns % 4) : 1;
  }
  return { columns, characters };
}

/** The line without so many columns of white space at its beginning. */
const outdented = (line, columns) => cut(line, indentOf(line.text, columns).characters);

/** The line at which a formula ends that begins at this one; -1 where none does. */
function endOfFormula(lines, from) {
  const begin = lines[from].text.trimStart();
  const end = FORMULA_ENDS[begin.slice(0, 2)];
  if (!end) return -1;
  for (let n = from; n < Math.min(lines.length, from + 50) && !blank(lines[n]); n += 1) {
    if ((n === from ? begin.slice(2) : lines[n].text).trimEnd().endsWith(end)) return n;
  }
  return -1;
}

/** The blocks that lines make. Each has `kind`, `at`, and what it holds. */
function blocksOf(lines, depth = 0) {
  const blocks = [];
  let n = 0;
  while (n < lines.length) {
    const line = lines[n];
    let found;
    if (blank(line)) {
      n += 1;
    } else if ((found = FENCE.exec(line.text))) {
      const [, indent, fence, language] = found;
      const inside = [];
      const closing = new RegExp(`^ {0,3}${fence[0]}{${fence.length},}\\s*$`);
      for (n += 1; n < lines.length && !closing.test(lines[n].text); n += 1) inside.push(outdented(lines[n], indent.length));
      blocks.push({ kind: "code", at: line.at, language, lines: inside });
      n += 1;
    } else if (endOfFormula(lines, n) >= 0) {
      const end = endOfFormula(lines, n) + 1;
      blocks.push({ kind: "code", at: line.at, language: "TeX", lines: lines.slice(n, end) });
      n = end;
    } else if ((found = headingOf(line.text))) {
      const start = found[2] ? line.text.indexOf(found[2], found[1].length) : line.text.length;
      const text = { text: found[2], at: line.at + start };
      blocks.push({ kind: "heading", at: line.at, level: found[1].length, lines: [text] });
      n += 1;
    } else if (isRule(line.text)) {
      blocks.push({ kind: "rule", at: line.at });
      n += 1;
    } else if (QUOTE.test(line.text) && depth < 8) {
      const inside = [];
      for (; n < lines.length && QUOTE.test(lines[n].text); n += 1) {
        inside.push(cut(lines[n], QUOTE.exec(lines[n].text)[0].length));
      }
      blocks.push({ kind: "quote", at: line.at, blocks: blocksOf(inside, depth + 1) });
    } else if (ITEM.test(line.text) && depth < 8) {
      const start = Number.parseInt(ITEM.exec(line.text)[1], 10); // of a bullet it is none
      const list = { kind: "list", at: line.at, ordered: start >= 0, start, items: [] };
      n = itemsOf(lines, n, list, depth);
      blocks.push(list);
    } else if (opensTable(lines, n)) {
      const rows = [cellsOf(line)];
      const aligned = cellsOf(lines[n + 1]).map(({ text }) => (!text.endsWith(":") ? "" : text.startsWith(":") ? "center" : "end"));
      for (n += 2; n < lines.length && !blank(lines[n]) && lines[n].text.includes("|"); n += 1) rows.push(cellsOf(lines[n]));
      blocks.push({ kind: "table", at: line.at, rows, aligned });
    } else {
      const inside = [];
      for (; n < lines.length && !blank(lines[n]); n += 1) {
        const { text } = lines[n];
        if (inside.length && (opensBlock(text) || QUOTE.test(text) || opensTable(lines, n) || endOfFormula(lines, n) >= 0)) break;
        inside.push(lines[n]);
      }
      blocks.push({ kind: "paragraph", at: line.at, lines: inside });
    }
  }
  return blocks;
}

function itemsOf(lines, from, list, depth) {
  let n = from;
  while (n < lines.length) {
    const found = ITEM.exec(lines[n].text);
    if (!found || /\d/.test(found[1]) !== list.ordered || isRule(lines[n].text)) break;
    const indent = indentOf(found[0].replace(/[^\t]/g, " ")).columns;
    const inside = [cut(lines[n], found[0].length)];
    for (n += 1; n < lines.length; n += 1) {
      const { text } = lines[n];
      if (blank(lines[n])) {
        const next = lines.slice(n + 1, n + 4).find((line) => !blank(line));
        if (!next || indentOf(next.text).columns < 2) break;
        inside.push(lines[n]);
      } else if (indentOf(text).columns >= 2) {
        inside.push(outdented(lines[n], indent));
      } else if (opensBlock(text) || blank(lines[n - 1])) {
        break;
      } else {
        inside.push(lines[n]);
      }
    }
    while (n < lines.length && blank(lines[n]) && lines[n + 1] && (ITEM.test(lines[n + 1].text) || blank(lines[n + 1]))) n += 1;
    list.items.push(blocksOf(inside, depth + 1));
  }
  return n;
}

function cellsOf(line) {
  const cells = [];
  let from = 0;
  for (let at = 0; at <= line.text.length; at += 1) {
    if (at < line.text.length && (line.text[at] !== "|" || line.text[at - 1] === "\\")) continue;
    const raw = line.text.slice(from, at);
    const start = from + (raw.length - raw.trimStart().length);
    cells.push({ text: raw.trim(), at: line.at + start });
    from = at + 1;
  }
  if (cells.length > 1 && !cells[0].text) cells.shift();
  if (cells.length > 1 && !cells.at(-1).text) cells.pop();
  return cells;
}

/** Puts Markdown into elements, and notes for every text node where in the source its text stands. */
class Writer {
  /** @param marks sentences of the source, as {start, end}, in order; their text nodes are wrapped and numbered. */
  constructor(marks = []) {
    this.marks = marks;
    this.mark = 0;
    this.places = []; // {start, end, node}: source offsets of text nodes
  }

  blocks(into, blocks, tight = false) {
    for (const block of blocks) into.append(...this.block(block, tight));
  }

  block(block, tight) {
    switch (block.kind) {
      case "heading": {
        // The page's own headings are the first three levels.
        return [this.inline(el(`h${Math.min(block.level + 3, 6)}`, { class: `level-${block.level}`, dir: "auto" }), block.lines)];
      }
      case "code": {
        const code = el("code");
        block.lines.forEach((line, n) => {
          if (n) code.append("\n");
          this.text(code, line.text, line.at);
        });
        const language = block.language ? { "data-language": block.language.slice(0, 20) } : {};
        return [el("pre", { tabIndex: 0, ...language }, code)];
      }
      case "rule":
        return [el("hr")];
      case "quote": {
        const quote = el("blockquote", { dir: "auto" });
        this.blocks(quote, block.blocks);
        return [quote];
      }
      case "list": {
        const list = el(block.ordered ? "ol" : "ul");
        if (block.ordered && block.start !== 1) list.start = block.start;
        for (const item of block.items) {
          const made = el("li", { dir: "auto" });
          this.blocks(made, item, item.length === 1 || item.slice(1).every((inner) => inner.kind === "list"));
          list.append(made);
        }
        return [list];
      }
      case "table": {
        const [head, ...rows] = block.rows;
        const row = (cells, tag) => el("tr", {}, cells.map((cell, n) => {
          const made = this.inline(el(tag, { dir: "auto" }), [cell]);
          made.style.textAlign = block.aligned[n] ?? "";
          return made;
        }));
        const table = el("table", {}, el("thead", {}, row(head, "th")), el("tbody", {}, rows.map((cells) => row(cells, "td"))));
        return [el("div", { class: "wide", tabIndex: 0, role: "group", "aria-label": "Table" }, table)];
      }
      default: {
        if (!tight) return [this.inline(el("p", { dir: "auto" }), block.lines)];
        const loose = document.createDocumentFragment();
        this.inline(loose, block.lines);
        return [loose];
      }
    }
  }

  inline(into, lines) {
    const source = new Inline(lines);
    if (source.text.length > LONGEST) this.text(into, source.text, source.at(0));
    else this.spans(into, source, 0, source.text.length, 0);
    return into;
  }

  /** The inline elements of a stretch of text. */
  spans(into, source, from, to, depth) {
    const { text } = source;
    let plain = from;
    const flush = (end) => {
      // Lines are joined in the text as they are in the source, but a line's beginning may have been cut off there.
      for (let at = plain; at < end; ) {
        const next = Math.min(end, source.nextLine(at));
        this.text(into, text.slice(at, next), source.at(at));
        at = next;
      }
    };
    let at = from;
    while (at < to) {
      const found = depth < 6 ? this.element(source, at, to) : null;
      if (!found) {
        at += 1;
        continue;
      }
      flush(at);
      const { tag, fields, start, end, next, literal } = found;
      if (literal) {
        this.text(tag ? into.appendChild(el(tag, fields)) : into, text.slice(start, end), source.at(start));
      } else {
        this.spans(into.appendChild(el(tag, fields)), source, start, end, depth + 1);
      }
      at = plain = next;
    }
    flush(to);
  }

  /** The element that begins here, or null. */
  element(source, at, to) {
    const { text } = source;
    const char = text[at];
    if ((char === "\\" || char === "$") && text[at - 1] !== "\\") {
      FORMULA.lastIndex = 0;
      const found = FORMULA.exec(text.slice(at, Math.min(to, at + 2000)));
      if (found) return { tag: "span", fields: { class: "formula" }, start: at, end: at + found[0].length, next: at + found[0].length, literal: true };
    }
    if (char === "\\" && at + 1 < to && /[!-/:-@[-`{-~\n]/.test(text[at + 1])) {
      return { start: at + 1, end: at + 2, next: at + 2, literal: true };
    }
    if (char === "<") {
      const found = /^<br ?\/?>/i.exec(text.slice(at, at + 6));
      return found && { tag: "br", start: at, end: at, next: at + found[0].length, literal: true };
    }
    if (char === "`") {
      const ticks = /^`+/.exec(text.slice(at, at + 16))[0];
      const end = text.indexOf(ticks, at + ticks.length);
      if (end < 0 || end >= to) return { start: at, end: at + ticks.length, next: at + ticks.length, literal: true };
      return { tag: "code", start: at + ticks.length, end, next: end + ticks.length, literal: true };
    }
    if (char === "*" || char === "_" || char === "~") return this.emphasis(text, at, to);
    if (char === "[" || (char === "!" && text[at + 1] === "[")) return this.link(text, at, to);
    if (char === "h" && /^https?:\/\//.test(text.slice(at, at + 8)) && !/\w/.test(text[at - 1] ?? "")) {
      let address = /^[^\s<>"'`]+/.exec(text.slice(at, Math.min(to, at + 2000)))[0];
      // What ends the sentence is no part of it, nor a bracket that was opened before it.
      for (let ends = true; ends; address = ends ? address.slice(0, -1) : address) {
        ends = /[.,;:!?\]]$/.test(address) || (address.endsWith(")") && address.split(")").length > address.split("(").length);
      }
      return { ...linkTo(address), start: at, end: at + address.length, next: at + address.length, literal: true };
    }
    return null;
  }

  emphasis(text, at, to) {
    const char = text[at];
    const run = text[at + 1] === char ? char + char : char;
    const start = at + run.length;
    if (run === "~" || start >= to || /\s/.test(text[start])) return null;
    if (char === "_" && /\w/.test(text[at - 1] ?? "")) return null;
    let tries = 100; // and no more, or a text of nothing but asterisks takes minutes
    for (let end = text.indexOf(run, start + 1); end > 0 && end + run.length <= to; end = text.indexOf(run, end + 1)) {
      if (!tries--) return null;
      const alone = run.length === 2 || ((end + 1 >= to || text[end + 1] !== char) && text[end - 1] !== char);
      const inWord = char === "_" && /\w/.test(text[end + run.length] ?? "");
      if (!/\s/.test(text[end - 1]) && text[end - 1] !== "\\" && alone && !inWord) {
        const tag = run === "~~" ? "del" : run.length === 2 ? "strong" : "em";
        if (run.length === 2 && text[end + 2] === char && end + 2 < to) end += 1; // of three signs the first is another's
        return { tag, start, end, next: end + run.length };
      }
    }
    return null;
  }

  link(text, at, to) {
    const open = text[at] === "!" ? at + 1 : at;
    const middle = closing(text, open, Math.min(to, open + 500), "[", "]");
    if (middle < 0 || text[middle + 1] !== "(") return null;
    const close = closing(text, middle + 1, Math.min(to, middle + 2000), "(", ")");
    if (close < 0) return null;
    const address = text.slice(middle + 2, close).trim().split(/\s/)[0].replace(/^<(.*)>$/, "$1");
    // A picture would be fetched from elsewhere, and tell them who reads this: it becomes a link.
    const made = { ...linkTo(address), next: close + 1 };
    if (middle > open + 1) return { ...made, start: open + 1, end: middle };
    const start = text.indexOf(address, middle + 2); // without words, the address is what can be read
    return { ...made, start, end: start + address.length, literal: true };
  }

  /** Text nodes for a stretch of source, wrapped where it is a sentence's. */
  text(into, text, at) {
    let from = 0;
    while (this.mark < this.marks.length && this.marks[this.mark].end <= at) this.mark += 1;
    for (let mark = this.mark; mark < this.marks.length && this.marks[mark].start < at + text.length; mark += 1) {
      const start = Math.max(from, this.marks[mark].start - at);
      const end = Math.min(text.length, this.marks[mark].end - at);
      if (start > from) this.node(into, text.slice(from, start), at + from);
      if (end > start) {
        const span = el("span", { class: "sentence", "data-sentence": String(mark) });
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

/** Where the bracket is closed that opens at `from`; -1 where that is not before `to`. */
function closing(text, from, to, opens, closes) {
  let depth = 0;
  for (let at = from; at < to; at += 1) {
    if (text[at] === "\\") at += 1;
    else if (text[at] === opens) depth += 1;
    else if (text[at] === closes && --depth === 0) return at;
  }
  return -1;
}

/** Several lines as one text that knows where each of its characters stands in the source. */
class Inline {
  constructor(lines) {
    this.text = lines.map((line) => line.text).join("\n");
    this.begins = [];
    let length = 0;
    for (const line of lines) {
      this.begins.push({ here: length, there: line.at });
      length += line.text.length + 1;
    }
  }

  line(at) {
    let low = 0;
    for (let high = this.begins.length - 1; low < high; ) {
      const middle = Math.ceil((low + high) / 2);
      if (this.begins[middle].here <= at) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  at(at) {
    const begun = this.begins[this.line(at)] ?? { here: 0, there: 0 };
    return begun.there + at - begun.here;
  }

  nextLine(at) {
    return this.begins[this.line(at) + 1]?.here ?? Number.POSITIVE_INFINITY;
  }
}

/** A link where the address is one to go to; else words that only show it. */
function linkTo(address) {
  let url = null;
  try {
    url = new URL(address);
  } catch {
    // Relative, or no address at all.
  }
  if (url && (url.protocol === "https:" || url.protocol === "http:" || url.protocol === "mailto:")) {
    return { tag: "a", fields: { href: url.href, target: "_blank", rel: "noopener noreferrer nofollow" } };
  }
  return { tag: "span", fields: { class: "no-link", title: address.slice(0, 200) } };
}

/** A text that grows: what is settled is drawn once, only its last block again. */
class Prose {
  constructor(into) {
    this.into = into;
    this.text = "";
    this.settled = 0; // source offset of the first block that may still change
    this.kept = 0; // children that will not
    this.places = [];
    this.raw = null;
    this.pause = 0; // what takes long to draw is drawn less often
  }

  draw(text) {
    const began = performance.now();
    if (text === this.text || began < this.pause) return;
    this.write(text);
    this.pause = performance.now() + 5 * (performance.now() - began);
  }

  write(text) {
    if (!text.startsWith(this.text)) this.clear();
    this.text = text;
    if (this.raw) {
      const end = text.indexOf("\n\n", this.settled);
      this.raw.appendData(text.slice(this.settled, end < 0 ? text.length : end));
      this.settled = end < 0 ? text.length : end;
      if (end < 0) return;
      this.raw = null;
      this.kept = this.into.childNodes.length;
    }
    while (this.into.childNodes.length > this.kept) this.into.lastChild.remove();
    const blocks = blocksOf(linesOf(text.slice(this.settled), this.settled));
    const writer = new Writer();
    const last = blocks.pop();
    writer.blocks(this.into, blocks);
    this.kept = this.into.childNodes.length;
    if (!last) return;
    this.settled = last.at;
    if (last.kind === "paragraph" && text.length - last.at > LONGEST) {
      this.raw = document.createTextNode(text.slice(last.at));
      this.into.append(el("p", { dir: "auto" }, this.raw));
      this.settled = text.length;
    } else {
      writer.blocks(this.into, [last]);
    }
  }

  clear() {
    this.into.replaceChildren();
    this.settled = this.kept = 0;
    this.raw = null;
  }

  /** Draw it whole, with its sentences marked; from then on text nodes can be found by their place in the source. */
  finish(text, marks = []) {
    this.clear();
    this.text = text;
    const writer = new Writer(marks);
    writer.blocks(this.into, blocksOf(linesOf(text)));
    this.places = writer.places;
    this.kept = this.into.childNodes.length;
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

/** The server counts code points, a page UTF-16 units: gives the function from one to the other. */
function unitsOf(text) {
  if (!/[\ud800-\udbff]/.test(text)) return (at) => at;
  const units = [];
  let unit = 0;
  for (const char of text) {
    units.push(unit);
    unit += char.length;
  }
  units.push(unit);
  return (at) => units[Math.min(at, units.length - 1)];
}

// -- a run ------------------------------------------------------------------------------------------------------------

const THERE = new Set(["done", "cut", "recalled"]);
const LOST = new Set(["failed", "dropped", "stopped", "unasked"]);
const SAID = {
  waiting: "waiting",
  unasked: "not asked",
  asked: "reading",
  thinking: "thinking",
  writing: "writing",
  done: "done",
  cut: "cut short",
  recalled: "kept from before",
  failed: "failed",
  dropped: "dropped",
  stopped: "stopped",
  answered: "done",
  "broken off": "broken off",
};

/** One agent's part in a run. Times are seconds from the run's start. */
class Part {
  constructor({ agent, layer, model, role }) {
    Object.assign(this, { agent, layer, model, role });
    this.key = keyOf(this);
    this.state = "waiting";
    this.text = this.reasoning = this.why = "";
    this.references = [];
    this.readAgain = [];
    this.began = this.first = this.ended = this.usage = this.cost = null;
  }

  get tokens() {
    return this.usage ? this.usage.output_tokens : Math.ceil((this.text.length + this.reasoning.length) / 4);
  }

  get over() {
    return THERE.has(this.state) || LOST.has(this.state);
  }
}

const keyOf = ({ layer, agent }) => `${layer}/${agent}`;

/** What a run has come to: a fold of its events. */
class Run {
  constructor(id) {
    this.id = id;
    this.state = "waiting"; // then running, answered, failed, stopped, broken off
    this.record = null; // the server's, once it is over
    this.parts = new Map();
    this.mixture = this.schedule = "";
    this.speaker = this.selected = this.start = this.firstToken = this.ended = null;
    this.notices = [];
    this.causes = [];
    this.error = "";
    this.toolCalls = [];
    this.last = 0; // seconds from the start to the last event
    this.heard = 0; // this page's clock when it came
  }

  get over() {
    return this.ended !== null;
  }

  /** Seconds since the start, by the server's clock as far as it is known here. */
  get now() {
    return this.over ? this.ended : this.last + (this.heard ? (performance.now() - this.heard) / 1000 : 0);
  }

  get proposers() {
    return [...this.parts.values()].filter((part) => part.role === "proposer");
  }

  get ranker() {
    return [...this.parts.values()].find((part) => part.role === "ranker" && part.began !== null) ?? null;
  }

  /** Where the answer stands: the state that colours it, and words. */
  get standing() {
    const state = this.over ? this.state : this.selected ? "done" : ((this.speaker ?? this.ranker)?.state ?? "waiting");
    const open = this.proposers.filter((part) => !part.over).length;
    if (state === "failed" && this.over) return [state, this.answer ? "broken off" : "no answer"];
    if (state === "waiting" && open && this.start !== null) return [state, `waits for ${plural(open, "proposal")}`];
    return [state, SAID[state]];
  }

  get answer() {
    return this.selected ? this.selected.text : (this.speaker?.text ?? "");
  }

  take(event) {
    if (event.event === "run_started") {
      this.start = event.at;
      this.state = "running";
      this.mixture = event.mixture;
      this.schedule = event.schedule;
      for (const seat of event.seats ?? []) this.parts.set(keyOf(seat), new Part(seat));
    }
    const at = (this.last = event.at - this.start);
    this.heard = performance.now();
    const part = event.agent === undefined ? null : this.part(event);
    switch (event.event) {
      case "agent_started":
        Object.assign(part, { state: "asked", began: at, model: event.model, role: event.role, references: event.references ?? [] });
        if (part.role === "aggregator") {
          // What a fallback says stands in place of what was said before it.
          if (this.speaker) this.notices.push({ text: `${this.speaker.agent} failed, and ${part.agent} answers: ${this.speaker.why}`, degrades: true });
          this.speaker = part;
          this.firstToken = null;
          this.toolCalls = [];
        }
        break;
      case "agent_continued":
        part.references = event.references ?? part.references;
        part.readAgain.push(at);
        break;
      case "agent_said":
        part.first ??= at;
        part.text += event.text ?? "";
        part.reasoning += event.reasoning ?? "";
        part.state = part.text ? "writing" : "thinking";
        if (part === this.speaker) {
          if (event.text || event.tool_calls) this.firstToken ??= at;
          this.toolCalls.push(...(event.tool_calls ?? []));
        }
        break;
      case "agent_finished":
        this.end(part, event, event.cut ? "cut" : "done", event.cut ?? "");
        break;
      case "agent_failed":
        this.end(part, event, "failed", event.error);
        break;
      case "agent_dropped":
        this.end(part, event, "dropped", event.reason);
        break;
      case "agent_recalled":
        Object.assign(part, { state: "recalled", text: event.text, began: at, first: at, ended: at, model: event.model });
        break;
      case "answer_began":
        if (event.recalled) this.recall(event.references ?? [], at);
        break;
      case "selected":
        this.selected = event;
        this.firstToken = at;
        break;
      case "noticed":
        this.notices.push({ text: event.message, degrades: Boolean(event.degrades) });
        break;
      case "run_finished":
        this.finish("answered", at);
        break;
      case "run_failed":
        this.error = event.error;
        this.causes = event.causes ?? [];
        this.finish("failed", at);
        break;
      case "run_stopped":
        this.finish("stopped", at);
        break;
    }
  }

  part(event) {
    const key = keyOf(event);
    if (!this.parts.has(key)) this.parts.set(key, new Part({ model: "", role: "ranker", ...event }));
    return this.parts.get(key);
  }

  /** Proposals that are the turn's, put back while its tool calls go on. */
  recall(references, at) {
    for (const { agent, layer, text } of references) {
      const part = this.part({ agent, layer: layer ?? 1, role: "proposer" });
      if (part.state === "waiting") Object.assign(part, { state: "recalled", role: "proposer", text, began: at, first: at, ended: at });
    }
  }

  end(part, event, state, why) {
    Object.assign(part, { state, why, ended: this.last, usage: event.usage, cost: event.cost });
  }

  finish(state, at) {
    this.state = state;
    this.ended = at;
    for (const part of this.parts.values()) {
      if (!part.over) Object.assign(part, part.began === null ? { state: "unasked" } : { state: "stopped", ended: at });
    }
  }

  /** What it took: as the server counts it, or as far as this page has heard. */
  get figures() {
    if (this.record) {
      const { calls, usage, cost, cost_is_at_least } = this.record;
      return { calls: calls.length, tokens: usage.total_tokens, dollars: cost, atLeast: cost_is_at_least };
    }
    const parts = [...this.parts.values()].filter((part) => part.usage);
    const usage = parts.reduce((sum, { usage }) => sum + usage.input_tokens + usage.output_tokens, 0);
    const known = parts.filter((part) => part.cost && part.cost.dollars !== null);
    const dollars = known.length ? known.reduce((sum, part) => sum + part.cost.dollars, 0) : parts.length ? null : 0;
    const short = known.length < parts.length || known.some((part) => part.cost.at_least);
    return { calls: parts.length, tokens: usage, dollars: short && !dollars ? null : dollars, atLeast: short };
  }
}

/** Colours by agent: the same name has the same one in every layer. */
class Colours {
  constructor() {
    this.names = new Map();
  }

  of(agent) {
    if (!this.names.has(agent)) this.names.set(agent, this.names.size % 8);
    return this.names.get(agent);
  }
}

// -- one run, drawn ---------------------------------------------------------------------------------------------------

/** An agent's card: fills with its text as it is written. */
class Card {
  constructor(part, colour, open) {
    this.part = part;
    this.state = el("span", { class: "state" });
    this.body = el("div", { class: "text prose", tabIndex: 0, role: "group", "aria-label": `Proposal of ${part.agent}, layer ${part.layer}` });
    this.figures = el("p", { class: "figures" });
    this.why = el("p", { class: "why", hidden: true });
    this.share = el("p", { class: "share", hidden: true });
    this.prose = new Prose(this.body);
    this.followed = true;
    this.body.addEventListener("scroll", () => {
      this.followed = this.body.scrollTop + this.body.clientHeight > this.body.scrollHeight - 12;
    }, { passive: true });
    this.element = el("article", { class: `card agent-${colour}`, "data-state": "waiting", "aria-label": `${part.agent}, layer ${part.layer}` },
      el("header", {},
        el("h4", { title: part.agent }, el("bdi", {}, part.agent)),
        this.state,
        button("⤢", () => open(this), { class: "quiet tiny", "aria-label": `Read all of ${part.agent}`, title: "Read all of it" })),
      el("p", { class: "model", title: part.model }, part.model),
      this.body, this.why, this.figures, this.share);
  }

  draw(run) {
    const { part } = this;
    if (this.element.dataset.state !== part.state) {
      this.element.dataset.state = part.state;
      put(this.state, SAID[part.state]);
    }
    this.why.hidden = !part.over || !part.why;
    put(this.why, part.why);
    const thinks = !part.text && part.reasoning;
    this.body.classList.toggle("thought", Boolean(thinks));
    if (thinks) put(this.body, part.reasoning.slice(-2000));
    else if (!this.told) this.prose.draw(part.text);
    put(this.figures, figuresOf(part, run));
  }

  /** Keep the end in view while it grows. Apart from draw(), so that the page is laid out once for all cards. */
  scroll() {
    if (this.followed && !this.part.over && this.part.text.length !== this.scrolled) this.body.scrollTop = 1e9;
    this.scrolled = this.part.text.length;
  }

  /** The run is over: the text from its beginning, its passages to be found. */
  settle() {
    if (this.told || !this.part.text) return;
    this.told = true;
    this.units = unitsOf(this.part.text);
    this.prose.finish(this.part.text);
    this.body.scrollTop = 0;
  }

  /** Where a passage begins and ends in its text. */
  span({ start, end }) {
    return this.told ? [this.units(start), this.units(end)] : [0, 0];
  }

  /** Its share of the answer; `ignored` where that is next to nothing. */
  resemble(share, ignored) {
    this.own = ignored ? "hardly anything of the answer" : `${percent(share)} of the answer`;
    this.share.classList.toggle("ignored", ignored);
    this.share.hidden = false;
    this.light(null);
  }

  /** Its share of the sentence that is pointed at; null where none is. */
  light(share) {
    this.element.classList.toggle("lit", share > 0);
    put(this.share, share === null ? (this.own ?? "") : share > 0 ? `${percent(share)} of this sentence` : "nothing of this sentence");
  }
}

function figuresOf(part, run) {
  const told = [];
  const estimated = !part.usage || part.usage.estimated;
  if (part.tokens) told.push(`${estimated ? "~" : ""}${plural(part.tokens, "token")}`);
  if (part.first !== null && part.state !== "recalled") {
    const writing = (part.ended ?? run.now) - part.first;
    if (writing > 0.2 && part.tokens > 5) told.push(`${Math.round(part.tokens / writing)}/s`);
  }
  if (part.over && part.cost && part.state !== "recalled") told.push(money(part.cost.dollars, part.cost.at_least));
  if (part.began !== null && part.state !== "recalled") told.push(seconds((part.ended ?? run.now) - part.began));
  return told.join(" · ");
}

/** When each call waited, had its first token and finished. */
class Timeline {
  constructor(colours) {
    this.colours = colours;
    this.rows = new Map();
    this.list = el("ol", { class: "rows" });
    this.axis = el("div", { class: "axis", "aria-hidden": "true" });
    this.element = el("figure", { class: "timeline" },
      el("figcaption", {}, "Timeline",
        el("span", { class: "key" }, ["wait", "waits", "write", "writes", "again", "reads on"].map((each, n) => (n % 2 ? each : el("i", { class: each }))))),
      this.list, this.axis);
  }

  draw(run) {
    const length = Math.max(run.now, 0.5);
    const at = (time) => `${Math.min(100, (time / length) * 100)}%`;
    for (const part of run.parts.values()) {
      if (part.began === null) continue;
      const row = this.rows.get(part.key) ?? this.row(part);
      const first = part.first ?? part.ended ?? run.now;
      const end = part.ended ?? run.now;
      row.wait.style.setProperty("--from", at(part.began));
      row.wait.style.setProperty("--to", at(first));
      row.write.style.setProperty("--from", at(first));
      row.write.style.setProperty("--to", at(end));
      row.element.dataset.state = part.state;
      while (row.again.childElementCount < part.readAgain.length) row.again.append(el("i"));
      part.readAgain.forEach((time, n) => row.again.children[n].style.setProperty("--from", at(time)));
      put(row.told, part.over ? toldOf(part) : SAID[part.state]);
    }
    const step = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800].find((size) => length / size <= 8) ?? 3600;
    if (this.step !== step || this.length !== length) {
      const marks = [];
      for (let time = 0; time < length * 0.985; time += step) {
        const mark = el("span", {}, seconds(time).replace(".0", ""));
        mark.style.setProperty("--from", at(time));
        marks.push(mark);
      }
      this.axis.replaceChildren(...marks);
      Object.assign(this, { step, length });
    }
  }

  row(part) {
    const [wait, write] = ["wait", "write"].map((name) => el("i", { class: name }));
    const [again, told] = ["again", "unseen"].map((name) => el("span", { class: name }));
    const place = part.role === "proposer" ? `layer ${part.layer}` : part.role;
    const element = el("li", { class: `agent-${this.colours.of(part.agent)}` },
      el("span", { class: "label", title: `${part.agent}, ${place}` }, el("bdi", {}, part.agent), " ", el("small", {}, place)),
      el("span", { class: "track" }, wait, write, again), told);
    this.list.append(element);
    const row = { element, wait, write, again, told };
    this.rows.set(part.key, row);
    return row;
  }
}

function toldOf(part) {
  if (part.state === "recalled") return "kept from an earlier run";
  const first = part.first === null ? "no token" : `first token at ${seconds(part.first)}`;
  return `asked at ${seconds(part.began)}, ${first}, ${SAID[part.state]} at ${seconds(part.ended)}`;
}

/** A bar for each layer: the answer's shares, and a legend. */
function barsOf(attribution, colours) {
  const layers = attribution?.layers ?? [];
  return layers.map(({ layer, shares, new: fresh, ignored = [] }) => {
    const agents = Object.entries(shares).sort((one, other) => other[1] - one[1]);
    const parts = [...agents.map(([name, share]) => ({ name, share, kind: `agent-${colours.of(name)}` })), { name: "new", share: fresh, kind: "new" }];
    const segments = parts.map(({ share, kind }) => {
      const made = el("i", { class: kind });
      made.style.setProperty("--share", String(share));
      return made;
    });
    const legend = parts.map(({ name, share, kind }) => el("li", { class: kind }, el("b", { class: "dot" }), el("bdi", {}, name), " ",
      el("span", {}, percent(share)), ignored.includes(name) ? el("em", {}, " ignored") : null));
    const told = parts.map(({ name, share }) => `${name} ${percent(share)}`).join(", ");
    return el("div", { class: "layer-bar" },
      layers.length > 1 ? el("p", { class: "note" }, `Against layer ${layer}`) : null,
      el("div", { class: "bar", role: "img", "aria-label": told }, segments),
      el("ul", { class: "legend" }, legend));
  });
}

/** What each sentence of the answer resembles: bars, and the sentence that is pointed at. */
class Origin {
  /** @param cards the proposals' cards, by key. */
  constructor(run, colours, cards, body) {
    Object.assign(this, { run, colours, cards, body });
    this.bars = el("div", { class: "bars" });
    this.pointed = el("div", { class: "pointed", "aria-live": "polite" });
    this.hint = "Point at a sentence of the answer, or click into it and walk with the arrow keys.";
    this.element = el("section", { class: "origin", "aria-label": "What the answer resembles", hidden: true },
      el("h4", {}, "What the answer resembles"), this.bars, this.pointed,
      el("details", {}, el("summary", {}, "What these figures mean"), el("p", { class: "note" }, page.explained)));
    this.current = null;
    this.pinned = false;
  }

  /** Draw the server's figures, and make the answer's sentences ones to point at. */
  show(attribution, prose) {
    if (!attribution?.sentences.length) return;
    this.attribution = attribution;
    const units = unitsOf(this.run.answer);
    this.sentences = attribution.sentences.map((sentence) => ({ ...sentence, start: units(sentence.start), end: units(sentence.end) }));
    prose.finish(this.run.answer, this.sentences);
    this.prose = prose;
    this.bars.replaceChildren(...barsOf(attribution, this.colours));
    for (const { layer, shares, ignored = [] } of attribution.layers) {
      for (const [agent, share] of Object.entries(shares)) {
        this.cards.get(keyOf({ layer, agent }))?.resemble(share, ignored.includes(agent));
      }
    }
    this.element.hidden = false;
    this.tell(null);
    this.body.tabIndex = 0;
    this.body.setAttribute("role", "group");
    this.body.setAttribute("aria-label", "Answer. Arrow keys walk through its sentences.");
    this.body.addEventListener("pointerover", (event) => {
      const over = event.target.closest?.(".sentence");
      if (!this.pinned) this.point(over ? Number(over.dataset.sentence) : null);
    });
    this.body.addEventListener("pointerleave", () => this.pinned || this.point(null));
    this.body.addEventListener("click", (event) => {
      const at = event.target.closest?.(".sentence");
      if (!at || event.target.closest("a") || !getSelection().isCollapsed) return;
      const sentence = Number(at.dataset.sentence);
      this.pinned = !(this.pinned && this.current === sentence);
      this.point(this.pinned ? sentence : null);
    });
    this.body.addEventListener("keydown", (event) => this.walk(event));
    // A sentence that was clicked stays lit while its passages are read in their cards.
    const stage = this.body.closest(".stage");
    stage.addEventListener("click", (event) => event.target.closest(".answer-text, .card, .pointed") || this.letGo());
    stage.addEventListener("keydown", (event) => event.key === "Escape" && this.letGo());
  }

  letGo() {
    this.pinned = false;
    this.point(null);
  }

  walk(event) {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!step || event.target !== this.body) return;
    event.preventDefault();
    const last = this.sentences.length - 1;
    const next = this.current === null ? (step > 0 ? 0 : last) : this.current + step;
    this.pinned = true;
    this.point(Math.max(0, Math.min(last, next)));
    this.body.querySelector(`[data-sentence="${this.current}"]`)?.scrollIntoView({ block: "nearest" });
  }

  point(number) {
    if (number === this.current) return;
    this.current = number;
    for (const span of this.body.querySelectorAll(".sentence.lit")) span.classList.remove("lit");
    lights.clear();
    const found = number === null ? null : this.sentences[number];
    if (found) {
      for (const span of this.body.querySelectorAll(`[data-sentence="${number}"]`)) span.classList.add("lit");
      for (const passage of found.passages) this.light(passage);
    }
    for (const [key, card] of this.cards) {
      const mine = found?.passages.filter((passage) => keyOf(passage) === key) ?? [];
      card.light(found ? mine.reduce((sum, passage) => sum + passage.share, 0) : null);
    }
    this.tell(found);
  }

  light(passage) {
    const card = this.cards.get(keyOf(passage));
    if (!card) return;
    const ranges = card.prose.ranges(...card.span(passage));
    lights.add(this.colours.of(passage.agent), ranges);
    const box = ranges[0]?.getBoundingClientRect();
    const inside = card.body.getBoundingClientRect();
    if (box && (box.top < inside.top || box.bottom > inside.bottom)) card.body.scrollTop += box.top - inside.top - 24;
  }

  tell(sentence) {
    if (!sentence) {
      this.pointed.replaceChildren(el("p", { class: "note" }, this.hint));
      return;
    }
    const passages = [...sentence.passages].sort((one, other) => other.layer - one.layer || other.share - one.share);
    const rows = passages.map((passage) => {
      const card = this.cards.get(keyOf(passage));
      const text = card?.part.text.slice(...card.span(passage)) ?? "";
      const layer = this.attribution.layers.length > 1 ? `, layer ${passage.layer}` : "";
      return el("li", { class: `agent-${this.colours.of(passage.agent)}` },
        el("b", { class: "dot" }), el("strong", {}, el("bdi", {}, passage.agent), layer), ` ${percent(passage.share)} of the sentence`,
        el("q", { dir: "auto" }, text.length > 240 ? `${text.slice(0, 240)}…` : text));
    });
    const place = `Sentence ${this.current + 1} of ${this.sentences.length}`;
    const fresh = sentence.new > 0.005 ? `${percent(sentence.new)} of it in no proposal` : "all of it in proposals";
    const words = rows.length ? `${place} resembles (${fresh}):` : `${place} resembles no passage of a proposal: it is new.`;
    this.pointed.replaceChildren(el("p", {}, words), el("ul", {}, rows));
  }
}

/** Passages that light up: highlights of the document, one for each colour, so that no text is touched for it. */
const lights = {
  add(colour, ranges) {
    if (!CSS.highlights || !ranges.length) return;
    const name = `agent-${colour}`;
    const kept = CSS.highlights.get(name) ?? new Highlight();
    for (const range of ranges) kept.add(range);
    CSS.highlights.set(name, kept);
  },
  clear() {
    CSS.highlights?.clear();
  },
};

/** A run's layers from left to right, the answer last and largest, the timeline below. */
class Stage {
  constructor(run) {
    this.run = run;
    this.colours = new Colours();
    this.cards = new Map();
    this.layers = el("div", { class: "layers" });
    this.lines = drawn("svg", { class: "lines", "aria-hidden": "true" });
    this.body = el("div", { class: "prose answer-text" });
    this.prose = new Prose(this.body);
    this.name = el("h3", { class: "layer-name" });
    this.who = el("p", { class: "model" });
    this.state = el("span", { class: "state" });
    this.figures = el("p", { class: "figures" });
    this.thought = el("details", { class: "thinking", hidden: true }, el("summary", {}, "Thinking"), el("p"));
    this.problem = el("p", { class: "problem", hidden: true });
    this.tools = el("pre", { class: "tools", hidden: true, tabIndex: 0 });
    this.origin = new Origin(run, this.colours, this.cards, this.body);
    this.answer = el("article", { class: "answer", "data-state": "waiting", "aria-label": "Answer" },
      el("header", {}, el("h3", {}, "Answer"), this.state), this.who, this.thought, this.body, this.tools, this.problem, this.figures, this.origin.element);
    this.timeline = new Timeline(this.colours);
    this.notices = el("ul", { class: "notices" });
    const last = el("section", { class: "layer last", "aria-label": "Answer" }, this.name, this.answer);
    const below = el("div", { class: "below" }, this.notices, this.timeline.element);
    this.element = el("div", { class: "stage" }, el("div", { class: "flow" }, this.lines, this.layers, last, below));
    this.watched = new ResizeObserver(() => this.connect());
    this.watched.observe(this.layers);
    this.seen = new IntersectionObserver(([entry]) => {
      this.hidden = !entry.isIntersecting && entry.boundingClientRect.top > 0;
      offerAnswer();
    });
    this.seen.observe(this.answer);
  }

  build() {
    const layers = new Map();
    for (const part of this.run.parts.values()) {
      if (part.role !== "proposer") continue;
      if (!layers.has(part.layer)) layers.set(part.layer, []);
      layers.get(part.layer).push(part);
    }
    const columns = [...layers].sort(([one], [other]) => one - other).map(([layer, parts]) => {
      const cards = parts.map((part) => {
        const card = new Card(part, this.colours.of(part.agent), openCard);
        this.cards.set(part.key, card);
        return card.element;
      });
      const column = el("section", { class: "layer", "aria-label": `Layer ${layer}` }, el("h3", { class: "layer-name" }, `Layer ${layer}`), cards);
      column.style.setProperty("--count", String(parts.length));
      return column;
    });
    this.layers.replaceChildren(...columns);
    this.element.style.setProperty("--layers", String(columns.length));
    this.element.dataset.layers = String(columns.length);
    this.built = this.run.proposers.length;
  }

  draw() {
    const { run } = this;
    if (this.built !== run.proposers.length) this.build();
    for (const card of this.cards.values()) {
      card.draw(run);
      if (run.over) card.settle();
    }
    this.drawAnswer();
    this.timeline.draw(run);
    const notices = run.notices.map((notice) => el("li", { class: notice.degrades ? "degrades" : "" }, notice.text));
    if (this.notices.childElementCount !== notices.length) this.notices.replaceChildren(...notices);
    if (!run.over) for (const card of this.cards.values()) card.scroll();
    const state = [...run.parts.values()].map((part) => `${part.state}${part.references.length}`).join();
    if (state !== this.connected) this.connect();
    this.connected = state;
  }

  drawAnswer() {
    const { run } = this;
    const { speaker, selected } = run;
    const [state, words] = run.standing;
    this.answer.dataset.state = state;
    put(this.state, words);
    const roles = new Set([...run.parts.values()].map((part) => part.role));
    put(this.name, roles.has("ranker") ? "Ranker" : roles.has("aggregator") || !roles.size ? "Aggregator" : "Selection");
    this.element.classList.toggle("answering", Boolean(run.answer));
    put(this.who, answererOf(run));
    this.thought.hidden = !speaker?.reasoning;
    if (speaker?.reasoning) put(this.thought.lastChild, speaker.reasoning);
    if (!this.origin.prose) this.prose.draw(run.answer);
    this.problem.hidden = !run.error;
    put(this.problem, [run.error, ...run.causes].join("\n"));
    this.tools.hidden = !run.toolCalls.length;
    if (run.toolCalls.length) put(this.tools, callsOf(run.toolCalls));
    put(this.figures, speaker && !selected ? figuresOf(speaker, run) : "");
    offerAnswer();
  }

  /** Lines from each card to those that read it; they flow while both write. */
  connect() {
    const flow = this.lines.parentElement;
    const around = flow.getBoundingClientRect();
    if (!around.width || getComputedStyle(this.lines).display === "none") return;
    const columns = [...this.layers.children].map((column) => [...column.querySelectorAll(".card")]);
    const parts = [...this.cards.values()];
    const partOf = new Map(parts.map((card) => [card.element, card.part]));
    const reader = this.run.speaker ?? this.run.ranker;
    const paths = [];
    columns.forEach((column, n) => {
      const targets = columns[n + 1] ?? [this.answer];
      for (const source of column) {
        for (const target of targets) {
          const [from, to] = [partOf.get(source), partOf.get(target) ?? reader];
          const picked = !columns[n + 1] && this.run.selected && keyOf(this.run.selected) === from.key;
          const reads = picked || to?.references.includes(from.agent);
          const flows = reads && !this.run.over && !to.over && (to.state === "asked" || to.state === "writing" || to.state === "thinking");
          const [a, b] = [source.getBoundingClientRect(), target.getBoundingClientRect()];
          const [x1, y1, x2] = [a.right - around.left, a.top + Math.min(a.height / 2, 60) - around.top, b.left - around.left];
          const y2 = b.top + Math.min(b.height / 2, 60) - around.top;
          const middle = (x1 + x2) / 2;
          paths.push([`M${x1} ${y1}C${middle} ${y1} ${middle} ${y2} ${x2} ${y2}`,
            `agent-${this.colours.of(from.agent)}${reads ? " reads" : ""}${flows ? " flows" : ""}`]);
        }
      }
    });
    while (this.lines.childElementCount > paths.length) this.lines.lastChild.remove();
    paths.forEach(([path, kind], n) => {
      const line = this.lines.children[n] ?? this.lines.appendChild(drawn("path", {}));
      if (line.getAttribute("d") !== path) line.setAttribute("d", path);
      if (line.getAttribute("class") !== kind) line.setAttribute("class", kind);
    });
  }

  close() {
    this.watched.disconnect();
    this.seen.disconnect();
  }
}

/** Who answers, or would. */
function answererOf(run) {
  if (run.selected) return `${run.selected.agent}’s proposal, word for word: ${run.selected.reason}`;
  const part = run.speaker ?? [...run.parts.values()].find(({ role }) => role === "aggregator" || role === "ranker");
  if (!part) return run.parts.size ? "the proposal most like the others" : "";
  return part.agent === part.model ? part.model : `${part.agent} · ${part.model}`;
}

/** Tool calls as text, put together from their pieces. */
function callsOf(pieces) {
  const calls = [];
  for (const piece of pieces) {
    const call = (calls[Number(piece.index) || 0] ??= { name: "", arguments: "" });
    call.name ||= piece.function?.name ?? "";
    call.arguments += piece.function?.arguments ?? "";
  }
  return calls.filter(Boolean).map((call) => `${call.name}(${call.arguments})`).join("\n");
}

/** All of an agent's part: why it is not used or cut, what it thought, what it said. */
function openCard({ part }) {
  const body = el("div", { class: "prose" });
  new Prose(body).finish(part.text);
  const thought = el("details", { class: "thinking", open: !part.text }, el("summary", {}, "Thinking"), el("p", {}, part.reasoning));
  openSheet(`${part.agent}, layer ${part.layer}`,
    [el("p", { class: "model" }, part.model), part.why && el("p", { class: "problem" }, part.why), part.reasoning && thought, body].filter(Boolean),
    part.text ? [copyButton("Copy", () => part.text)] : []);
}

function openSheet(title, children, actions = []) {
  put(byId("sheet-title"), title);
  byId("sheet-body").replaceChildren(...children);
  byId("sheet-actions").replaceChildren(...actions);
  byId("sheet").showModal();
}

function copyButton(label, text, fields = {}) {
  const made = button(label, async () => {
    let copied = true;
    try {
      await navigator.clipboard.writeText(text());
    } catch {
      // Not allowed, or no secure context: the old way.
      const area = el("textarea", { value: text(), class: "unseen" });
      (made.closest("dialog") ?? document.body).append(area);
      area.select();
      copied = document.execCommand("copy");
      area.remove();
      made.focus();
    }
    put(made, copied ? "Copied" : "Could not copy");
    say(copied ? "Copied" : "Could not copy");
    setTimeout(() => put(made, label), 1500);
  }, fields);
  return made;
}

function save(name, text, type) {
  const link = el("a", { href: URL.createObjectURL(new Blob([text], { type })), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

// -- following runs ---------------------------------------------------------------------------------------------------

/** What is drawn while runs go on. Each has `run` and `draw()`. */
const drawing = new Set();
const stale = new Set();
const PACE = 90; // milliseconds between two drawings: faster than that nobody reads, and a dozen agents write at once
let waiting = false;
let lastDrawn = 0;

function redraw(view) {
  stale.add(view);
  if (waiting) return;
  waiting = true;
  setTimeout(() => requestAnimationFrame(() => {
    waiting = false;
    lastDrawn = performance.now();
    for (const each of stale) each.draw();
    stale.clear();
  }), Math.max(0, lastDrawn + PACE - performance.now()));
}

setInterval(() => {
  // Seconds pass also while nothing is said.
  for (const view of drawing) if (!document.hidden) redraw(view);
}, 200);

/** Draw a run while its events come, until it is over and its record is there. */
async function follow(view, signal, onChange) {
  drawing.add(view);
  signal.addEventListener("abort", () => drawing.delete(view));
  try {
    for await (const event of eventsOf(view.run.id, signal)) {
      view.run.take(event);
      onChange(event);
      redraw(view);
    }
    if (!view.run.over) view.run.finish("broken off", view.run.last);
  } finally {
    drawing.delete(view);
  }
  onChange();
  view.draw();
  view.run.record = await (await server.patiently(`/runs/${view.run.id}`, { signal })).json();
}

const questionOf = (text) => el("div", { class: "question" }, el("h2", { dir: "auto" }, text));

/** A message as it was said, without its layers. */
function messageOf(message) {
  if (message.role === "user") return questionOf(textOf(message));
  const body = el("div", { class: "prose" });
  new Prose(body).finish(textOf(message));
  const calls = (message.tool_calls ?? []).map((call, index) => ({ ...call, index }));
  if (calls.length) body.append(el("pre", { class: "tools", tabIndex: 0 }, callsOf(calls)));
  if (message.role === "assistant") return el("div", { class: "earlier" }, body);
  return el("details", { class: "earlier" }, el("summary", {}, message.role), body);
}

// -- a turn: a question and its run -----------------------------------------------------------------------------------

class Turn {
  /** @param messages what this turn adds to a conversation: the question, and tool calls with their results. */
  constructor(id, messages) {
    this.run = new Run(id);
    this.messages = messages;
    this.question = messages.length ? textOf(messages[0]) : "";
    this.stage = new Stage(this.run);
    this.left = new AbortController();
    this.totals = el("p", { class: "totals" });
    this.actions = el("div", { class: "actions" });
    this.element = el("section", { class: "turn", "aria-label": this.question.slice(0, 80) || "A run" },
      messages.map(messageOf), this.stage.element, el("div", { class: "row foot" }, this.totals, el("span", { class: "gap" }), this.actions));
  }

  /** The turn as messages; an answer that never came is none. */
  get said() {
    return this.run.answer ? [...this.messages, { role: "assistant", content: this.run.answer }] : this.messages;
  }

  async follow() {
    let told = "";
    const heard = (event) => {
      const { proposers } = this.run;
      if (event?.event === "answer_began") say("The answer begins.");
      const lost = proposers.filter((part) => LOST.has(part.state)).length;
      const there = proposers.filter((part) => THERE.has(part.state)).length;
      const now = `${there} of ${plural(proposers.length, "proposal")} ${there === 1 ? "is" : "are"} there${lost ? `, ${lost} will not come` : ""}.`;
      if (now !== told && (there || lost)) say(now);
      told = now;
      showState();
    };
    try {
      await follow(this.stage, this.left.signal, heard);
    } catch (error) {
      if (error.status === 404) this.gone();
      throw error;
    }
    this.settle();
  }

  settle() {
    const { run } = this;
    this.stage.origin.show(run.record.attribution, this.stage.prose);
    if (!this.stage.origin.prose && run.answer) this.stage.prose.finish(run.answer);
    this.stage.draw();
    const { calls, tokens, dollars, atLeast } = run.figures;
    const told = [plural(calls, "call"), plural(tokens, "token"), money(dollars, atLeast)];
    if (run.firstToken !== null) told.push(`first token ${seconds(run.firstToken)}`);
    told.push(`${seconds(run.ended)} in all`, run.schedule.replace("Barrier()", "barrier"));
    put(this.totals, told.join(" · "));
    const { outcome } = run.record;
    const goesOn = outcome !== "answered" && outcome !== "degraded";
    this.actions.append(
      ...[
        run.answer && copyButton("Copy answer", () => run.answer, { class: "quiet" }),
        goesOn && button("Continue", () => this.goOn()),
        button("Run again", () => this.again(), { class: "quiet" }),
        button("Export", () => save(`run-${run.id.slice(0, 8)}.json`, JSON.stringify(run.record, null, 2), "application/json"), { class: "quiet" }),
        this.deletion(),
      ].filter(Boolean),
    );
    const ends = { failed: "The run failed.", stopped: "The run was stopped.", "broken off": "The run was broken off." };
    say(ends[run.state] ?? `The answer is complete: ${told.join(", ")}`);
    showState();
    runs.load();
  }

  /** Go on from the proposals that are there. */
  async goOn() {
    const { run } = await server.json("/runs", { method: "POST", body: { continue: this.run.id } });
    go(`#/runs/${run}`);
  }

  /** Ask the same again as the mixture now stands, beside this run. */
  async again() {
    const { parameters, messages } = this.run.record;
    const { run } = await server.json("/runs", { method: "POST", body: { ...parameters, ...editor.who(), messages } });
    go(`#/compare/${this.run.id}/${run}`);
  }

  /** Nothing brings a run back: the button asks once. */
  deletion() {
    const made = button("Delete", async () => {
      if (made.textContent !== "Delete") return this.remove();
      put(made, "Delete for good");
      say("Press again to delete the run for good.");
      passed(5000).then(() => put(made, "Delete"));
    }, { class: "quiet" });
    return made;
  }

  async remove() {
    await server.json(`/runs/${this.run.id}`, { method: "DELETE" }).catch((error) => {
      if (error.status !== 404) throw error; // it was deleted elsewhere
    });
    go("#/");
  }

  /** It was deleted elsewhere: what is drawn is all there is. */
  gone() {
    if (!this.run.over) this.run.finish("broken off", this.run.last);
    this.stage.draw();
    showState();
  }

  /** An earlier turn: its question and answer, the rest folded away. */
  fold() {
    if (this.folded) return;
    this.folded = true;
    this.element.classList.add("past");
    const toggle = button("Layers", () => {
      const shown = this.element.classList.toggle("past");
      toggle.setAttribute("aria-expanded", String(!shown));
      redraw(this.stage);
    }, { class: "quiet", "aria-expanded": "false" });
    this.actions.prepend(toggle);
  }

  close() {
    this.left.abort();
    this.stage.close();
    lights.clear();
  }
}

// -- the mixture on the spot ------------------------------------------------------------------------------------------

const copyOf = (value) => JSON.parse(JSON.stringify(value));

/** Who answers: a mixture of the list, or one changed here. */
const editor = {
  name: "",
  draft: null, // the changed table; agents have `off` beside what a table has
  original: "", // the table as it was chosen
  given: null, // the table that a run came with, where the server has none of that name

  /** What goes into a request. */
  who() {
    if (!this.changed && !this.given) return { model: this.name };
    return { mixture: { ...this.table(), name: this.tableName } };
  },

  get changed() {
    return JSON.stringify(this.table()) !== this.original;
  },

  /** What the table is called that is on the page. */
  get tableName() {
    const name = this.name.split("/").pop();
    return this.changed ? `${name.replace(/^[^A-Za-z0-9]+|-changed$/g, "").replace(/[^A-Za-z0-9._-]/g, "-")}-changed` : name;
  },

  /** Choose from the list; `table` is the one of a run, which may not be there. */
  choose(name, table = null) {
    const known = page.mixtures.find((each) => `moa/${each.name}` === name);
    this.name = name;
    this.given = known || page.models.includes(name) ? null : table;
    const own = this.given ?? known?.table ?? { layers: [], aggregator: { model: name } };
    this.draft = copyOf({ aggregate: "synthesize", ...own });
    this.original = JSON.stringify(this.table());
    this.draw();
  },

  /** The draft as a table: agents that are switched off and layers that are left empty are not in it. */
  table() {
    const isSet = ([, value]) => value !== "" && value !== null && value !== undefined;
    const agent = ({ off, ...fields }) => Object.fromEntries(Object.entries(fields).filter(isSet));
    const { layers = [], aggregator, description, ...rest } = this.draft ?? {};
    const kept = layers.map((layer) => layer.filter((each) => !each.off && each.model).map(agent)).filter((layer) => layer.length);
    const table = { ...rest, layers: kept };
    if (aggregator?.model) table.aggregator = agent(aggregator);
    if (table.min_proposals > 1) table.min_proposals = Math.min(table.min_proposals, ...kept.map((layer) => layer.length));
    if (!table.schedule) delete table.schedule;
    return table;
  },

  /** Show what is chosen; `form` where the form's shape has changed, for a form drawn anew loses the click on its way. */
  draw(form = true) {
    const list = byId("mixture");
    for (const option of [...list.querySelectorAll("option.changed")]) option.remove();
    const listed = [...list.options].some((option) => option.value === this.name);
    if (this.changed || !listed) {
      list.prepend(el("option", { class: "changed", value: "", selected: true }, this.changed ? `${this.name}, changed` : this.name));
      list.value = "";
    } else {
      list.value = this.name;
    }
    const known = page.mixtures.find((each) => `moa/${each.name}` === this.name);
    put(byId("about"), known?.why_not ?? known?.description ?? "");
    if (form && !byId("editor").hidden) this.drawForm();
    const undo = byId("editor").querySelector("[data-field=undo]");
    if (undo) undo.disabled = !this.changed;
    if (document.body.classList.contains("idle")) drawIdle();
  },

  /** The form's way to ask again, where there is something to ask again. */
  offerAgain() {
    const again = byId("editor").querySelector("[data-field=again]");
    if (again) again.hidden = !turns.at(-1)?.run.record;
  },

  edit(change) {
    change();
    this.draw();
  },

  drawForm() {
    const { draft } = this;
    const form = byId("editor");
    const held = form.contains(document.activeElement) ? document.activeElement.dataset : null;
    const layers = (draft.layers ??= []);
    const like = (agent) => ({ model: agent?.model ?? draft.aggregator?.model ?? page.models[0] ?? "" });
    const columns = layers.map((layer, n) =>
      el("fieldset", { class: "edit-layer" }, el("legend", {}, `Layer ${n + 1}`),
        layer.map((agent, place) => this.agentForm(agent, `layer ${n + 1}, agent ${place + 1}`, () => layer.splice(place, 1), `add agent ${n}`)),
        el("div", { class: "row" },
          button("Add agent", () => this.edit(() => layer.push(like(layer.at(-1)))), { class: "quiet", "data-field": `add agent ${n}` }),
          button("Remove layer", () => this.edit(() => layers.splice(n, 1)),
            { class: "quiet", "data-field": `remove layer ${n}`, "data-else": "add layer" }))));
    const ways = { synthesize: "written from the proposals", select: "the proposal it picks", central: "the most central proposal" };
    const last = el("fieldset", { class: "edit-layer" }, el("legend", {}, "Aggregator"),
      draft.aggregator ? this.agentForm(draft.aggregator, "aggregator") : el("p", { class: "note" }, "none: the proposal most like the others is the answer"),
      this.choice("Answer", draft.aggregate, ways, (value) => {
        draft.aggregate = value;
        if (value !== "central") draft.aggregator ??= like(layers[0]?.[0]);
      }),
      this.scheduleForm());
    form.replaceChildren(
      el("div", { class: "edit-layers" }, columns, last),
      el("div", { class: "row" },
        button("Add layer", () => this.edit(() => layers.push([like(layers.at(-1)?.[0])])), { class: "quiet", "data-field": "add layer" }),
        el("span", { class: "gap" }),
        button("Run again beside the last answer", () => turns.at(-1).again(), { "data-field": "again" }),
        button("Save as TOML", () => this.saveAsToml(), { class: "quiet", "data-field": "save" }),
        button("Undo changes", () => this.choose(this.name, this.given),
          { class: "quiet", disabled: !this.changed, "data-field": "undo", "data-else": "add layer" })),
      el("datalist", { id: "models" }, page.models.map((model) => el("option", { value: model }))));
    this.offerAgain();
    const find = (field) => form.querySelector(`[data-field="${CSS.escape(field)}"]:not(:disabled)`);
    if (held?.field) (find(held.field) ?? find(held.else ?? ""))?.focus();
  },

  /** Fields of one agent. Typing changes the draft; the form is drawn anew only where its shape changes. */
  agentForm(agent, place, remove = null, behind = "") {
    const shown = (label, name) => (name === "model" && agent.name ? `${agent.name}: ${label.toLowerCase()}` : label);
    const field = (label, name, fields, read) => el("label", { class: name }, el("span", {}, shown(label, name)),
      el("input", { ...fields, value: agent[name] ?? "", "aria-label": `${label} of ${place}`, "data-field": `${name} of ${place}`,
        onchange: ({ target }) => {
          if (!this.accepts(target)) return;
          if (target.value.trim()) agent[name] = read(target.value.trim());
          else delete agent[name];
          this.draw(false);
        } }));
    const ask = () => el("input", { type: "checkbox", checked: !agent.off, "aria-label": `Ask ${place}`, "data-field": `ask ${place}`,
      onchange: ({ target }) => this.edit(() => (agent.off = target.checked ? undefined : true)) });
    return el("div", { class: `edit-agent${agent.off ? " off" : ""}` },
      remove && el("label", { class: "on" }, ask()),
      field("Model", "model", { type: "text", autocomplete: "off", spellcheck: false, list: "models", placeholder: "provider/model" }, String),
      field("Temperature", "temperature", { type: "number", min: 0, max: 2, step: "any", placeholder: "default" }, Number),
      field("Tokens", "max_tokens", { type: "number", min: 1, step: 1, placeholder: "no limit" }, Number),
      remove && button("✕", () => this.edit(remove),
        { class: "quiet tiny", "aria-label": `Remove ${place}`, "data-field": `remove ${place}`, "data-else": behind }));
  },

  /** Whether a field can be what was typed; otherwise the browser says why not, and the draft stays. */
  accepts(input) {
    const fits = input.reportValidity();
    input.setAttribute("aria-invalid", String(!fits));
    return fits;
  },

  choice(label, value, options, onchange) {
    return el("label", { class: "choice" }, el("span", {}, label),
      el("select", { "data-field": label, onchange: (event) => this.edit(() => onchange(event.target.value)) },
        Object.entries(options).map(([name, told]) => el("option", { value: name, selected: name === value }, told))));
  },

  scheduleForm() {
    const { draft } = this;
    const kind = draft.schedule?.kind ?? "barrier";
    const kinds = { barrier: "barrier: a layer waits for the one before", quorum: "quorum: not for stragglers", staircase: "staircase: chunk by chunk" };
    const first = draft.layers?.[0]?.length ?? 1;
    const count = { type: "number", min: 1, step: 1, required: true };
    const counts = { type: "text", pattern: "[\\d ,]*", placeholder: "32, 128, 384" };
    const more = {
      quorum: () => this.figure("Proposals to wait for", draft.schedule.usable, count, (value) => (draft.schedule.usable = Number(value))),
      staircase: () => this.figure("Tokens read at a time", (draft.schedule.chunks ?? []).join(", "), counts, (value) => {
        const chunks = value.split(/\D+/).filter(Boolean).map(Number);
        if (chunks.length) draft.schedule.chunks = chunks;
        else delete draft.schedule.chunks;
      }),
      barrier: () => null,
    };
    return [
      this.choice("Schedule", kind, kinds, (value) => {
        draft.schedule = value === "barrier" ? undefined : value === "quorum" ? { kind: value, usable: Math.max(1, first - 1) } : { kind: value };
      }),
      more[kind](),
    ];
  },

  figure(label, value, fields, read) {
    return el("label", { class: "choice" }, el("span", {}, label), el("input", { ...fields, value, "data-field": label, onchange: ({ target }) => {
      if (!this.accepts(target)) return;
      read(target.value);
      this.draw(false);
    } }));
  },

  async saveAsToml() {
    const name = el("input", { type: "text", value: this.tableName, id: "toml-name", autocomplete: "off" });
    const text = el("pre", { tabIndex: 0, "aria-label": "TOML" });
    const problem = el("p", { class: "problem", role: "alert", hidden: true });
    const actions = [
      copyButton("Copy", () => text.textContent),
      button("Download", () => save(`${name.value.trim()}.toml`, text.textContent, "application/toml")),
    ];
    const write = async () => {
      const asked = name.value;
      const how = { method: "POST", body: { name: asked.trim(), mixture: this.table() } };
      const { toml = "", message = "" } = await server.json("/mixtures/toml", how).catch((error) => error);
      if (name.value !== asked) return; // it is another by now
      put(text, toml);
      put(problem, message);
      problem.hidden = !message;
      for (const action of actions) action.disabled = !toml;
    };
    name.addEventListener("input", write);
    await write();
    openSheet("Save as TOML",
      [el("label", { htmlFor: "toml-name" }, "Name"), name, problem, text,
        el("p", { class: "note" }, "Put it into moa.toml, beside what is there, and start the server again.")],
      actions);
  },
};

// -- kept runs --------------------------------------------------------------------------------------------------------

const MARKS = { answered: "✓", degraded: "!", failed: "✗", stopped: "■", running: "…", "broken off": "■" };

const runs = {
  chosen: new Set(),
  next: null,
  searched: 0,

  /** Draw the list anew, as long as it was; or `more` of it. */
  async load(more = false) {
    if (byId("runs").hidden) return;
    const turn = ++this.searched;
    const list = byId("run-list");
    const limit = more ? 40 : Math.min(200, Math.max(40, list.childElementCount));
    const query = new URLSearchParams({ limit: String(limit), search: byId("search").value.trim() });
    if (more && this.next) query.set("before", this.next);
    let found;
    try {
      found = await server.json(`/runs?${query}`);
    } catch (error) {
      put(byId("runs-note"), error.message);
      return;
    }
    if (turn !== this.searched) return; // a later search has begun
    this.next = found.next;
    const items = found.runs.map((run) => this.item(run));
    const held = list.contains(document.activeElement) ? document.activeElement : null;
    if (more) list.append(...items);
    else list.replaceChildren(...items);
    if (held && !held.isConnected) list.querySelector(`[data-run="${held.closest("li").dataset.run}"] ${held.localName}`)?.focus();
    byId("more").hidden = !found.next;
    const note = found.kept ? "" : "This server does not keep runs; these are of this session.";
    put(byId("runs-note"), found.runs.length || more ? note : byId("search").value ? "Nothing found." : `No runs yet. ${note}`);
    this.count();
  },

  item(run) {
    const told = [run.model.replace(/^moa\//, ""), ago(run.started), seconds(run.duration), run.cost === null ? "" : money(run.cost, run.cost_is_at_least)];
    const current = location.hash.includes(run.run);
    return el("li", { "data-outcome": run.outcome, "data-run": run.run },
      el("label", { class: "tick" }, el("input", { type: "checkbox", checked: this.chosen.has(run.run), "aria-label": `Compare: ${run.question || run.model}`,
        onchange: (event) => {
          if (event.target.checked) this.chosen.add(run.run);
          else this.chosen.delete(run.run);
          this.count();
        } })),
      el("a", { href: `#/runs/${run.run}`, "aria-current": current ? "page" : undefined },
        el("span", { class: "asked" }, run.question || "(no text)"),
        el("span", { class: "meta" }, el("span", { class: "mark", title: run.outcome }, MARKS[run.outcome] ?? "?"), ` ${told.filter(Boolean).join(" · ")}`)));
  },

  count() {
    byId("compare").disabled = this.chosen.size !== 2;
    byId("compare").title = this.chosen.size === 2 ? "" : "Tick two runs";
  },

  open(shown) {
    byId("runs").hidden = !shown;
    byId("toggle-runs").setAttribute("aria-expanded", String(shown));
    document.body.classList.toggle("with-runs", shown);
    if (shown) this.load();
  },
};

/** Two runs side by side. */
class Side {
  constructor(id) {
    this.run = new Run(id);
    this.left = new AbortController();
    this.body = el("div", { class: "prose answer-text" });
    this.prose = new Prose(this.body);
    this.title = el("h3", {}, "…");
    this.state = el("span", { class: "state" });
    this.figures = el("dl", { class: "figures" });
    this.problem = el("p", { class: "problem", hidden: true });
    this.bars = el("div", { class: "bars" });
    this.timeline = new Timeline(new Colours());
    this.element = el("article", { class: "side" },
      el("header", {}, this.title, this.state), this.figures, this.body, this.problem, this.bars, this.timeline.element,
      el("p", {}, el("a", { href: `#/runs/${id}` }, "Open with its layers")));
  }

  draw() {
    const { run } = this;
    put(this.title, run.mixture || "…");
    const [state, words] = run.standing;
    this.element.dataset.state = state;
    put(this.state, words);
    if (!run.record) this.prose.draw(run.answer);
    this.problem.hidden = !run.error;
    put(this.problem, [run.error, ...run.causes].join("\n"));
    this.timeline.draw(run);
    const { calls, tokens, dollars, atLeast } = run.figures;
    const rows = {
      "First token": run.firstToken === null ? "–" : seconds(run.firstToken),
      "In all": seconds(run.now),
      Calls: String(calls),
      Tokens: counted.format(tokens),
      Cost: money(dollars, atLeast),
      Words: counted.format(run.answer.split(/\s+/).filter(Boolean).length),
    };
    if (this.figures.childElementCount !== Object.keys(rows).length) {
      this.figures.replaceChildren(...Object.keys(rows).map((name) => el("div", {}, el("dt", {}, name), el("dd"))));
    }
    Object.values(rows).forEach((value, n) => put(this.figures.children[n].lastChild, value));
  }

  async follow() {
    await follow(this, this.left.signal, showState);
    this.draw();
    this.prose.finish(this.run.answer);
    this.bars.replaceChildren(...barsOf(this.run.record.attribution, this.timeline.colours));
    runs.load();
  }

  close() {
    this.left.abort();
  }
}

// -- the page ---------------------------------------------------------------------------------------------------------

const page = { mixtures: [], models: [], explained: "" };

/** What is on the page: turns of a conversation, the last with its layers open; or two runs beside each other. */
let turns = [];
let sides = [];
let earlier = []; // messages before the first turn
let sending = null; // ends the question that is on its way to the server
let way = new AbortController(); // ends what is asked for an address that was left

function clearPage() {
  for (const each of [...turns, ...sides]) each.close();
  turns = [];
  sides = [];
  earlier = [];
  byId("to-answer").hidden = true;
  document.body.classList.remove("comparing", "idle");
  byId("turns").replaceChildren();
}

function showState() {
  const going = sending !== null || [...turns, ...sides].some((each) => !each.run.over);
  const left = going ? byId("send") : byId("stop");
  if (left === document.activeElement) byId("main").focus({ preventScroll: true });
  byId("send").hidden = going;
  byId("stop").hidden = !going;
  const question = turns.at(-1)?.question.slice(0, 80);
  document.title = `${going ? "… " : ""}${question ? `${question} · ` : ""}Mixture-of-Agents`;
  editor.offerAgain();
}

/** A way to the answer where it is further down than the window. */
function offerAnswer() {
  const stage = turns.at(-1)?.stage;
  byId("to-answer").hidden = !(stage?.hidden && (stage.run.answer || stage.run.over));
}

/** Nothing asked yet: the mixture that would be, drawn as it stands. */
function drawIdle() {
  if (!page.mixtures.length) return;
  document.body.classList.add("idle");
  const { layers = [], aggregator, aggregate } = editor.table();
  const colours = new Colours();
  const card = (agent) => {
    const name = agent.name || agent.model.split("/").pop();
    return el("article", { class: `card agent-${colours.of(name)}` },
      el("h4", { title: name }, name), el("p", { class: "model", title: agent.model }, agent.model));
  };
  const columns = layers.map((layer, n) =>
    el("section", { class: "layer", "aria-label": `Layer ${n + 1}` }, el("h3", { class: "layer-name" }, `Layer ${n + 1}`), layer.map(card)));
  const last = aggregate === "central" ? "the proposal most like the others" : (aggregator?.model ?? "");
  const answer = el("article", { class: "answer" }, el("h4", {}, "Answer"), el("p", { class: "model", title: last }, last));
  const flow = el("div", { class: "flow" }, el("div", { class: "layers" }, columns),
    el("section", { class: "layer last", "aria-label": "Aggregator" }, el("h3", { class: "layer-name" }, "Aggregator"), answer));
  const stage = el("div", { class: "stage", "data-layers": String(columns.length) }, flow);
  stage.style.setProperty("--layers", String(columns.length));
  byId("turns").replaceChildren(el("section", { class: "idle-stage", "aria-label": "The mixture" },
    el("h2", { class: "lead" }, "Several models answer, layer by layer, each reading all answers before it. Ask, and watch."), stage));
}

/** Ask, as soon as the server has a place for it; gives whether it began. */
async function ask(question) {
  sending = new AbortController();
  const { signal } = way;
  showState();
  say("Asked.");
  try {
    await know();
    const messages = [...earlier, ...turns.flatMap((turn) => turn.said), { role: "user", content: question }];
    const body = { ...editor.who(), messages };
    const { run } = await server.json("/runs", { method: "POST", body, signal: sending.signal });
    if (signal.aborted) {
      runs.load(); // whoever asked has gone elsewhere on the page; the run goes on without it
      return true;
    }
    if (sides.length) clearPage();
    startTurn(run, messages.slice(-1));
    history.pushState(null, "", `#/runs/${run}`);
    runs.load();
    return true;
  } finally {
    sending = null;
    showState();
  }
}

function startTurn(id, messages) {
  if (document.body.classList.contains("idle")) clearPage();
  for (const turn of turns) turn.fold();
  const turn = new Turn(id, messages);
  turns.push(turn);
  byId("turns").append(turn.element);
  turn.element.scrollIntoView({ block: "start" });
  showState();
  attempt(() => turn.follow());
}

/** A run by its name: what was said before it as plain turns, and the run itself with its layers. */
async function openRun(id, signal) {
  if (turns.at(-1)?.run.id === id) return;
  const { messages, model, mixture } = await server.json(`/runs/${id}`, { signal });
  clearPage();
  const asked = messages.findLastIndex((message) => message.role === "user");
  earlier = asked < 0 ? messages : messages.slice(0, asked);
  byId("turns").append(...earlier.map(messageOf));
  editor.choose(model, mixture);
  startTurn(id, asked < 0 ? [] : messages.slice(asked));
}

async function openComparison(ids, signal) {
  const records = await Promise.all(ids.map((id) => server.json(`/runs/${id}`, { signal })));
  clearPage();
  document.body.classList.add("comparing");
  sides = ids.map((id) => new Side(id));
  const questions = records.map((record) => textOf(record.messages.findLast((message) => message.role === "user") ?? {}));
  byId("turns").append(el("section", { class: "comparison", "aria-label": "Comparison" },
    el("div", { class: "questions" }, [...new Set(questions)].map(questionOf)),
    el("div", { class: "sides" }, sides.map((side) => side.element))));
  showState();
  for (const side of sides) attempt(() => side.follow());
}

/** Go to an address of the page, at once. */
function go(address) {
  if (location.hash !== address) history.pushState(null, "", address);
  route();
}

/** Draw what the address names. */
function route() {
  way.abort();
  way = new AbortController();
  const { signal } = way;
  const [, kind, ...ids] = location.hash.split("/");
  attempt(async () => {
    byId("main").setAttribute("aria-busy", "true");
    try {
      const odd = ids.find((id) => !/^[0-9a-f]{32}$/.test(id));
      if (kind && odd !== undefined) throw new Refused(404, `no run is called '${odd}'`);
      if (kind === "runs" && ids.length === 1) await openRun(ids[0], signal);
      else if (kind === "compare" && ids.length === 2) await openComparison(ids, signal);
      else goHome();
    } catch (error) {
      if (!signal.aborted) goHome();
      throw error;
    } finally {
      if (!signal.aborted) byId("main").removeAttribute("aria-busy");
    }
    if (document.activeElement !== byId("question")) byId("main").focus({ preventScroll: true });
    runs.load();
  });
}

function goHome() {
  clearPage();
  drawIdle();
  showState();
}

function colours(theme) {
  const told = { auto: "as the system has them", light: "light", dark: "dark" };
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  byId("theme").setAttribute("aria-label", `Colours: ${told[theme]}`);
  byId("theme").title = `Colours: ${told[theme]}`;
  put(byId("theme"), { auto: "◐", light: "☀", dark: "☾" }[theme]);
}

/** What the browser keeps for the page; some keep nothing, and throw. */
function kept(name, value) {
  try {
    if (value !== undefined) localStorage.setItem(name, value);
    return localStorage.getItem(name);
  } catch {
    return null;
  }
}

function grow() {
  const area = byId("question");
  area.style.height = "auto";
  area.style.height = `${Math.min(area.scrollHeight + 2, window.innerHeight * 0.4)}px`;
}

function listen() {
  byId("ask").addEventListener("submit", async (event) => {
    event.preventDefault();
    const question = byId("question").value.trim();
    if (!question || sending) return;
    if (byId("send").hidden) {
      tell("A run goes on here. Stop it, or ask when it is over.");
      return;
    }
    if (!(await attempt(() => ask(question)))) return; // the question stays, to be sent again
    if (byId("question").value.trim() === question) byId("question").value = "";
    grow();
  });
  byId("question").addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    byId("ask").requestSubmit();
  });
  byId("question").addEventListener("input", grow);
  byId("stop").addEventListener("click", () => {
    say("Stopping.");
    sending?.abort();
    for (const { run } of [...turns, ...sides]) {
      if (!run.over) attempt(() => server.json(`/runs/${run.id}/stop`, { method: "POST" }));
    }
  });
  byId("mixture").addEventListener("change", (event) => event.target.value && editor.choose(event.target.value));
  byId("change").addEventListener("click", () => {
    const hidden = !byId("editor").hidden;
    byId("editor").hidden = hidden;
    byId("change").setAttribute("aria-expanded", String(!hidden));
    if (!hidden) editor.drawForm();
  });
  byId("new").addEventListener("click", () => {
    go("#/");
    byId("question").focus();
  });
  byId("toggle-runs").addEventListener("click", () => runs.open(byId("runs").hidden));
  let typing = 0;
  byId("search").addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(() => runs.load(), 150);
  });
  byId("more").addEventListener("click", () => runs.load(true));
  byId("compare").addEventListener("click", () => {
    go(`#/compare/${[...runs.chosen].join("/")}`);
    runs.chosen.clear();
  });
  byId("run-list").addEventListener("click", (event) => {
    if (event.target.closest("a") && matchMedia("(max-width: 900px)").matches) runs.open(false);
  });
  byId("to-answer").addEventListener("click", () => turns.at(-1)?.stage.answer.scrollIntoView({ block: "start", behavior: "smooth" }));
  byId("sheet-close").addEventListener("click", () => byId("sheet").close());
  byId("key-cancel").addEventListener("click", () => byId("key").close());
  byId("theme").addEventListener("click", () => {
    const order = ["auto", "dark", "light"];
    const theme = order[(order.indexOf(kept("theme") ?? document.documentElement.dataset.theme ?? "auto") + 1) % order.length];
    kept("theme", theme);
    colours(theme);
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && !event.ctrlKey && !event.metaKey && !event.altKey && !event.target.closest("input, textarea, select, dialog")) {
      event.preventDefault();
      byId("question").focus();
    }
  });
  window.addEventListener("hashchange", route);
}

/** Learn who can answer, unless it is known. */
async function know() {
  if (page.mixtures.length) return true;
  Object.assign(page, await (await server.patiently("/mixtures")).json());
  const option = ({ name, why_not: why }) => el("option", { value: `moa/${name}`, disabled: Boolean(why), title: why ?? "" }, `moa/${name}`);
  const groups = {
    Mixtures: page.mixtures.filter((each) => each.available !== false).map(option),
    "Single models": page.models.map((name) => el("option", { value: name }, name)),
    "Not set up here": page.mixtures.filter((each) => each.available === false).map(option),
  };
  for (const [label, options] of Object.entries(groups)) {
    if (options.length) byId("mixture").append(el("optgroup", { label }, options));
  }
  editor.choose(`moa/${page.default}`);
  return true;
}

async function begin() {
  colours(kept("theme") ?? "auto");
  listen();
  if (!(await attempt(know))) return;
  if (matchMedia("(min-width: 1500px)").matches) runs.open(true);
  route();
}

begin();
