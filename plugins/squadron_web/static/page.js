// The page: which collection, what is asked of the api, and what the buttons do.

import { code, el, empty, fill, problem, slot } from "./elements.js";
import * as sections from "./sections.js";

const query = new URLSearchParams(window.location.search);
const dag = query.get("dag");
let collection, about, runs;

async function ask(path, body) {
  const request = body && { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  let answer;
  try {
    answer = await fetch(`api/collections${path}`, request);
  } catch {
    throw new Error("Airflow cannot be reached: is the api-server running?");
  }
  if (answer.ok) return answer;
  if (answer.status === 401) throw new Error("You are no longer logged in: load Airflow anew and log in.");
  const told = await answer.json().catch(() => ({}));
  if (typeof told.detail === "string") throw new Error(told.detail);
  throw new Error(`Airflow answered ${answer.status}: the api-server's log says why.`);
}

const asked = async (path, body) => (await ask(path, body)).json();
const of = (path = "") => `/${encodeURIComponent(collection)}${path}`;

function notice(text, bad = false) {
  slot("notice").textContent = text;
  slot("notice").hidden = !text;
  slot("notice").classList.toggle("bad", bad);
}

async function start() {
  let known;
  try {
    known = (await asked("")).collections.filter((each) => !dag || each.dag_id === dag);
  } catch (error) {
    return notice(error.message, true);
  }
  if (!known.length) {
    return notice(dag ? `The DAG ${dag} keeps no vector collection.` : "There is no vector collection that you may see.");
  }
  collection = known.find((each) => each.collection === query.get("collection"))?.collection ?? known[0].collection;
  document.title = `${collection} · Vectors`;
  slot("name").textContent = collection;
  slot("collections").hidden = known.length < 2;
  fill("collections", known.map((each) => el("a", { href: address(each), "aria-current": each.collection === collection && "page" }, each.collection)));
  slot("main").hidden = false;
  await Promise.all([load(), loadQuarantine(), loadGraph()]);
}

function address(each) {
  return `?${new URLSearchParams({ ...(dag && { dag }), collection: each.collection })}`;
}

// The runs come from Airflow's database, the generations from the store: what answers is shown, whatever the other does.
async function load() {
  const [history, catalog] = await Promise.allSettled([asked(of("/runs")), asked(of())]);
  runs = history.value?.runs ?? [];
  if (history.reason) for (const id of ["recall", "cost", "plan", "runs"]) fill(id, problem(history.reason));
  else {
    sections.recall(runs, slot("metric").value);
    sections.cost(runs);
    sections.plan(runs);
    sections.runsTable(runs);
  }
  if (catalog.reason) {
    fill("facts");
    for (const id of ["generations", "fingerprint"]) fill(id, problem(catalog.reason));
    return;
  }
  about = catalog.value;
  sections.overview(about, runs);
  sections.generations(about, runs, { promote, rollback });
  sections.fingerprint(about);
}

async function loadQuarantine() {
  try {
    sections.quarantine(await asked(of("/quarantine")));
  } catch (error) {
    fill("quarantine", problem(error));
  }
}

async function loadGraph() {
  try {
    const drawing = URL.createObjectURL(await (await ask(of("/graph.svg"))).blob());
    const image = el("img", { src: drawing, alt: "The Hamilton graph of this collection's backends: documents, passages, embeddings, records, rows, evaluation." });
    const frame = el("div", { class: "drawing", tabindex: "0", role: "group", "aria-label": "Drawing of the dataflow, scrolls" }, image);
    const zoom = el("button", { type: "button", "aria-pressed": "false", onclick: () => {
      zoom.setAttribute("aria-pressed", String(frame.classList.toggle("full")));
    } }, "Actual size");
    fill("graph", frame);
    fill("graph-actions", zoom, el("a", { href: drawing, download: `${collection}.svg` }, "Download SVG"));
  } catch (error) {
    fill("graph", problem(error));
  }
}

async function search(event) {
  event.preventDefault();
  const question = slot("question").value.trim();
  if (!question) return slot("question").focus();
  const started = performance.now();
  const waiting = el("p", { class: "waiting" }, "Searching…");
  const patience = setTimeout(() => (waiting.textContent = "Searching… the first search loads the embedding model."), 1200);
  slot("matches").setAttribute("aria-busy", "true");
  fill("matches", waiting);
  try {
    const { matches } = await asked(of("/search"), { question, top_k: Number(slot("top_k").value) });
    sections.matches(matches, (performance.now() - started) / 1000, about?.generations.find((each) => each.live)?.generation);
  } catch (error) {
    fill("matches", problem(error));
  } finally {
    clearTimeout(patience);
  }
}

const promote = (row) => move("promote", row, "Promote", "becomes live");
const rollback = (row) => move("rollback", row, "Roll back", "becomes live again");

async function move(event, row, verb, becomes) {
  const live = about.generations.find((each) => each.live)?.generation ?? null;
  const after = event === "rollback" ? "Later runs leave what you roll back from alone, until it is promoted by hand." : "No quality gate is asked.";
  if (!(await confirmed(`${verb} ${event === "rollback" ? "to " : ""}${row.generation}?`, [code(row.generation), ` ${becomes} in ${collection}; searches are answered from it at once. `, live && [code(live), " is kept. "], after], verb))) return;
  notice("");
  try {
    const moved = await asked(of(`/${event}`), { expected_live: live, ...(event === "promote" && { generation: row.generation }) });
    notice(`${moved.live} is live in ${collection}${moved.previous ? `; ${moved.previous} was before` : ""}.`);
  } catch (error) {
    notice(error.message, true);
  }
  slot("notice").focus({ preventScroll: true }); // the button that was pressed is drawn anew
  fill("matches");
  await load();
}

function confirmed(heading, text, verb) {
  const dialog = slot("confirm");
  slot("confirm-heading").textContent = heading;
  fill("confirm-text", text.flat());
  slot("confirm-go").textContent = verb;
  dialog.returnValue = "cancel";
  dialog.showModal();
  return new Promise((done) => dialog.addEventListener("close", () => done(dialog.returnValue === "go"), { once: true }));
}

slot("search").addEventListener("submit", search);
slot("metric").addEventListener("change", () => sections.recall(runs ?? [], slot("metric").value));
start();
