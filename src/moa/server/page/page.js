// The page's beginning: it connects the modules, listens to the controls, and shows what the address names.

import { attempt, showProblem } from "./actions.js";
import { HOME, navigate, parseAddress } from "./addresses.js";
import { applyTheme } from "./colours.js";
import { conversation } from "./conversation.js";
import { listenToDialogs, promptForKey } from "./dialogs.js";
import { editor } from "./editor.js";
import { byId } from "./elements.js";
import { runList } from "./runlist.js";
import { RequestFailed, server } from "./server.js";

let visit = new AbortController(); // aborted when the user leaves the address

function connect() {
  server.promptForKey = promptForKey;
  server.onRetry = showProblem;
  server.onRecovery = (message) => {
    if (byId("problem").textContent === message) showProblem("");
  };
  editor.onRunAgain = () => conversation.lastTurn.runAgain();
  editor.onChange = () => {
    if (document.body.classList.contains("idle")) conversation.showPreview();
  };
}

/** Show what the address names. */
function route() {
  visit.abort();
  visit = new AbortController();
  const { signal } = visit;
  attempt(async () => {
    byId("main").setAttribute("aria-busy", "true");
    try {
      await show(parseAddress(location.hash), signal);
    } catch (error) {
      if (!signal.aborted) conversation.showHome();
      throw error;
    } finally {
      if (!signal.aborted) byId("main").removeAttribute("aria-busy");
    }
    if (document.activeElement !== byId("question")) byId("main").focus({ preventScroll: true });
    runList.load();
  });
}

async function show({ kind, ids, invalid }, signal) {
  if (invalid !== undefined) throw new RequestFailed(404, `'${invalid}' is not a run ID.`);
  if (kind === "run") await conversation.showRun(ids[0], signal);
  else if (kind === "comparison") await conversation.showComparison(ids, signal);
  else conversation.showHome();
}

async function submit(event) {
  event.preventDefault();
  const question = byId("question").value.trim();
  if (!question || conversation.sending) return;
  if (byId("send").hidden) {
    showProblem("A run is in progress. Stop it, or ask after it has ended.");
    return;
  }
  if (!(await attempt(() => conversation.ask(question, visit.signal)))) return; // the question stays, to be sent again
  if (byId("question").value.trim() === question) byId("question").value = "";
  fitQuestion();
}

/** Make the question box as high as its text, up to 40 % of the window. */
function fitQuestion() {
  const area = byId("question");
  area.style.height = "auto";
  area.style.height = `${Math.min(area.scrollHeight + 2, window.innerHeight * 0.4)}px`;
}

function listen() {
  byId("ask").addEventListener("submit", submit);
  byId("question").addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    byId("ask").requestSubmit();
  });
  byId("question").addEventListener("input", fitQuestion);
  byId("stop").addEventListener("click", () => conversation.stop());
  byId("mixture").addEventListener("change", ({ target }) => target.value && editor.choose(target.value));
  byId("change").addEventListener("click", () => editor.toggle());
  byId("new").addEventListener("click", () => {
    navigate(HOME);
    byId("question").focus();
  });
  byId("to-answer").addEventListener("click", () => {
    conversation.lastTurn?.stage.answer.scrollIntoView({ block: "start", behavior: "smooth" });
  });
  byId("theme").addEventListener("click", () => applyTheme({ next: true }));
  document.addEventListener("keydown", (event) => {
    if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, textarea, select, dialog")) return;
    event.preventDefault();
    byId("question").focus();
  });
  window.addEventListener("hashchange", route);
  runList.listen();
  listenToDialogs();
}

async function begin() {
  connect();
  applyTheme();
  listen();
  const loaded = await attempt(async () => {
    await editor.load();
    return true;
  });
  if (!loaded) return;
  if (matchMedia("(min-width: 1500px)").matches) runList.open(true);
  route();
}

begin();
