// The page's addresses: #/ is a new conversation, #/runs/ID a run, #/compare/ID/ID two runs side by side.

export const HOME = "#/";
export const runAddress = (id) => `#/runs/${id}`;
export const comparisonAddress = (ids) => `#/compare/${ids.join("/")}`;

/** What an address names: { kind: "home" | "run" | "comparison", ids }; `invalid` is the first part that is no run ID. */
export function parseAddress(hash) {
  const [, kind, ...ids] = hash.split("/");
  const invalid = kind ? ids.find((id) => !/^[0-9a-f]{32}$/.test(id)) : undefined;
  if (kind === "runs" && ids.length === 1) return { kind: "run", ids, invalid };
  if (kind === "compare" && ids.length === 2) return { kind: "comparison", ids, invalid };
  return { kind: "home", ids: [], invalid };
}

/** Change the address without drawing what it names. */
export function setAddress(address) {
  if (location.hash !== address) history.pushState(null, "", address);
}

/** Go to an address at once: listeners of "hashchange" have run when this returns. */
export function navigate(address) {
  setAddress(address);
  window.dispatchEvent(new HashChangeEvent("hashchange"));
}
