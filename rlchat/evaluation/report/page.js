
"use strict";
// All text of others enters the page by textContent alone.
const $ = (id) => document.getElementById(id);
const { sets, episodes } = JSON.parse($("data").textContent || '{"sets":[],"episodes":[]}');
const SEVERAL = new Set(sets.map((s) => s.run)).size > 1;
const ROLES = { assistant: "agent", tool: "desk" };
const SHADES = {
  advantage: { of: (t, i) => t.advantage[i], low: "worse than expected", high: "better than expected" },
  value: { of: (t, i) => t.value[i], low: "low value", high: "high value" },
  kl: { of: (t, i) => minus(t.logprob[i], t.reference[i]), low: "less probable than in the reference", high: "more probable than in the reference" },
  probability: { of: (t, i) => (t.logprob[i] === null ? null : -Math.sqrt(1 - Math.exp(t.logprob[i]))), low: "improbable", high: "" },
};
let found = [];
let current = null;
let pinned = null;

function minus(a, b) { return a === null || b === null ? null : a - b; }

function make(tag, text, options = {}) {
  const element = document.createElement(tag);
  if (text !== undefined && text !== null) element.textContent = text;
  for (const [key, value] of Object.entries(options)) element.setAttribute(key, value);
  return element;
}

function signed(x) { return x === null || x === undefined ? "–" : (x < 0 ? "−" : "+") + Math.abs(x).toFixed(2); }
function setName(set) { return SEVERAL ? `${set.run}: ${set.label}` : set.label; }
function outcome(e) { return e.success === null ? "over" : e.success ? "solved" : "failed"; }
function turnsOf(e) { return e.parts.length; }
function opening(e) { return (e.messages.find((m) => m[0] === "user") || e.messages[0] || ["", ""])[1]; }

// Filters

const SEP = "\u0001";

function fillFilters() {
  $("set").append(make("option", "all", { value: "" }));
  sets.forEach((set, i) => {
    const env = new Set(sets.map((s) => s.env)).size > 1 ? `, ${set.env}` : "";
    $("set").append(make("option", setName(set) + env, { value: String(i) }));
  });
  $("fact").append(make("option", "anything", { value: "" }));
  for (const [name, values] of factValues()) {
    const group = make("optgroup", null, { label: name });
    for (const value of [...values].sort()) group.append(make("option", `${name}: ${value}`, { value: name + SEP + value }));
    $("fact").append(group);
  }
}

function factValues() {
  const all = new Map();
  for (const e of episodes) for (const [name, value] of Object.entries(e.facts)) {
    if (!all.has(name)) all.set(name, new Set());
    all.get(name).add(value);
  }
  return [...all].filter(([, values]) => values.size > 1 && values.size <= 12);
}

function matches(e) {
  const query = $("query").value.trim().toLocaleLowerCase();
  const set = $("set").value, kind = $("outcome").value, [fact, value] = $("fact").value.split(SEP);
  if (set !== "" && e.set !== Number(set)) return false;
  if (kind === "failed" && e.success !== false) return false;
  if (kind === "solved" && e.success !== true) return false;
  if (kind === "told" && e.success !== null) return false;
  if (kind === "tokens" && !e.tokens) return false;
  if (fact && e.facts[fact] !== value) return false;
  return !query || e.messages.some((m) => m[1].toLocaleLowerCase().includes(query));
}

function filter() {
  found = episodes.filter(matches);
  const failed = found.filter((e) => e.success === false).length;
  $("count").textContent = found.length
    ? `${found.length} of ${episodes.length} dialogues, ${failed} of them failed.`
    : "No dialogue fits; reset the filters, or search for something else.";
  const rows = document.createDocumentFragment();
  for (const e of found) rows.append(row(e));
  $("list").replaceChildren(rows);
  if (!found.includes(current)) show(found[0] || null);
  else mark();
}

function row(e) {
  const item = make("li"), button = make("button", null, { type: "button", "data-at": String(episodes.indexOf(e)) });
  button.append(make("span", outcome(e), { class: outcome(e) }));
  button.append(` · ${signed(e.score)} · ${turnsOf(e)} turns · ${setName(sets[e.set])} #${e.index}`);
  button.append(make("span", opening(e), { class: "opening", dir: "auto" }));
  item.append(button);
  return item;
}

function mark() {
  for (const button of $("list").querySelectorAll("button")) {
    const own = episodes[Number(button.dataset.at)] === current;
    if (own) { button.setAttribute("aria-current", "true"); reveal(button); } else button.removeAttribute("aria-current");
  }
}

function reveal(button) {
  const box = $("list").parentElement, top = button.offsetTop - $("list").offsetTop;
  if (top < box.scrollTop || top + button.offsetHeight > box.scrollTop + box.clientHeight) box.scrollTop = top - box.clientHeight / 3;
}

// One dialogue, and perhaps another with the same goal beside it

function show(e) {
  current = e;
  hideToken();
  $("beside").replaceChildren(make("option", "nothing", { value: "" }));
  if (e) for (const [i, other] of episodes.entries()) {
    if (other !== e && other.goal === e.goal) $("beside").append(make("option", `${setName(sets[other.set])}, ${outcome(other)}`, { value: String(i) }));
  }
  $("beside").disabled = $("beside").options.length === 1;
  $("previous").disabled = $("next").disabled = $("failure").disabled = !e;
  draw();
  mark();
}

function draw() {
  const other = $("beside").value;
  const shown = current ? [current] : [];
  if (other !== "") shown.push(episodes[Number(other)]);
  $("pair").replaceChildren(...shown.map(article));
  drawScale(shown);
}

function article(e) {
  const box = make("article"), set = sets[e.set];
  box.append(make("h3", `${setName(set)}, dialogue ${e.index}`));
  const line = make("p", null, { class: "quiet" });
  line.append(make("span", outcome(e), { class: outcome(e) }), ` (${e.ending}), score ${signed(e.score)}, ${turnsOf(e)} turns, ${set.split} side`);
  box.append(line);
  if (Object.keys(e.facts).length) box.append(facts(e));
  let turn = 0;
  for (const [role, text] of e.messages) {
    box.append(message(e, role, text, turn));
    if (role === "assistant") turn += 1;
  }
  return box;
}

function facts(e) {
  const details = make("details"), list = make("dl", null, { class: "facts" });
  details.append(make("summary", "What was asked for"));
  for (const [name, value] of Object.entries(e.facts)) {
    const pair = make("div");
    pair.append(make("dt", name), make("dd", value, { dir: "auto" }));
    list.append(pair);
  }
  details.append(list);
  return details;
}

function message(e, role, text, turn) {
  const box = make("div", null, { class: `message ${["assistant", "user", "tool", "system"].includes(role) ? role : "tool"}` });
  box.append(make("div", ROLES[role] || role, { class: "role" }));
  const own = role === "assistant" && e.tokens && e.tokens.turn.includes(turn);
  if (role === "assistant" && !own && e.thoughts && e.thoughts[turn]) box.append(make("p", e.thoughts[turn], { class: "text thought", dir: "auto" }));
  box.append(own ? tokens(e, turn) : make("p", text, { class: "text", dir: "auto" }));
  if (role === "assistant" && e.parts[turn]) box.append(make("p", partsLine(e, turn), { class: "parts" }));
  return box;
}

function partsLine(e, turn) {
  const parts = Object.entries(e.parts[turn]), costs = Object.entries(e.costs[turn] || {});
  const total = parts.reduce((sum, [, x]) => sum + x, 0);
  let told = `score ${signed(total)}`;
  if (parts.length) told += `: ${parts.map(([name, x]) => `${name} ${signed(x)}`).join(", ")}`;
  if (costs.length) told += `; cost: ${costs.map(([name, x]) => `${name} ${x.toFixed(2)}`).join(", ")}`;
  return told;
}

// Tokens

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
  if (!some) { $("scale").textContent = "Numbers of tokens were not recorded for this dialogue."; return; }
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
  if (window.matchMedia("(max-width: 48rem)").matches) return;
  const at = span.getBoundingClientRect(), size = panel.getBoundingClientRect();
  const left = Math.min(at.left, document.documentElement.clientWidth - size.width - 8);
  const below = at.bottom + 8 + size.height < document.documentElement.clientHeight;
  panel.style.left = `${Math.max(8, left)}px`;
  panel.style.top = `${below ? at.bottom + 8 : Math.max(8, at.top - size.height - 8)}px`;
}

function hideToken() { $("token").hidden = true; pinned = null; }

// Moving

function step(by, only = () => true) {
  if (!found.length) return;
  let at = found.indexOf(current);
  for (let i = 0; i < found.length; i += 1) {
    at = (at + by + found.length) % found.length;
    if (only(found[at])) { show(found[at]); return; }
  }
  $("count").textContent = "No dialogue among these failed.";
}

function nextFailure() { step(1, (e) => e.success === false); }

function onKey(event) {
  const span = event.target.closest(".token");
  if (event.key === "Escape") hideToken();
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (span && ["ArrowRight", "ArrowLeft", "Home", "End"].includes(event.key)) moveToken(event, span);
  if (span && ["Enter", " "].includes(event.key)) { event.preventDefault(); pinned = span; tellToken(span); }
  if (event.target.closest("input, select")) return;
  const keys = { j: () => step(1), k: () => step(-1), f: nextFailure, "/": () => $("query").focus() };
  if (keys[event.key]) { event.preventDefault(); keys[event.key](); }
}

function moveToken(event, span) {
  event.preventDefault();
  const all = [...span.parentElement.querySelectorAll(".token")], at = all.indexOf(span);
  const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: all.length - 1 }[event.key];
  const next = all[Math.max(0, Math.min(all.length - 1, to))];
  span.tabIndex = -1;
  next.tabIndex = 0;
  next.focus();
}

function showFailuresOf(button) {
  $("filters").reset();
  $("outcome").value = "failed";
  $("fact").value = button.dataset.fact + SEP + button.dataset.value;
  filter();
  $("browser").scrollIntoView();
  $("query").focus({ preventScroll: true });
}

function begin() {
  fillFilters();
  $("reader").hidden = false;
  $("filters").addEventListener("input", filter);
  $("filters").addEventListener("submit", (event) => event.preventDefault());
  $("filters").addEventListener("reset", () => setTimeout(filter));
  $("list").addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button) show(episodes[Number(button.dataset.at)]);
  });
  $("previous").addEventListener("click", () => step(-1));
  $("next").addEventListener("click", () => step(1));
  $("failure").addEventListener("click", nextFailure);
  for (const id of ["beside", "shade"]) $(id).addEventListener("change", draw);
  const over = (event) => { const span = event.target.closest(".token"); if (span && !pinned) tellToken(span); };
  $("pair").addEventListener("mouseover", over);
  $("pair").addEventListener("focusin", over);
  $("pair").addEventListener("mouseleave", () => { if (!pinned) hideToken(); });
  $("pair").addEventListener("focusout", () => { if (!pinned) hideToken(); });
  document.addEventListener("click", (event) => { if (!event.target.closest("#token, .token")) hideToken(); });
  $("pair").addEventListener("click", (event) => { const span = event.target.closest(".token"); if (span) { pinned = span; tellToken(span); } });
  $("browser").addEventListener("keydown", onKey);
  $("theme").addEventListener("change", () => { document.documentElement.dataset.theme = $("theme").value; });
  document.querySelector("main").addEventListener("click", (event) => { const button = event.target.closest("button[data-fact]"); if (button) showFailuresOf(button); });
  filter();
}

begin();
