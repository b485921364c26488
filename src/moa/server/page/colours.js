// Colours: one for each agent, highlights in it, and the light or dark theme.

import { byId, put } from "./elements.js";

/** Colours by agent, as numbers of the classes `agent-0` to `agent-7`: a name has the same one in every layer. */
export class Colours {
  constructor() {
    this.names = new Map();
  }

  of(agent) {
    if (!this.names.has(agent)) this.names.set(agent, this.names.size % 8);
    return this.names.get(agent);
  }
}

/** Highlighted passages: one CSS highlight for each colour, so that highlighting changes no element. */
export const highlights = {
  add(colour, ranges) {
    if (!CSS.highlights || !ranges.length) return;
    const name = `agent-${colour}`;
    const highlight = CSS.highlights.get(name) ?? new Highlight();
    for (const range of ranges) highlight.add(range);
    CSS.highlights.set(name, highlight);
  },
  clear() {
    CSS.highlights?.clear();
  },
};

const THEMES = {
  auto: { next: "dark", sign: "◐", label: "Colours: same as the system" },
  dark: { next: "light", sign: "☾", label: "Colours: dark" },
  light: { next: "auto", sign: "☀", label: "Colours: light" },
};

/** Apply the remembered theme, or the one after it if `next`; remember it. */
export function applyTheme({ next = false } = {}) {
  const stored = remembered("theme") ?? document.documentElement.dataset.theme;
  const current = stored in THEMES ? stored : "auto";
  const theme = next ? THEMES[current].next : current;
  if (next) remember("theme", theme);
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  const { sign, label } = THEMES[theme];
  byId("theme").setAttribute("aria-label", label);
  byId("theme").title = label;
  put(byId("theme"), sign);
}

// Some browsers keep nothing for a page, and throw.

function remember(name, value) {
  try {
    localStorage.setItem(name, value);
  } catch {
    // The choice lasts until the page is closed.
  }
}

function remembered(name) {
  try {
    return localStorage.getItem(name);
  } catch {
    return null;
  }
}
