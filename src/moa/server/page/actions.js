// What the user can press, and how the page reports what came of it.

import { byId, el, put } from "./elements.js";
import { RequestFailed } from "./server.js";

/** Have screen readers read a message aloud. */
export function announce(message) {
  put(byId("status"), message);
}

/** Show an error beside the question box, until another action begins. */
export function showProblem(message) {
  put(byId("problem"), message);
  byId("problem").hidden = !message;
}

/** Do something that the server may refuse, and show its message if it does. */
export async function attempt(work) {
  showProblem("");
  try {
    return await work();
  } catch (error) {
    if (error instanceof RequestFailed) showProblem(error.message);
    else if (error.name !== "AbortError") throw error; // a bug of the page
  }
}

/** A button. Its work may take a while and may be refused; presses in the meantime do nothing. */
export function button(label, work, fields = {}) {
  let busy = false;
  const onclick = async () => {
    if (busy) return;
    busy = true;
    await attempt(work).finally(() => (busy = false));
  };
  return el("button", { type: "button", onclick, ...fields }, label);
}

/** A button that copies what `text()` returns to the clipboard. */
export function copyButton(label, text, fields = {}) {
  const copier = button(label, async () => {
    let copied = true;
    try {
      await navigator.clipboard.writeText(text());
    } catch {
      // The clipboard API needs permission and a secure context; this older way does not.
      const area = el("textarea", { value: text(), class: "visually-hidden" });
      (copier.closest("dialog") ?? document.body).append(area);
      area.select();
      copied = document.execCommand("copy");
      area.remove();
      copier.focus();
    }
    const result = copied ? "Copied" : "Could not copy";
    put(copier, result);
    announce(result);
    setTimeout(() => put(copier, label), 1500);
  }, fields);
  return copier;
}

/** Have the browser save a text as a file. */
export function download(name, text, type) {
  const link = el("a", { href: URL.createObjectURL(new Blob([text], { type })), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}
