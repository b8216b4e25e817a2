// What is kept of a conversation while its tab is open, so that a reload shows the same.

const CONVERSATION = "shortlist-conversation";
const SETTINGS = "shortlist-settings";

/** Characters that a conversation may take; browsers give a page about five million. */
export const LIMIT = 2_000_000;

/** How many of the last messages are kept. */
export const MESSAGES = 200;

/**
 * The messages as JSON of at most so many characters. Where they would take more, first the candidates of the
 * oldest answers are left out, then their tokens, then the oldest messages; figures of an answer stay with it.
 */
export function packed(messages, limit = LIMIT) {
  const kept = messages.slice(-MESSAGES).map(({ element: _, ...message }) => message);
  const sizes = kept.map((message) => JSON.stringify(message).length + 1);
  let size = sizes.reduce((sum, each) => sum + each, 2);
  const shrink = (index, message) => {
    const before = sizes[index];
    kept[index] = message;
    sizes[index] = message ? JSON.stringify(message).length + 1 : 0;
    size += sizes[index] - before;
  };
  const bare = ({ candidates: _, ...token }) => token;
  for (const step of [
    ({ tokens, ...message }) => ({ ...message, ...(tokens && { tokens: tokens.map(bare) }) }),
    ({ tokens: _, ...message }) => message,
    () => undefined,
  ])
    for (let index = 0; index < kept.length && size > limit; index += 1) shrink(index, step(kept[index]));
  return JSON.stringify(kept.filter(Boolean));
}

export function saveConversation(messages) {
  write(CONVERSATION, packed(messages));
}

export function loadConversation() {
  const found = read(CONVERSATION);
  return Array.isArray(found) ? found.filter((message) => message?.role && typeof message.content === "string") : [];
}

export function saveSettings(settings) {
  write(SETTINGS, JSON.stringify(settings));
}

export function loadSettings() {
  return read(SETTINGS) ?? {};
}

export function forget() {
  sessionStorage.removeItem(CONVERSATION);
}

function write(name, text) {
  try {
    sessionStorage.setItem(name, text);
  } catch {
    sessionStorage.removeItem(name); // better nothing than what is out of date
  }
}

function read(name) {
  try {
    return JSON.parse(sessionStorage.getItem(name));
  } catch {
    return null;
  }
}
