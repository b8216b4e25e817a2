// What was read for one answer: figures, a bar for every token, and the candidates of the one that is pointed at.

const byId = (id) => document.getElementById(id);
const count = new Intl.NumberFormat("en");
const percent = new Intl.NumberFormat("en", { maximumSignificantDigits: 2 });

function megabytes(bytes) {
  return bytes < 1e9 ? `${(bytes / 1e6).toFixed(1)} MB` : `${(bytes / 1e9).toFixed(2)} GB`;
}

function mean(values) {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

/**
 * Shows the tokens of an answer. `onPick` is called with the index of the token that is pointed at.
 *
 * A token is what a traced stream tells of it, and its text: {text, rows_read, bytes_read, dense_rank, candidates:
 * [{text, estimated, exact}]}. `facts` are those of the model, of which vocabulary and dense_bytes_per_token are used.
 */
export class Strip {
  constructor(onPick) {
    this.onPick = onPick;
    this.facts = {};
    this.bars = byId("strip");
    this.bars.addEventListener("pointerover", (event) => this.#pickBar(event.target));
    this.bars.addEventListener("click", (event) => this.#pickBar(event.target));
    this.bars.addEventListener("keydown", (event) => this.#move(event));
    this.show([]);
  }

  /** Replaces what is shown. */
  show(tokens) {
    this.tokens = [];
    this.picked = -1;
    this.bars.replaceChildren();
    byId("token").replaceChildren();
    for (const id of ["speed", "rows", "bytes", "saved"]) byId(id).textContent = "–";
    for (const token of tokens) this.add(token);
  }

  /** Appends a token. */
  add(token) {
    const index = this.tokens.push(token) - 1;
    const bar = document.createElement("div");
    bar.setAttribute("role", "option");
    bar.setAttribute("aria-selected", "false");
    bar.setAttribute("aria-label", `Token ${index + 1}, ${token.text.trim() || "white space"}: ${this.#share(token)}`);
    bar.dataset.index = index;
    bar.id = `bar-${index}`;
    const height = Math.log(1 + token.rows_read) / Math.log(1 + (this.facts.vocabulary || token.rows_read));
    bar.style.height = `${100 * height}%`;
    const atEnd = this.bars.scrollLeft + this.bars.clientWidth >= this.bars.scrollWidth - 20;
    this.bars.append(bar);
    if (atEnd) this.bars.scrollLeft = this.bars.scrollWidth;
    this.#figures();
  }

  /** Points at a token. */
  pick(index) {
    if (index < 0 || index >= this.tokens.length || index === this.picked) return;
    this.bars.children[this.picked]?.setAttribute("aria-selected", "false");
    this.picked = index;
    const bar = this.bars.children[index];
    bar.setAttribute("aria-selected", "true");
    bar.scrollIntoView({ block: "nearest", inline: "nearest" });
    this.bars.setAttribute("aria-activedescendant", bar.id);
    this.#describe(this.tokens[index], index);
    this.onPick(index);
  }

  #pickBar(target) {
    if (target.dataset.index !== undefined) this.pick(Number(target.dataset.index));
  }

  #move(event) {
    const last = this.tokens.length - 1;
    const to = { ArrowLeft: this.picked - 1, ArrowRight: this.picked + 1, Home: 0, End: last }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    this.pick(Math.max(0, Math.min(last, to)));
  }

  #share(token) {
    const share = (100 * token.rows_read) / this.facts.vocabulary;
    return `${count.format(token.rows_read)} rows${this.facts.vocabulary ? `, ${percent.format(share)} %` : ""}`;
  }

  #figures() {
    const { tokens, facts } = this;
    byId("rows").textContent = this.#share({ rows_read: Math.round(mean(tokens.map((token) => token.rows_read))) });
    const bytes = mean(tokens.map((token) => token.bytes_read));
    byId("bytes").textContent = megabytes(bytes) + (facts.dense_bytes_per_token ? ` of ${megabytes(facts.dense_bytes_per_token)}` : "");
    if (facts.dense_bytes_per_token) byId("saved").textContent = megabytes(tokens.length * Math.max(0, facts.dense_bytes_per_token - bytes));
  }

  #describe(token, index) {
    const table = document.createElement("table");
    const rank = token.dense_rank === undefined || token.dense_rank === null ? "" : `, rank ${token.dense_rank} of the dense head`;
    table.createCaption().textContent = `Token ${index + 1}, ${JSON.stringify(token.text)}: ${this.#share(token)}${rank}`;
    const head = table.createTHead().insertRow();
    for (const title of ["candidate", "estimated", "exact"]) {
      const cell = document.createElement("th");
      cell.scope = "col";
      cell.textContent = title;
      head.append(cell);
    }
    const body = table.createTBody();
    for (const candidate of token.candidates ?? []) {
      const row = body.insertRow();
      row.insertCell().textContent = candidate.text;
      for (const score of [candidate.estimated, candidate.exact])
        row.insertCell().textContent = score === undefined || score === null ? "–" : score.toFixed(2);
    }
    byId("token").replaceChildren(table);
  }
}
