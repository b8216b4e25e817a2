// Small parts that several parts of the page use.

export const byId = (id) => document.getElementById(id);

export function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

/** A button that copies what `text()` gives, and says so for a moment. */
export function copyButton(text, label = "Copy") {
  const button = element("button", "copy", label);
  button.type = "button";
  button.addEventListener("click", async (event) => {
    event.stopPropagation();
    button.textContent = (await copied(text())) ? "Copied" : "Cannot copy";
    setTimeout(() => (button.textContent = label), 1500);
  });
  return button;
}

async function copied(text) {
  try {
    await navigator.clipboard.writeText(text); // undefined on pages that did not come over HTTPS or from this machine
    return true;
  } catch {
    const area = element("textarea", "unseen", "");
    area.value = text;
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
}
