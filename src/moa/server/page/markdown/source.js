// Offsets of text in its source. Pure: no document, no server.

/** Lines of a text as { text, at }, each with the offset where it begins; without line ends. */
export function linesOf(text, from = 0) {
  const lines = [];
  for (let at = 0; at <= text.length; ) {
    let end = text.indexOf("\n", at);
    if (end < 0) end = text.length;
    lines.push({ text: text.slice(at, text[end - 1] === "\r" ? Math.max(at, end - 1) : end), at: from + at });
    at = end + 1;
  }
  return lines;
}

/** A line without its first `count` characters. */
export const cut = (line, count) => ({ text: line.text.slice(count), at: line.at + count });

/** The white space that a text begins with, at most `most` columns of it; a tab reaches the next multiple of four. */
export function indentOf(text, most = Number.POSITIVE_INFINITY) {
  let [columns, characters] = [0, 0];
  for (; columns < most && (text[characters] === " " || text[characters] === "\t"); characters += 1) {
    columns += text[characters] === "\t" ? 4 - (columns % 4) : 1;
  }
  return { columns, characters };
}

/** A line without its first `columns` columns of white space. */
export const outdented = (line, columns) => cut(line, indentOf(line.text, columns).characters);

/** Several lines as one text that knows where each of its characters is in the source. */
export class SourceText {
  constructor(lines) {
    this.text = lines.map((line) => line.text).join("\n");
    this.starts = []; // of each line: its offset here, and its offset in the source
    let length = 0;
    for (const line of lines) {
      this.starts.push({ here: length, source: line.at });
      length += line.text.length + 1;
    }
  }

  /** The index of the line that an offset of this text is in. */
  lineAt(offset) {
    let low = 0;
    for (let high = this.starts.length - 1; low < high; ) {
      const middle = Math.ceil((low + high) / 2);
      if (this.starts[middle].here <= offset) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  /** The offset in the source of an offset of this text. */
  sourceOffset(offset) {
    const start = this.starts[this.lineAt(offset)] ?? { here: 0, source: 0 };
    return start.source + offset - start.here;
  }

  /** The offset of the next line after an offset of this text; infinite if there is none. */
  nextLine(offset) {
    return this.starts[this.lineAt(offset) + 1]?.here ?? Number.POSITIVE_INFINITY;
  }
}

/** The server counts code points, JavaScript UTF-16 units: returns the function from an offset in the one to the other. */
export function unitsOf(text) {
  if (!/[\ud800-\udbff]/.test(text)) return (offset) => offset;
  const units = [];
  let unit = 0;
  for (const char of text) {
    units.push(unit);
    unit += char.length;
  }
  units.push(unit);
  return (offset) => units[Math.min(offset, units.length - 1)];
}
