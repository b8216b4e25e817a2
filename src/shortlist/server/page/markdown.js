// Markdown as a tree, and the tree as elements.
//
// What a model writes is not to be trusted. Here it never becomes HTML: `parse` gives nodes with a fixed set of tags,
// `build` makes elements of them and puts text into text nodes. Links go to http, https and mail only, images are
// shown as links, so nothing is fetched.

const DEEPEST = 12; // quotes and lists in each other
const FENCE = /^ {0,3}(`{3,}|~{3,})([^`]*)$/;
const HEADING = /^ {0,3}(#{1,6})[ \t]+(.*)$/;
const RULE = /^ {0,3}(?:(?:\*[ \t]*){3,}|(?:-[ \t]*){3,}|(?:_[ \t]*){3,})$/;
const ITEM = /^( *)([-*+]|\d{1,9}[.)])([ \t]+|$)/;
const QUOTE = /^ {0,3}> ?/;
const SAFE = /^(https?:\/\/|mailto:)[^\s<>"]+$/i;
const BARE = /https?:\/\/[^\s<>"]*[^\s<>"'.,;:!?)\]}*_`]/y;
const MARKS = { "**": "strong", "__": "strong", "*": "em", "_": "em", "~~": "s" };

/** A text as a list of nodes: strings, and {tag, children, ...} where `href`, `start` and `language` may stand. */
export function parse(text) {
  return blocks(text.replaceAll("\r\n", "\n").split("\n"), 0);
}

function blocks(lines, depth) {
  const found = [];
  let at = 0;
  while (at < lines.length) {
    const line = lines[at];
    let match;
    if (!line.trim()) at += 1;
    else if ((match = FENCE.exec(line))) {
      let end = at + 1;
      while (end < lines.length && !closes(lines[end], match[1])) end += 1; // without an end: still being written
      const code = lines.slice(at + 1, end).join("\n");
      found.push({ tag: "pre", language: match[2].trim().split(/\s/)[0], children: [code] });
      at = end + 1;
    } else if ((match = HEADING.exec(line))) {
      found.push({ tag: `h${match[1].length}`, children: inline(match[2].trim()) });
      at += 1;
    } else if (RULE.test(line)) {
      found.push({ tag: "hr", children: [] });
      at += 1;
    } else if (QUOTE.test(line) && depth < DEEPEST) {
      let end = at;
      while (end < lines.length && QUOTE.test(lines[end])) end += 1;
      const inner = lines.slice(at, end).map((each) => each.replace(QUOTE, ""));
      found.push({ tag: "blockquote", children: blocks(inner, depth + 1) });
      at = end;
    } else if (ITEM.test(line) && depth < DEEPEST) at = list(lines, at, depth, found);
    else if (line.includes("|") && divides(lines[at + 1] ?? "", cells(line).length)) at = table(lines, at, found);
    else {
      let end = at + 1;
      while (end < lines.length && lines[end].trim() && !begins(lines[end], depth)) end += 1;
      found.push({ tag: "p", children: inline(lines.slice(at, end).join("\n").trim()) });
      at = end;
    }
  }
  return found;
}

function closes(line, fence) {
  const mark = line.trim();
  return mark.length >= fence.length && mark === fence[0].repeat(mark.length);
}

/** Whether a line ends the paragraph before it. */
function begins(line, depth) {
  const nested = depth < DEEPEST && (QUOTE.test(line) || ITEM.test(line));
  return nested || FENCE.test(line) || HEADING.test(line) || RULE.test(line);
}

function list(lines, at, depth, found) {
  const [, indent, mark] = ITEM.exec(lines[at]);
  const ordered = /\d/.test(mark);
  const node = { tag: ordered ? "ol" : "ul", children: [] };
  if (ordered) node.start = Number.parseInt(mark, 10);
  while (at < lines.length) {
    const item = ITEM.exec(lines[at]);
    if (!item || item[1].length > indent.length + 3 || /\d/.test(item[2]) !== ordered || RULE.test(lines[at])) break;
    const width = item[1].length + 2; // what continues an item is indented by as much, or follows at once
    const inner = [lines[at].slice(item[0].length)];
    let end = at + 1;
    for (; end < lines.length; end += 1) {
      const line = lines[end];
      const inside = line.length - line.trimStart().length >= width;
      if (!line.trim()) {
        const next = lines[end + 1] ?? "";
        if (!next.trim() || next.length - next.trimStart().length < width) break;
      } else if (!inside && (begins(line, depth) || !lines[end - 1].trim())) break;
      inner.push(outdent(line, item[0].length, width));
    }
    node.children.push({ tag: "li", children: unwrapped(blocks(inner, depth + 1)) });
    at = end;
    if (!lines[at]?.trim() && ITEM.test(lines[at + 1] ?? "")) at += 1; // an empty line between two items
  }
  found.push(node);
  return at;
}

function outdent(line, most, least) {
  const blank = line.length - line.trimStart().length;
  return line.slice(blank >= least ? Math.min(blank, most) : 0);
}

/** A single paragraph of an item stands in it without a margin of its own. */
function unwrapped(nodes) {
  return nodes.flatMap((node, index) => (index === 0 && node.tag === "p" ? node.children : [node]));
}

function table(lines, at, found) {
  const row = (line, tag) => ({ tag: "tr", children: cells(line).map((cell) => ({ tag, children: inline(cell) })) });
  const head = { tag: "thead", children: [row(lines[at], "th")] };
  const body = { tag: "tbody", children: [] };
  for (at += 2; at < lines.length && lines[at].includes("|") && lines[at].trim(); at += 1) body.children.push(row(lines[at], "td"));
  found.push({ tag: "table", children: [head, body] });
  return at;
}

/** Whether a line stands between the head and the body of a table of so many columns. */
function divides(line, columns) {
  const parts = cells(line);
  return parts.length === columns && parts.every((part) => /^:?-+:?$/.test(part));
}

function cells(line) {
  return line.trim().replace(/^\|/, "").replace(/\|$/, "").split("|").map((cell) => cell.trim());
}

// ---- within a paragraph -----------------------------------------------------------------------------------

/** The nodes of a text without blocks; its time grows with the text's length, whatever marks are in it. */
function inline(text) {
  const out = [];
  const open = []; // marks without an end so far: {mark, at}, `at` being their place in `out`
  const waiting = new Map(); // how many of each mark
  let plain = "";
  const flush = () => {
    if (plain) out.push(plain);
    plain = "";
  };
  let at = 0;
  while (at < text.length) {
    const character = text[at];
    const found = special(text, at);
    if (found) {
      flush();
      out.push(found.node);
      at += found.length;
    } else if (character === "\\" && /[!-/:-@[-`{-~]/.test(text[at + 1] ?? "")) {
      plain += text[at + 1];
      at += 2;
    } else if (character === "\n") {
      flush();
      out.push({ tag: "br", children: [] });
      at += 1;
    } else if ("*_~".includes(character)) {
      const top = open.at(-1);
      const single = top?.mark === character && text.startsWith(character.repeat(3), at); // ends ***both***
      const mark = !single && MARKS[text.slice(at, at + 2)] ? text.slice(at, at + 2) : character;
      const empty = top?.mark === mark && top.at + 1 === out.length && !plain;
      const before = text[at - 1] ?? " ";
      const after = text[at + mark.length] ?? " ";
      const inWord = character === "_" && /\w/.test(before) && /\w/.test(after);
      flush();
      if (!inWord && !empty && /\S/.test(before) && waiting.get(mark)) close(mark, out, open, waiting);
      else if (!inWord && MARKS[mark] && /\S/.test(after)) {
        open.push({ mark, at: out.length });
        waiting.set(mark, (waiting.get(mark) ?? 0) + 1);
        out.push(mark);
      } else plain += mark;
      at += mark.length;
    } else {
      plain += character;
      at += 1;
    }
  }
  flush();
  return joined(out);
}

/** Wraps what stands behind the latest such mark; marks between them stay the text that they are. */
function close(mark, out, open, waiting) {
  let latest = open.pop();
  waiting.set(latest.mark, waiting.get(latest.mark) - 1);
  while (latest.mark !== mark) {
    latest = open.pop();
    waiting.set(latest.mark, waiting.get(latest.mark) - 1);
  }
  const children = joined(out.splice(latest.at).slice(1));
  out.push({ tag: MARKS[mark], children });
}

/** A code span, a link or an image at a place of a text, and its length there. */
function special(text, at) {
  if (text[at] === "`") {
    const run = /`+/y;
    run.lastIndex = at;
    const [ticks] = run.exec(text);
    const end = endOfCode(text, at + ticks.length, ticks.length);
    if (end < 0) return { node: ticks, length: ticks.length };
    const code = text.slice(at + ticks.length, end).replaceAll("\n", " ");
    const padded = code.startsWith(" ") && code.endsWith(" ") && code.trim();
    return { node: { tag: "code", children: [padded ? code.slice(1, -1) : code] }, length: end + ticks.length - at };
  }
  if (text[at] === "[" || (text[at] === "!" && text[at + 1] === "[")) {
    const link = /!?\[([^[\]\n]{0,500})\]\(([^()\s]{1,2000})(?:[ \t]+"[^"\n]{0,300}")?\)/y;
    link.lastIndex = at;
    const match = link.exec(text);
    if (match && SAFE.test(match[2])) return { node: anchor(match[2], match[1] || match[2]), length: match[0].length };
  }
  if (text[at] === "h" && !/\w/.test(text[at - 1] ?? " ")) {
    BARE.lastIndex = at;
    const match = BARE.exec(text);
    if (match) return { node: anchor(match[0], match[0]), length: match[0].length };
  }
  return null;
}

/** Where the next run of exactly so many backticks begins, or -1. */
function endOfCode(text, from, length) {
  const run = /`+/g;
  run.lastIndex = from;
  for (let match = run.exec(text); match; match = run.exec(text)) if (match[0].length === length) return match.index;
  return -1;
}

function anchor(href, text) {
  return { tag: "a", href, children: [text] };
}

/** The same nodes with neighbouring strings as one. */
function joined(nodes) {
  const out = [];
  for (const node of nodes) {
    if (typeof node === "string" && typeof out.at(-1) === "string") out[out.length - 1] += node;
    else out.push(node);
  }
  return out;
}

// ---- elements ---------------------------------------------------------------------------------------------

/** Elements of the nodes; `copyButton(text)` makes what stands beside a block of code. */
export function build(nodes, copyButton) {
  const fragment = document.createDocumentFragment();
  for (const node of nodes) fragment.append(typeof node === "string" ? node : elementOf(node, copyButton));
  return fragment;
}

function elementOf(node, copyButton) {
  const made = document.createElement(node.tag);
  if (node.tag === "pre") {
    const code = document.createElement("code");
    code.textContent = node.children[0];
    made.append(code);
    made.tabIndex = 0; // it may be wider than its place, and the keyboard must be able to scroll it
    const frame = document.createElement("div");
    frame.className = "code";
    const language = document.createElement("span");
    language.textContent = node.language;
    frame.append(language, copyButton(node.children[0]), made);
    return frame;
  }
  if (node.href) {
    made.href = node.href;
    made.target = "_blank";
    made.rel = "noopener noreferrer";
  }
  if (node.start !== undefined) made.start = node.start;
  made.append(build(node.children, copyButton));
  if (node.tag !== "table") return made;
  const frame = document.createElement("div");
  frame.className = "wide";
  frame.append(made);
  return frame;
}
