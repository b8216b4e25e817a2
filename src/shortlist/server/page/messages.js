// How a message looks: what was said, how it ended, and what can be done with it.
import { copyButton, element } from "./elements.js";
import { tokenName } from "./format.js";
import { build, parse } from "./markdown.js";

/**
 * The element of a message, {role, content, tokens?, end?, failed?, waiting?, cut?, asTokens?}.
 *
 * @param on what its parts call: show(message), pick(message, index), continue(message),
 *   edit(message)
 */
export function draw(message, on) {
  const kind = message.role === "user" ? "user" : message.content || message.waiting ? "assistant" : "note";
  const made = element("article", `message ${kind}${message.failed ? " failed" : ""}${message === on.shown() ? " shown" : ""}`);
  if (kind !== "note") made.append(title(message, on));
  if (message.waiting) made.append(waiting(message.waiting));
  if (message.content) made.append(body(message, on));
  if (message.end) made.append(ending(message, on));
  if (message.role === "assistant") made.addEventListener("click", () => on.show(message));
  message.element?.replaceWith(made);
  message.element = made;
  return made;
}

function title(message, on) {
  const made = element("header");
  made.append(element("h3", "", message.role === "user" ? "You" : "Model"));
  if (!message.content) return made;
  if (message.tokens?.length) {
    const button = element("button", "as-tokens", message.asTokens ? "Text" : "Tokens");
    button.type = "button";
    button.title = message.asTokens ? "Show the text" : "Show the text token by token, white space visible";
    button.addEventListener("click", (event) => {
      event.stopPropagation();
      message.asTokens = !message.asTokens;
      on.show(message);
      draw(message, on);
    });
    made.append(button);
  }
  made.append(copyButton(() => message.content));
  return made;
}

/** What is known while there is no text: {read, total} once a part of the prompt is read. */
function waiting({ read, total }) {
  const made = element("div", "waiting");
  if (!total) {
    made.textContent = "Waiting for the first word …";
    return made;
  }
  const bar = element("progress");
  bar.max = total;
  bar.value = read;
  bar.setAttribute("aria-label", "How much of the conversation is read");
  const count = new Intl.NumberFormat("en");
  made.append(`Reading the conversation: ${count.format(read)} of ${count.format(total)} tokens`, bar);
  return made;
}

function body(message, on) {
  if (message.role === "user") return element("div", "text", message.content);
  if (!message.asTokens) {
    const made = element("div", "rendered");
    made.append(build(parse(message.content), (code) => copyButton(() => code)));
    return made;
  }
  const made = element("div", "text");
  message.tokens.forEach((token, index) => {
    const name = tokenName(token);
    const span = element("span", "token", name);
    span.addEventListener("pointerover", () => on.pick(message, index));
    made.append(span);
    if (name.includes("⏎")) made.append("\n");
  });
  return made;
}

function ending(message, on) {
  const made = element("div", "end");
  if (message.failed) made.setAttribute("role", "alert");
  made.append(element("span", "", message.end));
  if (message.cut) made.append(action("continue", "Continue", () => on.continue(message)));
  if (message.failed && !message.content) made.append(action("edit", "Edit message", () => on.edit(message)));
  return made;
}

function action(name, label, act) {
  const button = element("button", name, label);
  button.type = "button";
  button.addEventListener("click", (event) => {
    event.stopPropagation();
    act();
  });
  return button;
}
