// Runs in progress: their events are applied as they arrive, and drawn at a pace that people can read.

import { eventsOf } from "./events.js";
import { server } from "./server.js";

const PACE = 90; // milliseconds between two drawings: people cannot read faster, and a dozen agents may write at once
const TICK = 200; // milliseconds after which durations are drawn anew, also while no event arrives

const inProgress = new Set(); // views, each with `run` and `draw()`
const outdated = new Set();
let isScheduled = false;
let lastDrawn = 0;

/** Draw a view soon, together with all others that have changed. */
export function redraw(view) {
  outdated.add(view);
  if (isScheduled) return;
  isScheduled = true;
  const draw = () => {
    isScheduled = false;
    lastDrawn = performance.now();
    for (const each of outdated) each.draw();
    outdated.clear();
  };
  setTimeout(() => requestAnimationFrame(draw), Math.max(0, lastDrawn + PACE - performance.now()));
}

setInterval(() => {
  for (const view of inProgress) if (!document.hidden) redraw(view);
}, TICK);

/** Apply and draw a run's events until it has ended and its record has arrived; `onEvent` is called after each, and at the end. */
export async function follow(view, signal, onEvent) {
  const { run } = view;
  inProgress.add(view);
  signal.addEventListener("abort", () => inProgress.delete(view));
  try {
    for await (const event of eventsOf(run.id, signal)) {
      run.apply(event);
      onEvent(event);
      redraw(view);
    }
    if (!run.hasEnded) run.end("broken off");
  } finally {
    inProgress.delete(view);
  }
  onEvent();
  view.draw();
  run.record = await (await server.sendUntilAnswered(`/runs/${run.id}`, { signal })).json();
}
