// What is asked of the server for a conversation.

const NUMBERS = ["max_tokens", "temperature", "top_p", "top_k", "min_p", "seed"];

/**
 * The body of a chat completion.
 *
 * Answers without text are left out, and two messages of the user in a row become one, because chat templates
 * want the roles to alternate.
 *
 * @param conversation messages {role, content}
 * @param values of the settings, as a form gives them: text
 * @param head "" for the model's own, or "dense"; `continued` is the answer that is to be continued, if any
 */
export function requestOf(conversation, values, { head, continued }) {
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
    ...Object.fromEntries(numbers.map((name) => [name, Number(values[name])])),
    ...(continued && { continue_final_message: true, add_generation_prompt: false }),
    shortlist: { trace: true, progress: true, ...(head && { head }) },
  };
}
