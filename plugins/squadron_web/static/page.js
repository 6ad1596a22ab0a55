// The page: which collection it shows, its requests to the API, and what the buttons do.

import { code, el, empty, fill, problem, slot } from "./elements.js";
import * as sections from "./sections.js";

const query = new URLSearchParams(window.location.search);
const dag = query.get("dag");
let collection, details, runs;

async function request(path, body) {
  const options = body && { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  let response;
  try {
    response = await fetch(`api/collections${path}`, options);
  } catch {
    throw new Error("Airflow cannot be reached: is the api-server running?");
  }
  if (response.ok) return response;
  if (response.status === 401) throw new Error("You are no longer logged in: reload Airflow and log in.");
  const error = await response.json().catch(() => ({}));
  if (typeof error.detail === "string") throw new Error(error.detail);
  throw new Error(`Airflow answered ${response.status}: the api-server's log says why.`);
}

const requestJson = async (path, body) => (await request(path, body)).json();
const ofCollection = (path = "") => `/${encodeURIComponent(collection)}${path}`;

function notice(text, bad = false) {
  slot("notice").textContent = text;
  slot("notice").hidden = !text;
  slot("notice").classList.toggle("bad", bad);
}

async function start() {
  let collections;
  try {
    collections = (await requestJson("")).collections.filter((each) => !dag || each.dag_id === dag);
  } catch (error) {
    return notice(error.message, true);
  }
  if (!collections.length) {
    return notice(dag ? `The DAG ${dag} keeps no vector collection.` : "There is no vector collection that you may see.");
  }
  collection = collections.find((each) => each.collection === query.get("collection"))?.collection ?? collections[0].collection;
  document.title = `${collection} · Vectors`;
  slot("name").textContent = collection;
  slot("collections").hidden = collections.length < 2;
  fill("collections", collections.map((each) => el("a", { href: address(each), "aria-current": each.collection === collection && "page" }, each.collection)));
  slot("main").hidden = false;
  await Promise.all([load(), loadQuarantine(), loadGraph()]);
}

function address(each) {
  return `?${new URLSearchParams({ ...(dag && { dag }), collection: each.collection })}`;
}

// The runs come from Airflow's database, the generations from the store. Each is shown even when the other fails.
async function load() {
  const [history, catalog] = await Promise.allSettled([requestJson(ofCollection("/runs")), requestJson(ofCollection())]);
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
  details = catalog.value;
  sections.overview(details, runs);
  sections.generations(details, runs, { promote, rollback });
  sections.fingerprint(details);
}

async function loadQuarantine() {
  try {
    sections.quarantine(await requestJson(ofCollection("/quarantine")));
  } catch (error) {
    fill("quarantine", problem(error));
  }
}

async function loadGraph() {
  try {
    const drawing = URL.createObjectURL(await (await request(ofCollection("/graph.svg"))).blob());
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
    const { matches } = await requestJson(ofCollection("/search"), { question, top_k: Number(slot("top_k").value) });
    sections.matches(matches, (performance.now() - started) / 1000, details?.generations.find((each) => each.live)?.generation);
  } catch (error) {
    fill("matches", problem(error));
  } finally {
    clearTimeout(patience);
  }
}

const promote = (row) => move("promote", row, "Promote", "becomes live");
const rollback = (row) => move("rollback", row, "Roll back", "becomes live again");

async function move(event, row, verb, becomes) {
  const live = details.generations.find((each) => each.live)?.generation ?? null;
  const consequence = event === "rollback" ? "Later runs do not promote the generation that you leave; a person can." : "The quality gate is not checked.";
  if (!(await confirmed(`${verb} ${event === "rollback" ? "to " : ""}${row.generation}?`, [code(row.generation), ` ${becomes} in ${collection}; searches use it at once. `, live && [code(live), " is kept. "], consequence], verb))) return;
  notice("");
  try {
    const pointer = await requestJson(ofCollection(`/${event}`), { expected_live: live, ...(event === "promote" && { generation: row.generation }) });
    notice(`${pointer.live} is live in ${collection}${pointer.previous ? `; ${pointer.previous} was before` : ""}.`);
  } catch (error) {
    notice(error.message, true);
  }
  slot("notice").focus({ preventScroll: true }); // the pressed button is drawn again
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
