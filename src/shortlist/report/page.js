// The strip: what a token's title says is shown below it on hover, focus and tap; arrow keys walk along it.
const tokens = [...document.querySelectorAll(".strip .token")];
const detail = document.getElementById("detail");
const show = (event) => {
  const token = event.target.closest(".token");
  if (token) detail.textContent = token.title;
};
const steps = { ArrowLeft: -1, ArrowRight: 1, Home: -tokens.length, End: tokens.length };
const walk = (event) => {
  const step = steps[event.key];
  if (step === undefined) return;
  event.preventDefault();
  const from = tokens.indexOf(event.target);
  const to = Math.min(Math.max(from + step, 0), tokens.length - 1);
  tokens[from].tabIndex = -1;
  tokens[to].tabIndex = 0;
  tokens[to].focus();
};
const strip = document.querySelector(".strip");
for (const kind of ["mouseover", "focusin", "click"]) strip.addEventListener(kind, show);
strip.addEventListener("keydown", walk);
