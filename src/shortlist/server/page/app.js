// The conversation: sending, stopping, trying again, continuing, and a server that may go and come back.
import * as api from "./api.js";
import { byId } from "./elements.js";
import { explain, figuresOf, layersDense, speedOf, whole } from "./format.js";
import { draw } from "./messages.js";
import { requestOf, samplingOf } from "./request.js";
import { forget, loadConversation, loadSettings, saveConversation, saveSettings } from "./store.js";
import { Strip } from "./strip.js";

const RETRY_MS = 2000;
const NEAR_END = 40; // pixels above the end at which one still reads along
const NARROW = matchMedia("(max-width: 46rem)");

const messages = byId("messages");
const settings = byId("settings");
const prompt = byId("prompt");
const strip = new Strip();
let conversation = loadConversation(); // see `draw` for what a message is
let running = null; // the AbortController of the answer that is being written
let shown = null; // the answer whose figures are shown
let follow = true; // whether the end of the conversation stays in view
let drawing = 0;
let leaving = false; // a reload ends an answer, too, but says nothing of the server

// ---- what is on the page ----------------------------------------------------------------------------------

const on = {
  shown: () => shown,
  show,
  pick: (message, index) => {
    show(message);
    strip.pick(index);
  },
  continue: (message) => {
    if (!running) answer(message);
  },
  edit: (message) => {
    if (!running && message === conversation.at(-1)) takeBack();
  },
};

function show(message) {
  if (shown === message) return;
  shown?.element?.classList.remove("shown");
  shown = message;
  shown?.element?.classList.add("shown");
  strip.show(message ?? undefined);
}

function add(message) {
  conversation.push(message);
  messages.append(draw(message, on));
}

function toEnd() {
  follow = true;
  messages.scrollTop = messages.scrollHeight;
}

/** Draws a message at the next frame, however often it is asked to before. */
function redrawSoon(message) {
  drawing ||= requestAnimationFrame(() => redraw(message));
}

function redraw(message) {
  cancelAnimationFrame(drawing);
  drawing = 0;
  const stay = follow;
  draw(message, on);
  if (shown === message) strip.figures();
  if (stay) toEnd();
}

function busy(controller) {
  running = controller;
  byId("send").hidden = Boolean(controller);
  byId("stop").hidden = !controller;
  byId("retry").hidden = Boolean(controller) || !conversation.some((message) => message.role === "user");
  byId("clear").disabled = Boolean(controller);
  byId("welcome").hidden = conversation.length > 0;
  for (const button of messages.querySelectorAll(".continue")) button.disabled = Boolean(controller);
}

/** Puts the last message of the user back into the box, without what was answered to it. */
function takeBack() {
  let last;
  do {
    last = conversation.pop();
    last.element.remove();
  } while (last.role !== "user");
  prompt.value = last.content;
  busy(null);
  save();
  prompt.focus();
}

function focusPrompt() {
  if (matchMedia("(pointer: fine)").matches) prompt.focus(); // elsewhere a keyboard would cover the page
}

// ---- an answer --------------------------------------------------------------------------------------------

/** Has the model answer the conversation, or continue an answer of its own. */
async function answer(continued) {
  const head = document.querySelector("input[name=head]:checked").value;
  const values = Object.fromEntries(new FormData(settings));
  const asked = requestOf(conversation, values, { head, continued, suggested: strip.facts.sampling_defaults });
  const message = continued ?? { role: "assistant", content: "", tokens: [] };
  Object.assign(message, { waiting: {}, head, greedy: asked.temperature === 0 });
  for (const name of ["end", "failed", "cut", "figures"]) delete message[name];
  busy(new AbortController());
  if (continued) draw(message, on);
  else add(message);
  show(message);
  toEnd();
  const clock = {};
  try {
    for await (const chunk of api.chat(asked, settings.key.value, running.signal)) take(message, chunk, clock);
    if (head === "dense" && speedOf(message)) strip.fullSpeed = speedOf(message);
    if (!message.content) message.end = "The model ended its answer at once, without any text. Retry, or say it in other words.";
  } catch (error) {
    if (leaving) return;
    failed(message, error);
  }
  delete message.waiting;
  message.figures = figuresOf(message.tokens);
  busy(null);
  redraw(message);
  byId("announcement").textContent = message.content || message.end;
  save();
}

/** Adds what one chunk brings to the message. */
function take(message, chunk, clock) {
  const choice = chunk.choices?.[0];
  if (!choice) return;
  const told = choice.shortlist;
  if (told?.prompt_tokens) message.waiting = { read: told.prompt_read, total: told.prompt_tokens };
  else if (told) {
    const now = performance.now();
    if (clock.latest) {
      message.timed = (message.timed ?? 0) + 1;
      message.seconds = (message.seconds ?? 0) + (now - clock.latest) / 1000 - told.trace_seconds;
    }
    clock.latest = now;
    const chosen = told.candidates.find((candidate) => candidate.chosen);
    const token = { text: choice.delta.content ?? "", ...told, rank: chosen?.rank };
    (message.tokens ??= []).push(token);
    if (shown === message) strip.add(token);
  }
  const piece = choice.delta?.content ?? "";
  message.content += piece;
  if (piece) delete message.waiting;
  if (choice.finish_reason === "length") {
    message.cut = true;
    message.end = "Cut off: the answer reached “max tokens”.";
  }
  redrawSoon(message);
}

function failed(message, error) {
  if (error.name === "AbortError") {
    message.end = stopped(message);
    return;
  }
  message.failed = true;
  const refused = error instanceof api.Refused;
  message.end = refused ? error.message : "The server does not answer. Retry when it is back.";
  if (!refused) waitForServer();
}

function stopped(message) {
  return message.content ? "Stopped." : "Stopped before the first word.";
}

// ---- the server -------------------------------------------------------------------------------------------

async function waitForServer() {
  byId("connection").textContent = "The server does not answer. Trying again …";
  while (!(await api.alive())) await new Promise((done) => setTimeout(done, RETRY_MS));
  byId("connection").textContent = "";
  await facts();
}

async function facts() {
  try {
    const model = await api.model(settings.key.value);
    const known = model.shortlist ?? {};
    strip.facts = known;
    byId("model").textContent = document.title = model.id;
    byId("facts").textContent = [
      `Family ${known.family}`,
      `${known.head} head`,
      `context ${whole(known.context)} tokens`,
      `vocabulary ${whole(known.vocabulary)} tokens`,
      ...(known.notes ?? []),
    ].join(" · ");
    const sampling = samplingOf(known.sampling_defaults);
    for (const name of ["temperature", "top_p", "top_k", "min_p"]) settings.elements[name].placeholder = sampling[name] ?? "off";
    const { text, same } = explain(known);
    byId("about-head").textContent = text;
    byId("heads").hidden = Boolean(same);
    byId("full-label").textContent = layersDense(known) ? "Full (reads everything)" : "Full head (the layers stay as they are)";
    strip.show(shown ?? undefined);
  } catch (error) {
    if (error instanceof api.Refused) {
      byId("connection").textContent = error.message;
      byId("options").open = true; // where a key can be given
    } else waitForServer();
  }
}

// ---- what the user does -----------------------------------------------------------------------------------

function send(content) {
  if (running || !content.trim()) return;
  prompt.value = "";
  add({ role: "user", content: content.trim() });
  answer();
  focusPrompt();
}

function save() {
  saveConversation(conversation);
  const { key: _, ...kept } = Object.fromEntries(new FormData(settings)); // a key is not written anywhere
  const head = document.querySelector("input[name=head]:checked").value;
  saveSettings({ fields: kept, head, fullSpeed: strip.fullSpeed });
}

function restore() {
  const { fields = {}, head = "", fullSpeed } = loadSettings();
  for (const [name, value] of Object.entries(fields)) if (settings.elements[name]) settings.elements[name].value = value;
  const chosen = document.querySelector(`input[name=head][value="${head === "dense" ? "dense" : ""}"]`);
  chosen.checked = true;
  strip.fullSpeed = fullSpeed;
  for (const message of conversation) {
    delete message.waiting; // nobody is writing it any more
    if (message.role === "assistant" && !message.figures) message.end ??= stopped(message);
    messages.append(draw(message, on));
  }
  show(conversation.findLast((message) => message.role === "assistant" && message.figures) ?? null);
  toEnd();
}

byId("prompt-form").addEventListener("submit", (event) => {
  event.preventDefault();
  send(prompt.value);
});

prompt.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  byId("prompt-form").requestSubmit();
});

addEventListener("keydown", (event) => {
  if (event.key === "Escape") running?.abort();
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
  strip.fullSpeed = undefined;
  strip.figures();
  forget();
  save();
  busy(null);
  focusPrompt();
});

for (const example of document.querySelectorAll("#welcome button")) example.addEventListener("click", () => send(example.textContent));

messages.addEventListener("scroll", () => {
  follow = messages.scrollTop + messages.clientHeight >= messages.scrollHeight - NEAR_END;
});
new ResizeObserver(() => follow && toEnd()).observe(messages);

const fold = () => (byId("panel").open = !NARROW.matches);
NARROW.addEventListener("change", fold);
fold();

settings.addEventListener("submit", (event) => event.preventDefault());
settings.addEventListener("change", save);
byId("heads").addEventListener("change", save);
settings.key.addEventListener("change", () => {
  byId("connection").textContent = "";
  facts();
});
addEventListener("pagehide", () => {
  save();
  leaving = true;
});
addEventListener("pageshow", (event) => {
  if (event.persisted) location.reload(); // the browser kept the page, but not its connection
});

restore();
busy(null);
facts();
focusPrompt();
