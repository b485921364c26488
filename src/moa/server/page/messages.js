// Messages of a conversation: their text, and how they are shown.

import { el } from "./elements.js";
import { Prose } from "./markdown/prose.js";

/** The text of a message: its string, or its text parts. */
export function textOf(message) {
  const content = message.content ?? "";
  if (typeof content === "string") return content;
  return content.map((part) => (part.type === "text" ? part.text : `[${part.type}]`)).join("\n");
}

/** Tool calls as text, joined from their chunks. */
export function toolCallsText(chunks) {
  const calls = [];
  for (const chunk of chunks) {
    const call = (calls[Number(chunk.index) || 0] ??= { name: "", arguments: "" });
    call.name ||= chunk.function?.name ?? "";
    call.arguments += chunk.function?.arguments ?? "";
  }
  return calls.filter(Boolean).map((call) => `${call.name}(${call.arguments})`).join("\n");
}

/** A question, as the user wrote it. */
export const questionElement = (text) => el("div", { class: "question" }, el("h2", { dir: "auto" }, text));

/** A message of any role, without the layers that an answer came from. */
export function messageElement(message) {
  if (message.role === "user") return questionElement(textOf(message));
  const body = el("div", { class: "prose" });
  new Prose(body).finish(textOf(message));
  const calls = (message.tool_calls ?? []).map((call, index) => ({ ...call, index }));
  if (calls.length) body.append(el("pre", { class: "tools", tabIndex: 0 }, toolCallsText(calls)));
  if (message.role === "assistant") return el("div", { class: "earlier" }, body);
  return el("details", { class: "earlier" }, el("summary", {}, message.role), body);
}
