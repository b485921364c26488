// Numbers as people read them. Pure: no document, no server.

const grouped = new Intl.NumberFormat("en");
const twoDigits = new Intl.NumberFormat("en", { maximumSignificantDigits: 2 });

export const count = (number) => grouped.format(number);
export const percent = (share) => (share > 0 && share < 0.005 ? "under 1 %" : `${Math.round(share * 100)} %`);
export const plural = (number, noun) => `${count(number)} ${noun}${number === 1 ? "" : "s"}`;

/** A duration in seconds; empty if it is unknown. */
export function seconds(value) {
  if (value === null || value === undefined) return "";
  if (value < 9.95) return `${value.toFixed(1)} s`;
  const whole = Math.round(value);
  if (whole < 120) return `${whole} s`;
  return `${Math.floor(whole / 60)} min${whole % 60 ? ` ${whole % 60} s` : ""}`;
}

/** US dollars, four digits behind the point; smaller amounts keep two significant digits. */
export function money(dollars, atLeast = false) {
  if (dollars === null || dollars === undefined) return "cost unknown";
  return `${atLeast ? "at least " : ""}$${dollars >= 0.001 ? dollars.toFixed(4) : twoDigits.format(dollars)}`;
}

/** How long ago a time is; `time` and `now` in seconds since 1970. */
export function ago(time, now = Date.now() / 1000) {
  const age = now - time;
  if (age < 60) return "just now";
  if (age < 3600) return `${Math.floor(age / 60)} min ago`;
  if (age < 86400) return `${Math.floor(age / 3600)} h ago`;
  return new Date(time * 1000).toLocaleDateString(undefined, { dateStyle: "medium" });
}
