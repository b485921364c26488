// Before the first question: the mixture that would answer, drawn as it stands.

import { Colours } from "./colours.js";
import { el } from "./elements.js";

export function previewOf({ layers: written = [], aggregator, aggregate, rounds = 1, reads }) {
  const layers = [...written, ...written.slice(-1).flatMap((last) => Array(rounds - 1).fill(last))];
  const colours = new Colours();
  const card = (agent) => {
    const name = agent.name || agent.model.split("/").pop();
    return el("article", { class: `card agent-${colours.of(name)}` },
      el("h4", { title: name }, name), el("p", { class: "model", title: agent.model }, agent.model));
  };
  const columns = layers.map((layer, n) =>
    el("section", { class: "layer", "aria-label": `Layer ${n + 1}` }, el("h3", { class: "layer-name" }, `Layer ${n + 1}`), layer.map(card)));
  const last = aggregate === "central" ? "the proposal most like the others" : (aggregator?.model ?? "");
  const answer = el("article", { class: "answer" }, el("h4", {}, "Answer"), el("p", { class: "model", title: last }, last));
  const flow = el("div", { class: "flow" }, el("div", { class: "layers" }, columns),
    el("section", { class: "layer last", "aria-label": "Aggregator" }, el("h3", { class: "layer-name" }, "Aggregator"), answer));
  const stage = el("div", { class: "stage", "data-layers": String(columns.length) }, flow);
  stage.style.setProperty("--layers", String(columns.length));
  const read = reads === "all-layers" ? "all answers before it" : `${reads ?? "all"} answers of the layer before it`;
  const lead = `Several models answer, layer by layer; each reads ${read}. Ask a question, and watch.`;
  return el("section", { class: "idle-stage", "aria-label": "The mixture that will answer" }, el("h2", { class: "lead" }, lead), stage);
}
