// Markdown inside a block: emphasis, code, links, line breaks. Pure: no document, no server.

/**
 * The inline element that begins at an offset of a text, or null. `start` and `end` bound its content, `next` is the offset
 * after it; `tag` and `fields` make the element (no tag: the content alone); a `literal` content has no elements inside.
 */
export function inlineAt(text, at, to) {
  const char = text[at];
  if (char === "\\" || char === "$") return formulaAt(text, at, to) ?? escapeAt(text, at, to);
  if (char === "<") return lineBreakAt(text, at);
  if (char === "`") return codeAt(text, at, to);
  if (char === "*" || char === "_" || char === "~") return emphasisAt(text, at, to);
  if (char === "[" || (char === "!" && text[at + 1] === "[")) return linkAt(text, at, to);
  if (char === "h") return addressAt(text, at, to);
  return null;
}

// TeX stays as it is: nothing here can typeset it, and read as Markdown it would lose its backslashes and stars.
const FORMULA = /^(?:\\\(.+?\\\)|\\\[.+?\\\]|\$\$.+?\$\$|\$(?![\s$])(?:[^$\n]*[^\s$\\])?\$(?!\d))/s;

function formulaAt(text, at, to) {
  const found = text[at - 1] === "\\" ? null : FORMULA.exec(text.slice(at, Math.min(to, at + 2000)));
  if (!found) return null;
  const end = at + found[0].length;
  return { tag: "span", fields: { class: "formula" }, start: at, end, next: end, literal: true };
}

function escapeAt(text, at, to) {
  const escapes = text[at] === "\\" && at + 1 < to && /[!-/:-@[-`{-~\n]/.test(text[at + 1]);
  return escapes ? { start: at + 1, end: at + 2, next: at + 2, literal: true } : null;
}

function lineBreakAt(text, at) {
  const found = /^<br ?\/?>/i.exec(text.slice(at, at + 6));
  return found && { tag: "br", start: at, end: at, next: at + found[0].length, literal: true };
}

function codeAt(text, at, to) {
  const ticks = /^`+/.exec(text.slice(at, at + 16))[0];
  const start = at + ticks.length;
  const end = text.indexOf(ticks, start);
  if (end < 0 || end >= to) return { start: at, end: start, next: start, literal: true };
  return { tag: "code", start, end, next: end + ticks.length, literal: true };
}

function emphasisAt(text, at, to) {
  const char = text[at];
  const run = text[at + 1] === char ? char + char : char;
  const start = at + run.length;
  if (run === "~" || start >= to || /\s/.test(text[start])) return null;
  if (char === "_" && /\w/.test(text[at - 1] ?? "")) return null;
  let tries = 100; // without a limit, a text of nothing but asterisks takes minutes
  for (let end = text.indexOf(run, start + 1); end > 0 && end + run.length <= to; end = text.indexOf(run, end + 1)) {
    if (!tries--) return null;
    const alone = run.length === 2 || ((end + 1 >= to || text[end + 1] !== char) && text[end - 1] !== char);
    const inWord = char === "_" && /\w/.test(text[end + run.length] ?? "");
    if (!/\s/.test(text[end - 1]) && text[end - 1] !== "\\" && alone && !inWord) {
      const tag = run === "~~" ? "del" : run.length === 2 ? "strong" : "em";
      if (run.length === 2 && text[end + 2] === char && end + 2 < to) end += 1; // of three signs, the first ends inner emphasis
      return { tag, start, end, next: end + run.length };
    }
  }
  return null;
}

function linkAt(text, at, to) {
  const open = text[at] === "!" ? at + 1 : at;
  const middle = closingBracket(text, open, Math.min(to, open + 500), "[", "]");
  if (middle < 0 || text[middle + 1] !== "(") return null;
  const close = closingBracket(text, middle + 1, Math.min(to, middle + 2000), "(", ")");
  if (close < 0) return null;
  const address = text.slice(middle + 2, close).trim().split(/\s/)[0].replace(/^<(.*)>$/, "$1");
  // An image becomes a link: fetching it would reveal the reader to another server.
  const link = { ...linkTo(address), next: close + 1 };
  if (middle > open + 1) return { ...link, start: open + 1, end: middle };
  const start = text.indexOf(address, middle + 2); // a link without words shows its address
  return { ...link, start, end: start + address.length, literal: true };
}

/** Where the bracket closes that opens at `from`; -1 if it does not before `to`. */
function closingBracket(text, from, to, opening, closing) {
  let depth = 0;
  for (let at = from; at < to; at += 1) {
    if (text[at] === "\\") at += 1;
    else if (text[at] === opening) depth += 1;
    else if (text[at] === closing && --depth === 0) return at;
  }
  return -1;
}

function addressAt(text, at, to) {
  if (!/^https?:\/\//.test(text.slice(at, at + 8)) || /\w/.test(text[at - 1] ?? "")) return null;
  let address = /^[^\s<>"'`]+/.exec(text.slice(at, Math.min(to, at + 2000)))[0];
  // The sentence's punctuation is no part of the address, nor is a bracket that opened before it.
  const endsBehind = () =>
    /[.,;:!?\]]$/.test(address) || (address.endsWith(")") && address.split(")").length > address.split("(").length);
  while (endsBehind()) address = address.slice(0, -1);
  return { ...linkTo(address), start: at, end: at + address.length, next: at + address.length, literal: true };
}

/** A link to an address of the web or of mail; any other address becomes words that show it. */
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
