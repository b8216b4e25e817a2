// What the page asks of the server: which model it runs, and an answer, piece by piece.

/** An answer of the server that says no; `message` is fit to be shown. */
export class Refused extends Error {}

async function fetched(path, options = {}) {
  const response = await fetch(path, options); // a TypeError here means that nobody answers
  if (response.ok) return response;
  const body = await response.json().catch(() => ({}));
  throw new Refused(body.error?.message ?? `the server answered ${response.status} ${response.statusText}`);
}

function headers(key) {
  return { "Content-Type": "application/json", ...(key && { Authorization: `Bearer ${key}` }) };
}

/** The first model of the server, with its facts. */
export async function model(key) {
  const response = await fetched("v1/models", { headers: headers(key) });
  return (await response.json()).data[0];
}

/** Whether the server answers at all. */
export async function alive() {
  return fetch("health").then((response) => response.ok, () => false);
}

/** The chunks of a chat completion, as they come; aborting the signal ends them with an AbortError. */
export async function* chat(request, key, signal) {
  const body = JSON.stringify({ ...request, stream: true, stream_options: { include_usage: true } });
  const response = await fetched("v1/chat/completions", { method: "POST", headers: headers(key), body, signal });
  let rest = "";
  for await (const text of pieces(response.body)) {
    const lines = (rest + text).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      if (!line.startsWith("data: ")) continue;
      const data = line.slice(6);
      if (data === "[DONE]") return;
      const chunk = JSON.parse(data);
      if (chunk.error) throw new Refused(chunk.error.message);
      yield chunk;
    }
  }
  throw new TypeError("the answer broke off");
}

async function* pieces(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  for (let part = await reader.read(); !part.done; part = await reader.read()) yield part.value;
}
