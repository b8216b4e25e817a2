// The table of what one token was chosen from.
import { element } from "./elements.js";
import { nameOf, percent, tokenName } from "./format.js";

/** A table of the candidates of a token; `what` says what was read for it. */
export function candidatesTable(token, index, what) {
  const table = element("table");
  table.createCaption().textContent = `Token ${index + 1}, ${tokenName(token)}: ${what}`;
  const candidates = token.candidates ?? [];
  if (!candidates.length) return table;
  const estimates = candidates.some((candidate) => candidate.estimated !== null);
  const columns = ["rank", "token", ...(estimates ? ["estimate"] : []), "exact", "probability"];
  const head = table.createTHead().insertRow();
  for (const title of columns) {
    const cell = element("th", "", title);
    cell.scope = "col";
    head.append(cell);
  }
  const body = table.createTBody();
  for (const candidate of candidates) {
    const row = body.insertRow();
    if (candidate.chosen) row.className = "chosen";
    row.insertCell().textContent = candidate.rank;
    const name = row.insertCell();
    name.append(element("span", candidate.special ? "special" : "", nameOf(candidate)));
    if (candidate.chosen) name.append(element("strong", "", " ✓ chosen"));
    if (estimates) row.insertCell().textContent = `${signed(candidate.estimated)} ± ${candidate.spread.toFixed(2)}`;
    row.insertCell().textContent = signed(candidate.exact);
    row.insertCell().textContent = percent(candidate.probability);
  }
  return table;
}

/** With a minus sign that is as wide as a digit. */
function signed(value) {
  return value.toFixed(2).replace("-", "−");
}
