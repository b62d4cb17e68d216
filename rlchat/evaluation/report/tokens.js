
"use strict";
// The agent's tokens, shaded by what the update made of them. All text of others, here as in the
// other script, enters the page by textContent alone.
const $ = (id) => document.getElementById(id);
const SHADES = {
  advantage: { of: (t, i) => t.advantage[i], low: "worse than expected", high: "better than expected" },
  value: { of: (t, i) => t.value[i], low: "low value", high: "high value" },
  kl: { of: (t, i) => minus(t.logprob[i], t.reference[i]), low: "less probable than in the reference", high: "more probable than in the reference" },
  probability: { of: (t, i) => (t.logprob[i] === null ? null : -Math.sqrt(1 - Math.exp(t.logprob[i]))), low: "improbable", high: "" },
};
let pinned = null;

function make(tag, text, options = {}) {
  const element = document.createElement(tag);
  if (text !== undefined && text !== null) element.textContent = text;
  for (const [key, value] of Object.entries(options)) element.setAttribute(key, value);
  return element;
}

function signed(x) { return x === null || x === undefined ? "–" : (x < 0 ? "−" : "+") + Math.abs(x).toFixed(2); }
function minus(a, b) { return a === null || b === null ? null : a - b; }

function tokens(e, turn) {
  const box = make("div", null, { class: "text", dir: "auto", role: "group", "aria-label": `Turn ${turn + 1}, token by token: arrow keys move` });
  const shade = SHADES[$("shade").value], most = largest(e.tokens, shade);
  let first = true;
  e.tokens.turn.forEach((own, i) => {
    if (own !== turn) return;
    const text = e.tokens.text[i];
    const span = make("span", text, { class: "token", role: "button", tabindex: first ? "0" : "-1", "aria-describedby": "token" });
    if (!text.trim()) span.setAttribute("aria-label", "space");
    if (/^<[|/].*>$/.test(text)) span.classList.add("special");
    const level = shade ? levelOf(shade.of(e.tokens, i), most) : 0;
    if (level) span.classList.add(level > 0 ? `p${level}` : `n${-level}`);
    span.looked = [e, i];
    first = false;
    box.append(span);
  });
  return box;
}

function largest(t, shade) {
  if (!shade) return 1;
  const sizes = t.turn.map((_, i) => Math.abs(shade.of(t, i) || 0)).sort((a, b) => a - b);
  return sizes[Math.floor(sizes.length * 0.95)] || sizes[sizes.length - 1] || 1;
}

function levelOf(x, most) {
  if (x === null || Math.abs(x) < most / 8) return 0;
  return Math.sign(x) * Math.min(4, Math.max(1, Math.round((4 * Math.abs(x)) / most)));
}

function drawScale(shown) {
  const shade = SHADES[$("shade").value], some = shown.some((e) => e.tokens);
  $("scale").replaceChildren();
  if (!shown.length) return;
  if (!some) { $("scale").textContent = "Numbers of tokens were not recorded for this dialogue; rlchat report --evaluation-tokens N reads those of evaluations."; return; }
  if (!shade) return;
  $("scale").append(make("span", shade.low, { class: "n3" }));
  if (shade.high) $("scale").append(" ", make("span", shade.high, { class: "p3" }));
  $("scale").append(" Point at a token, or move to it with the arrow keys, for its numbers and alternatives.");
}

function tellToken(span) {
  const [e, i] = span.looked, t = e.tokens, panel = $("token"), list = make("table"), body = make("tbody");
  const lines = [["probability", t.logprob[i] === null ? "–" : Math.exp(t.logprob[i]).toFixed(3)], ["advantage", signed(t.advantage[i])], ["value", signed(t.value[i])], ["KL to the reference", signed(minus(t.logprob[i], t.reference[i]))]];
  for (const [name, value] of lines) {
    const line = make("tr");
    line.append(make("th", name, { scope: "row" }), make("td", value));
    body.append(line);
  }
  list.append(body);
  panel.replaceChildren(make("strong", JSON.stringify(t.text[i]), { dir: "auto" }), list);
  if (t.alternatives) panel.append(make("strong", "What the policy considered"), alternatives(t, i));
  panel.hidden = false;
  place(panel, span);
}

function alternatives(t, i) {
  const list = make("table"), body = make("tbody");
  for (const [text, logprob] of t.alternatives[i]) {
    const line = make("tr", null, text === t.text[i] ? { class: "own" } : {}), p = Math.exp(logprob === null ? -99 : logprob);
    const bar = make("meter", null, { min: "0", max: "1", value: String(p), "aria-label": `probability of ${JSON.stringify(text)}` });
    const cell = make("td");
    cell.append(bar);
    line.append(make("th", JSON.stringify(text), { scope: "row", dir: "auto" }), make("td", p.toFixed(3)), cell);
    body.append(line);
  }
  list.append(body);
  return list;
}

function place(panel, span) {
  panel.style.left = panel.style.top = "";
  const at = span.getBoundingClientRect(), size = panel.getBoundingClientRect();
  panel.classList.toggle("above", at.top > window.innerHeight / 2);  // on a phone: never over the token
  if (window.matchMedia("(max-width: 48rem)").matches) return;
  const left = Math.min(at.left, document.documentElement.clientWidth - size.width - 8);
  const below = at.bottom + 8 + size.height < document.documentElement.clientHeight;
  panel.style.left = `${Math.max(8, left)}px`;
  panel.style.top = `${below ? at.bottom + 8 : Math.max(8, at.top - size.height - 8)}px`;
}

function hideToken() { $("token").hidden = true; pinned = null; }

