// The conversation: what was said, sending, stopping, trying again, and a server that may go and come back.
import * as api from "./api.js";
import { Strip } from "./strip.js";

const byId = (id) => document.getElementById(id);
const messages = byId("messages");
const settings = byId("settings");
const STORE = "shortlist-conversation";
const SETTINGS = "shortlist-settings";
const RETRY_MS = 2000;

const strip = new Strip((index) => markToken(index));
let conversation = JSON.parse(sessionStorage.getItem(STORE) ?? "[]"); // {role, content, tokens?, end?, failed?}
let running = null; // the AbortController of the answer that is being written
let shown = null; // the answer whose tokens the strip shows
let denseSpeed = null;

// ---- what is on the page ----------------------------------------------------------------------------------

function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

/** The element of a message, new or anew. */
function draw(message) {
  const made = element("article", `message ${message.role}${message.failed ? " failed" : ""}`);
  made.append(element("h3", "", message.role === "user" ? "You" : "Model"));
  const text = element("p");
  if (message.tokens?.length) {
    message.tokens.forEach((token, index) => text.append(tokenSpan(message, token, index)));
  } else text.textContent = message.content;
  made.append(text);
  if (message.end) made.append(element("p", "end", message.end));
  if (message.role === "assistant") made.addEventListener("click", () => show(message));
  message.element?.replaceWith(made);
  message.element = made;
  return made;
}

function tokenSpan(message, token, index) {
  const span = element("span", "token", token.text);
  span.addEventListener("pointerover", () => {
    show(message);
    strip.pick(index);
  });
  return span;
}

function show(message) {
  if (shown === message) return;
  shown = message;
  strip.show(message?.tokens ?? []);
  if (message?.speed) byId("speed").textContent = speedText(message.speed);
}

/** Shows a message anew, when the facts of the model are known. */
function redraw(message) {
  shown = null;
  show(message);
}

function markToken(index) {
  for (const old of messages.querySelectorAll(".chosen")) old.classList.remove("chosen");
  shown?.element?.querySelectorAll(".token")[index]?.classList.add("chosen");
}

function speedText(speed) {
  const times = denseSpeed ? `, ${(speed / denseSpeed).toFixed(2)} × dense` : "";
  return `${speed.toFixed(1)} tokens/s${times}`;
}

function save() {
  const kept = conversation.map(({ element: _, ...message }) => message);
  try {
    sessionStorage.setItem(STORE, JSON.stringify(kept));
  } catch {
    sessionStorage.setItem(STORE, JSON.stringify(kept.map(({ tokens: _, ...message }) => message))); // too long
  }
}

function busy(controller) {
  running = controller;
  byId("send").hidden = Boolean(controller);
  byId("stop").hidden = !controller;
  byId("retry").disabled = Boolean(controller) || !conversation.some((message) => message.role === "user");
  byId("clear").disabled = Boolean(controller);
}

// ---- an answer --------------------------------------------------------------------------------------------

function request(head) {
  const values = Object.fromEntries(new FormData(settings));
  const numbers = ["max_tokens", "temperature", "top_p", "top_k", "min_p", "seed"].filter((name) => values[name] !== "");
  const system = values.system.trim();
  const said = conversation.filter((message) => message.content && !message.failed);
  return {
    messages: [
      ...(system ? [{ role: "system", content: system }] : []),
      ...said.map(({ role, content }) => ({ role, content })),
    ],
    ...Object.fromEntries(numbers.map((name) => [name, Number(values[name])])),
    shortlist: { trace: true, ...(head && { head }) },
  };
}

async function answer() {
  const head = document.querySelector("input[name=head]:checked").value;
  const asked = request(head);
  const message = { role: "assistant", content: "", tokens: [] };
  conversation.push(message);
  messages.append(draw(message));
  show(message);
  busy(new AbortController());
  let first = null;
  try {
    for await (const chunk of api.chat(asked, settings.key.value, running.signal)) {
      const now = performance.now();
      first ??= now;
      take(message, chunk);
      if (message.tokens.length > 1 && now > first) {
        message.speed = (message.tokens.length - 1) / ((now - first) / 1000);
        byId("speed").textContent = speedText(message.speed);
      }
    }
    if (head === "dense" && message.speed) {
      denseSpeed = message.speed;
      byId("dense-speed").textContent = speedText(denseSpeed);
    }
  } catch (error) {
    failed(message, error);
  }
  busy(null);
  if (message.end || message.tokens.length) draw(message);
  byId("announcement").textContent = message.content || message.end;
  save();
}

/** Adds what one chunk brings to the message. */
function take(message, chunk) {
  const choice = chunk.choices?.[0];
  const piece = choice?.delta?.content ?? "";
  const text = message.element.querySelector("p");
  const atEnd = messages.scrollTop + messages.clientHeight >= messages.scrollHeight - 40;
  message.content += piece;
  if (choice?.shortlist) {
    const token = { text: piece, ...choice.shortlist };
    message.tokens.push(token);
    if (shown === message) strip.add(token);
    text.append(tokenSpan(message, token, message.tokens.length - 1));
  }
  if (choice?.finish_reason === "length") message.end = "Stopped at the most tokens that the settings allow.";
  if (atEnd) messages.scrollTop = messages.scrollHeight;
}

function failed(message, error) {
  if (error.name === "AbortError") {
    message.end = "Stopped.";
    return;
  }
  message.failed = !message.content;
  message.end = error instanceof api.Refused ? error.message : "The server does not answer. Retry when it is back.";
  if (!(error instanceof api.Refused)) waitForServer();
}

// ---- the server -------------------------------------------------------------------------------------------

async function waitForServer() {
  byId("connection").textContent = "The server does not answer. Trying again …";
  while (!(await api.alive())) await new Promise((done) => setTimeout(done, RETRY_MS));
  byId("connection").textContent = "";
  await facts();
}

/** What a recipe makes of the head, in a few words. */
function fitted(recipe) {
  const head = recipe?.parts?.head;
  if (!head) return "";
  const { name, rank } = head.estimator;
  return ` (${[name, rank && `rank ${rank}`, head.selector.name].filter(Boolean).join(", ")})`;
}

async function facts() {
  try {
    const model = await api.model(settings.key.value);
    const known = model.shortlist ?? {};
    strip.facts = known;
    byId("facts").textContent = [
      `${model.id}, ${known.family}`,
      `${known.head} head${fitted(known.recipe)}`,
      `context ${known.context}`,
      ...(known.notes ?? []),
    ].join(" · ");
    if (shown) redraw(shown);
  } catch (error) {
    if (error instanceof api.Refused) byId("facts").textContent = error.message;
    else waitForServer();
  }
}

// ---- what the user does -----------------------------------------------------------------------------------

byId("prompt-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const content = byId("prompt").value.trim();
  if (running || !content) return;
  byId("prompt").value = "";
  conversation.push({ role: "user", content });
  messages.append(draw(conversation.at(-1)));
  answer();
});

byId("prompt").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  byId("prompt-form").requestSubmit();
});

byId("stop").addEventListener("click", () => running?.abort());

byId("retry").addEventListener("click", () => {
  while (conversation.at(-1).role !== "user") conversation.pop().element.remove();
  answer();
});

byId("clear").addEventListener("click", () => {
  conversation = [];
  messages.replaceChildren();
  show(null);
  save();
  busy(null);
});

settings.addEventListener("submit", (event) => event.preventDefault());
settings.addEventListener("change", () => {
  const { key: _, ...kept } = Object.fromEntries(new FormData(settings)); // a key is not written anywhere
  sessionStorage.setItem(SETTINGS, JSON.stringify(kept));
});
settings.key.addEventListener("change", facts);
addEventListener("pagehide", save);

for (const [name, value] of Object.entries(JSON.parse(sessionStorage.getItem(SETTINGS) ?? "{}")))
  settings.elements[name].value = value;

for (const message of conversation) messages.append(draw(message));
show(conversation.findLast((message) => message.role === "assistant") ?? null);
busy(null);
facts();
