// Elements, built from values and never from a string of HTML.
//
// Text from models and people only ever becomes text nodes. The page's Content-Security-Policy (Trusted Types without a
// policy) forbids every other way.

export const byId = (id) => document.getElementById(id);

/**
 * An element. In `fields`, `on…` are listeners, `class`, `role`, `list` and names with a hyphen are attributes, and all others
 * are properties. Fields that are null or undefined, and children that are null, undefined or false, are left out.
 */
export function el(tag, fields = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(fields)) {
    if (value === undefined || value === null) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "class") element.className = value;
    else if (name === "role" || name === "list" || name.includes("-")) element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** An SVG element with these attributes. */
export function svg(tag, attributes = {}) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

/** Set an element's text only if it differs, so that nothing is laid out or read aloud without a change. */
export function put(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
