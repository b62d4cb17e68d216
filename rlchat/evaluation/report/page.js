
// The browser of transcripts: filters, one dialogue or two, and the way from one to the next.
const { sets, episodes } = JSON.parse($("data").textContent || '{"sets":[],"episodes":[]}');
const SEVERAL = new Set(sets.map((s) => s.run)).size > 1;
const ROLES = { assistant: "agent", tool: "desk" };
const OUTCOMES = new Map();
for (const e of episodes) OUTCOMES.set(e.goal, (OUTCOMES.get(e.goal) || new Set()).add(e.success));
let found = [];
let current = null;

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
  if (kind === "differs" && OUTCOMES.get(e.goal).size < 2) return false;
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
  if (found.includes(current)) { draw(); mark(); } else show(found[0] || null);
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
  $("position").textContent = current ? `${found.indexOf(current) + 1} of ${found.length}` : "";
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
  box.append(own ? tokens(e, turn) : marked(text));
  if (role === "assistant" && e.parts[turn]) box.append(make("p", partsLine(e, turn), { class: "parts" }));
  return box;
}

function marked(text) {
  const box = make("p", null, { class: "text", dir: "auto" }), query = $("query").value.trim();
  const at = query ? text.toLocaleLowerCase().indexOf(query.toLocaleLowerCase()) : -1;
  if (at < 0) box.textContent = text;
  else box.append(text.slice(0, at), make("mark", text.slice(at, at + query.length)), text.slice(at + query.length));
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
