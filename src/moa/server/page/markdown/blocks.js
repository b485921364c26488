// Markdown's blocks: headings, paragraphs, lists, quotes, tables, code. Pure: no document, no server.

import { cut, indentOf, outdented } from "./source.js";

/** Characters beyond which a paragraph is shown as plain text: it is hardly Markdown, and parsing it would take long. */
export const LONGEST_PARAGRAPH = 20_000;

const DEEPEST = 8; // levels of lists and quotes
const ITEM = /^ {0,3}([-*+]|\d{1,9}[.)])([ \t]+|$)/;
const FENCE = /^( {0,3})(`{3,}(?=[^`]*$)|~{3,})\s*([^\s`]*)/;
const HEADING = /^ {0,3}(#{1,6})(?:[ \t]+|$)(.*?)(?:[ \t]+#+)?[ \t]*$/s;
const RULE = /^ {0,3}(?:(?:-[ \t]*){3,}|(?:\*[ \t]*){3,}|(?:_[ \t]*){3,})$/;
const QUOTE = /^ {0,3}> ?/;
const ROW_RULE = /^ {0,3}\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*$/;

const isBlank = (line) => !line.text.trim();
const headingOf = (text) => (text.length < 2000 ? HEADING.exec(text) : null);
const isRule = (text) => text.length < 2000 && RULE.test(text);
const isRowRule = (text) => text.length < 2000 && text.includes("-") && ROW_RULE.test(text);
const opensBlock = (text) => FENCE.test(text) || headingOf(text) || isRule(text) || ITEM.test(text);
const opensTable = (lines, n) => lines[n].text.includes("|") && isRowRule(lines[n + 1]?.text ?? "");

/** The blocks of these lines. Each has `kind`, `at` (its offset in the source) and what it contains. */
export function blocksOf(lines, depth = 0) {
  const blocks = [];
  for (let n = 0; n < lines.length; ) {
    if (isBlank(lines[n])) {
      n += 1;
      continue;
    }
    const { block, next } = READERS.reduce((found, read) => found ?? read(lines, n, depth), null);
    blocks.push({ at: lines[n].at, ...block });
    n = next;
  }
  return blocks;
}

/** Readers of one kind of block each, tried in this order: { block, next } with the line after the block, or null. */
const READERS = [codeAt, formulaAt, headingAt, ruleAt, quoteAt, listAt, tableAt, paragraphAt];

function codeAt(lines, from) {
  const found = FENCE.exec(lines[from].text);
  if (!found) return null;
  const [, indent, fence, language] = found;
  const closing = new RegExp(`^ {0,3}${fence[0]}{${fence.length},}\\s*$`);
  const inside = [];
  let n = from + 1;
  for (; n < lines.length && !closing.test(lines[n].text); n += 1) inside.push(outdented(lines[n], indent.length));
  return { block: { kind: "code", language, lines: inside }, next: n + 1 };
}

// TeX stays as it is: nothing here can typeset it, and read as Markdown it would lose its backslashes and stars.
const FORMULA_ENDS = { "\\[": "\\]", $$: "$$" };

function formulaAt(lines, from) {
  const end = endOfFormula(lines, from) + 1;
  return end ? { block: { kind: "code", language: "TeX", lines: lines.slice(from, end) }, next: end } : null;
}

/** The line at which the formula ends that begins at this one; -1 if none does. */
function endOfFormula(lines, from) {
  const begin = lines[from].text.trimStart();
  const end = FORMULA_ENDS[begin.slice(0, 2)];
  if (!end) return -1;
  for (let n = from; n < Math.min(lines.length, from + 50) && !isBlank(lines[n]); n += 1) {
    if ((n === from ? begin.slice(2) : lines[n].text).trimEnd().endsWith(end)) return n;
  }
  return -1;
}

function headingAt(lines, from) {
  const line = lines[from];
  const found = headingOf(line.text);
  if (!found) return null;
  const [, signs, title] = found;
  const start = title ? line.text.indexOf(title, signs.length) : line.text.length;
  return { block: { kind: "heading", level: signs.length, lines: [{ text: title, at: line.at + start }] }, next: from + 1 };
}

function ruleAt(lines, from) {
  return isRule(lines[from].text) ? { block: { kind: "rule" }, next: from + 1 } : null;
}

function quoteAt(lines, from, depth) {
  if (!QUOTE.test(lines[from].text) || depth >= DEEPEST) return null;
  const inside = [];
  let n = from;
  for (; n < lines.length && QUOTE.test(lines[n].text); n += 1) inside.push(cut(lines[n], QUOTE.exec(lines[n].text)[0].length));
  return { block: { kind: "quote", blocks: blocksOf(inside, depth + 1) }, next: n };
}

function listAt(lines, from, depth) {
  const found = ITEM.exec(lines[from].text);
  if (!found || depth >= DEEPEST) return null;
  const start = Number.parseInt(found[1], 10); // NaN for a bullet
  const list = { kind: "list", ordered: start >= 0, start, items: [] };
  let n = from;
  while (n < lines.length) {
    const item = ITEM.exec(lines[n].text);
    if (!item || /\d/.test(item[1]) !== list.ordered || isRule(lines[n].text)) break;
    const { inside, next } = itemAt(lines, n, item[0]);
    list.items.push(blocksOf(inside, depth + 1));
    n = next;
    while (n < lines.length && isBlank(lines[n]) && lines[n + 1] && (ITEM.test(lines[n + 1].text) || isBlank(lines[n + 1]))) n += 1;
  }
  return { block: list, next: n };
}

/** The lines of one item, without its sign and its indent. */
function itemAt(lines, from, sign) {
  const indent = indentOf(sign.replace(/[^\t]/g, " ")).columns;
  const inside = [cut(lines[from], sign.length)];
  let n = from + 1;
  for (; n < lines.length; n += 1) {
    const { text } = lines[n];
    if (isBlank(lines[n])) {
      const next = lines.slice(n + 1, n + 4).find((line) => !isBlank(line));
      if (!next || indentOf(next.text).columns < 2) break;
      inside.push(lines[n]);
    } else if (indentOf(text).columns >= 2) {
      inside.push(outdented(lines[n], indent));
    } else if (opensBlock(text) || isBlank(lines[n - 1])) {
      break;
    } else {
      inside.push(lines[n]);
    }
  }
  return { inside, next: n };
}

function tableAt(lines, from) {
  if (!opensTable(lines, from)) return null;
  const rows = [cellsOf(lines[from])];
  const aligned = cellsOf(lines[from + 1]).map(({ text }) => (!text.endsWith(":") ? "" : text.startsWith(":") ? "center" : "end"));
  let n = from + 2;
  for (; n < lines.length && !isBlank(lines[n]) && lines[n].text.includes("|"); n += 1) rows.push(cellsOf(lines[n]));
  return { block: { kind: "table", rows, aligned }, next: n };
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

function paragraphAt(lines, from) {
  const inside = [lines[from]];
  let n = from + 1;
  for (; n < lines.length && !isBlank(lines[n]); n += 1) {
    const { text } = lines[n];
    if (opensBlock(text) || QUOTE.test(text) || opensTable(lines, n) || endOfFormula(lines, n) >= 0) break;
    inside.push(lines[n]);
  }
  return { block: { kind: "paragraph", lines: inside }, next: n };
}
