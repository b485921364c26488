// The page's two dialogs: a sheet for anything that needs room, and the prompt for an API key.

import { byId, put } from "./elements.js";
import { server } from "./server.js";

/** Open the sheet with a title, a body and buttons. */
export function openSheet(title, children, actions = []) {
  put(byId("sheet-title"), title);
  byId("sheet-body").replaceChildren(...children);
  byId("sheet-actions").replaceChildren(...actions);
  byId("sheet").showModal();
}

let prompting = null; // the prompt that is open: requests that fail at the same time share it

/** Prompt for the server's API key; resolves to whether the user gave one. The page keeps it in memory only. */
export function promptForKey() {
  prompting ??= new Promise((resolve) => {
    const dialog = byId("key");
    byId("key-value").value = "";
    dialog.returnValue = "";
    dialog.addEventListener("close", () => {
      server.key = dialog.returnValue === "use" ? byId("key-value").value.trim() : "";
      byId("key-value").value = "";
      prompting = null;
      resolve(Boolean(server.key));
    }, { once: true });
    dialog.showModal();
  });
  return prompting;
}

/** Connect the dialogs' own close buttons. */
export function listenToDialogs() {
  byId("sheet-close").addEventListener("click", () => byId("sheet").close());
  byId("key-cancel").addEventListener("click", () => byId("key").close());
}
