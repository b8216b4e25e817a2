// What was read for one answer: figures, a bar for every token, and the candidates of the one that is pointed at.
import { candidatesTable } from "./candidates.js";
import { byId, element } from "./elements.js";
import { figuresOf, megabytes, percent, speedOf, tokenName, whole } from "./format.js";

/**
 * Shows the tokens of an answer, `{tokens, figures, timed, seconds}`. A token is what a traced stream tells of it.
 * `facts` are those of the model, of which `vocabulary` and `dense_bytes_per_token` are used.
 *
 * Heights are shares of the whole, on an axis from 0 to 100 %: the strip is 100 pixels high, so 1 % is one of them.
 */
export class Strip {
  constructor() {
    this.facts = {};
    this.fullSpeed = undefined;
    this.bars = byId("strip");
    this.bars.addEventListener("pointerover", (event) => this.#pickBar(event.target));
    this.bars.addEventListener("click", (event) => this.#pickBar(event.target));
    this.bars.addEventListener("keydown", (event) => this.#move(event));
    byId("measure").addEventListener("change", () => this.show(this.message));
    this.show(undefined);
  }

  /** Replaces what is shown; undefined shows nothing. */
  show(message) {
    this.message = message;
    this.picked = -1;
    this.bars.replaceChildren();
    this.bars.removeAttribute("aria-activedescendant");
    byId("token").replaceChildren();
    for (const token of message?.tokens ?? []) this.#bar(token);
    this.bars.scrollLeft = 0;
    this.#hint();
    this.figures();
  }

  /** Appends the token that came last. */
  add(token) {
    const atEnd = this.bars.scrollLeft + this.bars.clientWidth >= this.bars.scrollWidth - 20;
    this.#bar(token);
    if (atEnd) this.bars.scrollLeft = this.bars.scrollWidth;
    if (this.bars.children.length === 1) this.#hint();
  }

  /** Points at a token. */
  pick(index) {
    const token = this.message?.tokens?.[index];
    if (!token || index === this.picked) return;
    this.bars.children[this.picked]?.setAttribute("aria-selected", "false");
    this.picked = index;
    const bar = this.bars.children[index];
    bar.setAttribute("aria-selected", "true");
    this.#into(bar);
    this.bars.setAttribute("aria-activedescendant", bar.id);
    byId("token").replaceChildren(candidatesTable(token, index, this.#what(token)));
  }

  /** The figures of the answer, anew. */
  figures() {
    const { message, facts } = this;
    const figures = message?.figures ?? figuresOf(message?.tokens);
    const dense = facts.dense_bytes_per_token;
    const speed = speedOf(message);
    const times = this.fullSpeed && message?.head !== "dense" && speed ? `, ${(speed / this.fullSpeed).toFixed(2)} × full` : "";
    const saved = figures && dense ? Math.max(0, 1 - figures.bytes / dense) : undefined;
    const texts = {
      speed: speed && `${speed.toFixed(1)} tokens/s${times}`,
      "dense-speed": this.fullSpeed ? `${this.fullSpeed.toFixed(1)} tokens/s` : "none yet",
      rows: figures && `${whole(figures.rows)}${facts.vocabulary ? ` of ${whole(facts.vocabulary)}` : ""} (${percent(figures.share)})`,
      bytes: figures && megabytes(figures.bytes) + (dense ? ` of ${megabytes(dense)}` : ""),
      saved: saved === undefined ? undefined : `${percent(saved)}, ${megabytes(saved * dense * figures.count)} so far`,
      // Drawn by chance, a token need not be the likeliest.
      same: figures && message.greedy ? `${figures.likeliest} of ${figures.count} tokens` : undefined,
    };
    for (const [id, text] of Object.entries(texts)) byId(id).textContent = text || "–";
    byId("same").parentElement.hidden = !(texts.same && facts.head === "estimated" && message.head !== "dense");
    const short = [speed && `${speed.toFixed(0)} tokens/s`, saved !== undefined && `${percent(saved)} saved`];
    byId("short-figures").textContent = short.filter(Boolean).join(" · ");
  }

  #bar(token) {
    const index = this.bars.children.length;
    const bar = element("div");
    bar.setAttribute("role", "option");
    bar.setAttribute("aria-selected", "false");
    bar.setAttribute("aria-label", `Token ${index + 1}, ${tokenName(token)}: ${this.#what(token)}`);
    bar.dataset.index = index;
    bar.id = `bar-${index}`;
    const fill = element("div");
    fill.style.height = `${100 * Math.min(1, this.#share(token))}%`;
    bar.append(fill);
    this.bars.append(bar);
  }

  /** The share that the bar of a token shows. */
  #share(token) {
    if (byId("measure").value === "rows") return token.rows_share;
    return this.facts.dense_bytes_per_token ? token.bytes_read / this.facts.dense_bytes_per_token : 0;
  }

  #what(token) {
    return `${whole(token.rows_read)} ${token.rows_read === 1 ? "row" : "rows"} read (${percent(token.rows_share)} of the vocabulary), ${megabytes(token.bytes_read)} in all`;
  }

  #hint() {
    const lost = this.message?.figures && !this.message.tokens?.length;
    byId("strip-help").textContent = lost
      ? "The bars of this answer are no longer kept."
      : "One bar for each token. Point at one, or use the arrow keys, to see what it was chosen from.";
  }

  /** Scrolls the strip alone, so that pointing at a bar never moves the page. */
  #into(bar) {
    const { bars } = this;
    const left = bar.offsetLeft - bars.offsetLeft;
    if (left < bars.scrollLeft) bars.scrollLeft = left;
    else if (left + bar.offsetWidth > bars.scrollLeft + bars.clientWidth) bars.scrollLeft = left + bar.offsetWidth - bars.clientWidth;
  }

  #pickBar(target) {
    const bar = target.closest("[role=option]");
    if (bar) this.pick(Number(bar.dataset.index));
  }

  #move(event) {
    const last = this.bars.children.length - 1;
    const to = { ArrowLeft: this.picked - 1, ArrowRight: this.picked + 1, Home: 0, End: last }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    this.pick(Math.max(0, Math.min(last, to)));
  }
}
