// A run's events: read from the server, over as many connections as it takes.

import { delay, server } from "./server.js";

const SILENCE = 45_000; // milliseconds after which a silent connection counts as broken; the server sends something every 10 s
const LAST = new Set(["run_finished", "run_failed", "run_stopped"]);

/** The events of a run, from its first. Ends with the run's last event, or when the server has no more. */
export async function* eventsOf(id, signal) {
  for (let last = 0; ; ) {
    const headers = last ? { "last-event-id": String(last) } : {};
    const response = await server.sendUntilAnswered(`/runs/${id}/events`, { signal, headers });
    if (response.status === 204) return; // the run has ended, and there are no events after the last one received
    for await (const [number, event] of numberedEvents(response, signal)) {
      last = number;
      yield event;
      if (LAST.has(event.event)) return;
    }
    await delay(300); // the connection broke: resume after the last event received
    signal.throwIfAborted();
  }
}

/** The events of one connection as [number, event], until it ends, breaks or falls silent. */
export async function* numberedEvents(response, signal) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let alarm = 0;
  try {
    for (let rest = ""; ; ) {
      clearTimeout(alarm);
      alarm = setTimeout(() => reader.cancel().catch(() => {}), SILENCE);
      const { value, done } = await reader.read().catch(() => ({ done: true }));
      signal.throwIfAborted();
      if (done) return;
      const blocks = (rest + value).split("\n\n");
      rest = blocks.pop();
      for (const block of blocks) {
        const found = /^id: (\d+)\ndata: ([^]*)$/.exec(block); // all other blocks are keep-alive comments
        if (found) yield [Number(found[1]), JSON.parse(found[2])];
      }
    }
  } finally {
    clearTimeout(alarm);
    reader.cancel().catch(() => {}); // the connection may be open: the caller stops at the run's last event
  }
}
