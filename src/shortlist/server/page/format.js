// Numbers and tokens as people read them. Nothing here touches the page, so that it can be tested without a browser.

const count = new Intl.NumberFormat("en");
const digits = new Intl.NumberFormat("en", { maximumSignificantDigits: 2 });

export function whole(number) {
  return count.format(Math.round(number));
}

/** A share as a percentage: two digits, but never 100 % or 0 % where it is not that. */
export function percent(share) {
  const value = 100 * share;
  if (value > 0 && value < 0.01) return "< 0.01 %";
  if (value > 99 && value < 100) return `${Math.floor(100 * value) / 100} %`;
  return `${digits.format(value)} %`;
}

export function megabytes(bytes) {
  return bytes < 1e9 ? `${(bytes / 1e6).toFixed(1)} MB` : `${(bytes / 1e9).toFixed(2)} GB`;
}

/** A token with what cannot be seen made visible: spaces, tabs, line ends, other control characters. */
export function visible(text) {
  return text
    .replaceAll(" ", "␣")
    .replaceAll("\t", "⇥")
    .replaceAll("\r", "␍")
    .replaceAll("\n", "⏎")
    .replace(/[\u0000-\u001f\u007f-\u00a0\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g, (character) =>
      `⟨U+${character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`);
}

/** The name of a candidate: its text, or its bytes where they are only a part of a character, or its number. */
export function nameOf(candidate) {
  if (candidate.text.includes("\ufffd") && candidate.bytes?.length)
    return `bytes ${candidate.bytes.map((byte) => byte.toString(16).padStart(2, "0")).join(" ")}`;
  return candidate.text ? visible(candidate.text) : `token ${candidate.token}`;
}

/** The name of the token that a trace tells of. */
export function tokenName(token) {
  const chosen = token.candidates?.find((candidate) => candidate.chosen);
  return chosen ? nameOf(chosen) : visible(token.text) || `token ${token.token}`;
}

/** Means over the tokens of an answer; undefined where there are none. */
export function figuresOf(tokens) {
  if (!tokens?.length) return undefined;
  const mean = (name) => tokens.reduce((sum, token) => sum + token[name], 0) / tokens.length;
  return {
    count: tokens.length,
    rows: mean("rows_read"),
    share: mean("rows_share"),
    bytes: mean("bytes_read"),
    likeliest: tokens.filter((token) => token.rank === 1).length,
  };
}

/** Tokens a second, without the time that the measuring took; undefined while there is nothing to tell. */
export function speedOf({ timed, seconds } = {}) {
  return timed && seconds > 0 ? timed / seconds : undefined;
}

/** What the fast way of a model does, in words: {text, differs, same}. `facts` are those of `/v1/models`. */
export function explain(facts) {
  const all = layersDense(facts);
  switch (facts.head) {
    case "dense":
      return { same: all, text: all
        ? "This model is served without a shortlist: every token reads everything, so fast and full are the same."
        : "The layers are shortlisted; the head reads its whole vocabulary for every token." };
    case "exact":
      return { text: "Fast reads half of every row of the vocabulary, and the rest only of the rows that can still be chosen. "
        + "Its text is always that of full." };
    default:
      return { differs: true, text: "Fast estimates which tokens can be chosen and reads only their rows. "
        + `Its text may differ from full: ${howOften(facts.recipe?.measured)}` };
  }
}

/** How often the text of a recipe's model differed from that of the full one, as the recipe measured it. */
function howOften(measured) {
  const { tokens, shortlisted } = measured?.whole ?? measured?.head ?? {};
  if (!tokens || typeof shortlisted?.agreement !== "number") return "how often was not measured.";
  return `when that was measured, ${whole(tokens * (1 - shortlisted.agreement))} of ${whole(tokens)} tokens did.`;
}

/** Whether all layers are read whole, so that the full head reads everything there is. */
export function layersDense(facts) {
  return (facts.ffn ?? "dense") === "dense" && !Object.entries(facts.recipe?.sites ?? {}).some(([site, part]) => part && site !== "head");
}
