// What is asked of the server for a conversation.

const NUMBERS = ["max_tokens", "temperature", "top_p", "top_k", "min_p", "seed"];

/** How a chat samples where the model's files say no temperature: as `shortlist chat` does. */
export const USUAL = { temperature: 0.8, top_k: 40, top_p: 0.95, min_p: 0.05 };

/** How a chat samples where the settings say nothing; `suggested` is what the model's files say. */
export function samplingOf(suggested = {}) {
  return { ...("temperature" in suggested ? {} : USUAL), ...suggested };
}

/**
 * The body of a chat completion.
 *
 * Answers without text are left out, and two messages of the user in a row become one, because chat templates
 * want the roles to alternate.
 *
 * @param conversation messages {role, content}
 * @param values of the settings, as a form gives them: text
 * @param head "" for the model's own, or "dense"; `continued` is the answer that is to be continued, if any;
 *   `suggested` is for `samplingOf`
 */
export function requestOf(conversation, values, { head, continued, suggested }) {
  const said = [];
  const system = (values.system ?? "").trim();
  if (system) said.push({ role: "system", content: system });
  for (const { role, content } of conversation) {
    if (!content) continue;
    if (role === "user" && said.at(-1)?.role === "user") said.at(-1).content += `\n\n${content}`;
    else said.push({ role, content });
  }
  const numbers = NUMBERS.filter((name) => (values[name] ?? "") !== "");
  return {
    messages: said,
    ...samplingOf(suggested),
    ...Object.fromEntries(numbers.map((name) => [name, Number(values[name])])),
    ...(continued && { continue_final_message: true, add_generation_prompt: false }),
    shortlist: { trace: true, progress: true, ...(head && { head }) },
  };
}
