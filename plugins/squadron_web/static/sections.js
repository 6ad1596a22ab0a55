// Sections: what each part of the page shows of the API's answers.

import { barChart, lineChart } from "./charts.js";
import { ago, badge, code, count, dayKey, dollars, duration, el, empty, figure, fill, list, shortDate, shortDay, slot, table, when } from "./elements.js";

const METRICS = { recall_at_10: "recall@10", recall_at_5: "recall@5", recall_at_1: "recall@1", mrr_at_10: "MRR@10", ndcg_at_10: "nDCG@10" };
const RUNS_FIRST = 8;

export function overview(details, runs) {
  const live = details.generations.find((each) => each.live);
  const last = runs.find((run) => run.state !== "running" && run.state !== "queued");
  slot("origin").textContent = `${details.source} → ${details.service} → ${details.store}, kept by ${details.dag_id}`;
  fill("facts",
    fact("Live generation", live ? [code(live.generation), " ", badge("live", "good")] : ["none"]),
    fact("Passages", live ? count(live.rows) : "–", live?.documents != null && `${count(live.documents)} documents`),
    fact("recall@10", figure(live?.metrics?.recall_at_10), live?.questions ? asked(live, runs) : "not measured"),
    fact("Last run", last ? ago(last.started) : "none", last && state(last)),
    fact("Cost, 30 days", dollars(spent(runs.filter((run) => Date.now() - new Date(run.started) < 30 * 86400e3)))),
  );
}

export function recall(runs, metric) {
  const measured = runs.filter((run) => run.metrics[metric] != null).reverse();
  if (!measured.length) return fill("recall", empty("Nothing was measured yet. A corpus with questions is measured by every run."));
  const points = measured.map((run) => ({
    time: new Date(run.started).getTime(), value: run.metrics[metric], group: run.generation, failed: run.state === "failed",
    text: [el("b", {}, figure(run.metrics[metric])), ` ${METRICS[metric]} · ${shortDate(run.started)} · `, code(run.generation), run.state === "failed" ? " · not promoted" : ""],
  }));
  const tail = points.at(-1);
  lineChart(slot("recall"), points, (tick) => tick.toFixed(3), `${METRICS[metric]} of ${points.length} runs, the last ${figure(tail.value)}`);
}

export function cost(runs) {
  const nights = new Map();
  for (const run of runs.filter((each) => each.cost != null).reverse()) {
    const night = nights.get(dayKey(run.started)) ?? { started: run.started, cost: 0, embedded: 0 };
    nights.set(dayKey(run.started), { ...night, cost: night.cost + run.cost, embedded: night.embedded + (run.embedded ?? 0) });
  }
  const points = [...nights.values()].map((night) => ({
    time: new Date(night.started).getTime(), value: night.cost,
    text: [el("b", {}, dollars(night.cost)), ` · ${shortDay(night.started)} · ${count(night.embedded)} passages embedded`],
  }));
  const total = points.reduce((sum, point) => sum + point.value, 0);
  slot("cost-total").textContent = total ? `${dollars(total)} in ${nightsOf(points)}` : "";
  if (!points.length) return fill("cost", empty("No run has ended yet whose price is known."));
  if (!total) return fill("cost", empty(`Nothing was spent in ${nightsOf(points)}.`));
  barChart(slot("cost"), points, (tick) => String(Number(tick.toPrecision(3))), `Cost of ${points.length} nights, ${dollars(total)} in all`);
}

export function generations(details, runs, move) {
  if (!details.generations.length) return fill("generations", empty("No generation yet. The first run of ", code(details.dag_id), " builds one."));
  const live = details.generations.find((each) => each.live);
  const columns = [
    { name: "Generation", cell: (row) => [code(row.generation), " ", mark(row, details)] },
    { name: "Passages", kind: "number", cell: (row) => count(row.rows) },
    { name: "Created", cell: (row) => when(row.created_at) },
    { name: "recall@10", kind: "number", cell: (row) => figure(row.metrics?.recall_at_10) },
    { name: "MRR@10", kind: "number", cell: (row) => figure(row.metrics?.mrr_at_10) },
    { name: "Cost", kind: "number", cell: (row) => dollars(spent(runs.filter((run) => run.generation === row.generation))) },
    { name: "Differs from live in", kind: "wide", cell: (row) => differences(row, live) },
  ];
  if (details.may_move) columns.push({ name: "", kind: "action", cell: (row) => (row.live ? "" : el("button", { type: "button", onclick: () => move.promote(row) }, "Promote", el("span", { class: "hidden" }, ` ${row.generation}`))) });
  fill("generations", table("Generations, newest first", columns, details.generations));
  const before = details.generations.find((each) => each.generation === details.previous);
  fill("moves", details.may_move
    ? live && before && el("button", { type: "button", onclick: () => move.rollback(before) }, "Roll back to ", code(before.generation))
    : el("span", { class: "quiet" }, `To promote or roll back, you must be allowed to trigger ${details.dag_id}.`));
}

export function fingerprint(details) {
  const live = details.generations.find((each) => each.live);
  if (!live?.vector_space) return fill("fingerprint", empty("Nothing is live."));
  const spelled = Object.entries({ ...live.vector_space, dimension: live.dimension }).map(([name, value]) => [name.replaceAll("_", " "), value === "" || value == null ? el("span", { class: "quiet" }, "none") : String(value)]);
  fill("fingerprint",
    el("p", { class: "digest" }, el("b", {}, live.fingerprint.slice(0, 8)), live.fingerprint.slice(8)),
    list(spelled, "rows"),
    el("p", { class: "quiet" }, "When any of these changes, the next run builds a new generation beside this one."),
  );
}

export function plan(runs) {
  const run = runs.find((each) => each.plan);
  if (!run) return fill("plan", empty("No plan yet."));
  const { plan: figures } = run;
  const embed = figures.passages - figures.unchanged;
  const parts = [["unchanged", figures.unchanged], ["to embed", embed], ["to delete", figures.deleted], ["quarantined", figures.quarantined]];
  const strip = el("div", { class: "strip", "aria-hidden": "true" }, parts.filter(([, passages]) => passages).map(([name, passages]) => {
    const part = el("span", { class: name.replace(" ", "-") });
    part.style.flexGrow = passages;
    return part;
  }));
  fill("plan",
    el("p", {}, `${count(figures.documents)} documents, ${count(figures.passages)} passages; `, code(run.generation), run.generation === figures.live ? " is synced in place" : figures.live ? [" is built beside ", code(figures.live)] : " is the first"),
    strip,
    el("dl", { class: "legend" }, parts.map(([name, passages]) => el("div", { class: name.replace(" ", "-") }, el("dt", {}, name), el("dd", {}, count(passages))))),
    list([["Tokens to embed", count(figures.estimated_tokens)], ["Tokens with a cached vector", count(figures.tokens - figures.estimated_tokens)], ["Estimated cost", dollars(figures.cost)], ["Planned", when(run.started), " · ", state(run)]], "rows"),
  );
}

export function runsTable(runs, all = false) {
  if (!runs.length) return fill("runs", empty("No run about this collection among the newest hundred."));
  const columns = [
    { name: "Started", cell: (run) => when(run.started) },
    { name: "State", cell: (run) => state(run) },
    { name: "With", cell: (run) => (run.service ? `${run.service} → ${run.store}` : "–") },
    { name: "Generation", kind: "wide", cell: (run) => (run.generation ? [code(run.generation), run.promoted ? [" ", badge("promoted", "good")] : ""] : "–") },
    { name: "Embedded", kind: "number", cell: (run) => count(run.embedded) },
    { name: "Deleted", kind: "number", cell: (run) => count(run.deleted) },
    { name: "recall@10", kind: "number", cell: (run) => figure(run.metrics.recall_at_10) },
    { name: "Time", kind: "number", cell: (run) => duration(run.seconds) },
    { name: "Cost", kind: "number", cell: (run) => (run.state === "success" ? dollars(run.cost) : "–") },
  ];
  const more = !all && runs.length > RUNS_FIRST && el("button", { type: "button", class: "more", onclick: () => runsTable(runs, true) }, `Show all ${runs.length}`);
  fill("runs", table("Runs, newest first", columns, all ? runs : runs.slice(0, RUNS_FIRST)), more);
}

export function quarantine({ total, quarantined }) {
  if (!total) return fill("quarantine", empty("Nothing is quarantined: everything could be read and embedded."));
  const columns = [
    { name: "Document", cell: (row) => [el("b", {}, row.title || row.document_id || row.place || (row.row ? `row ${row.row}` : "–")), row.text ? el("p", { class: "clamped quiet" }, row.text) : ""] },
    { name: "Passage", kind: "wide", cell: (row) => (row.passage_id ? code(row.passage_id) : (row.document_id && row.place) || "–") },
    { name: "Reason", kind: "wide", cell: (row) => row.reason },
    { name: "First seen", cell: (row) => when(row.first_seen) },
    { name: "Last seen", cell: (row) => when(row.last_seen) },
  ];
  const rest = total > quarantined.length && el("p", { class: "quiet" }, `The first ${count(quarantined.length)} of ${count(total)}.`);
  fill("quarantine", table("Quarantine", columns, quarantined), rest);
}

export function matches(found, seconds, generation) {
  if (!found.length) return fill("matches", empty("The live generation is empty."));
  const best = Math.max(...found.map((match) => match.score), 1e-9);
  const items = found.map((match) => {
    const meter = el("span", { class: "meter", "aria-hidden": "true" });
    meter.style.setProperty("--share", `${Math.max(0, match.score / best) * 100}%`);
    return el("li", {},
      el("div", { class: "score" }, el("span", { class: "hidden" }, "score "), figure(match.score), meter),
      el("div", {}, el("h3", {}, match.title || match.document_id), passage(match.text), el("p", { class: "quiet ids" }, el("span", {}, "document ", code(match.document_id)), " ", el("span", {}, "passage ", code(match.passage_id)))));
  });
  fill("matches", el("ol", { class: "matches" }, items), el("p", { class: "quiet" }, `${found.length} passages of `, code(generation ?? ""), ` in ${duration(seconds)}`));
}

// Three lines of a passage, and all of it at a press.
function passage(text) {
  const shown = el("p", { class: "clamped" }, text);
  const more = el("button", { type: "button", class: "link", "aria-expanded": "false", onclick: () => {
    const all = shown.classList.toggle("clamped") === false;
    more.textContent = all ? "Less" : "More";
    more.setAttribute("aria-expanded", String(all));
  } }, "More");
  requestAnimationFrame(() => (more.hidden = shown.scrollHeight <= shown.clientHeight + 1));
  return [shown, more];
}

const fact = (name, value, note) => el("div", {}, el("dt", {}, name), el("dd", {}, value), note && el("dd", { class: "note" }, note));
// Only a run says whether it asked the corpus's questions or probes.
const asked = (live, runs) => `on ${count(live.questions)} ${runs.find((run) => run.generation === live.generation && run.asked)?.asked ?? "questions"}`;

const nightsOf = (points) => (points.length === 1 ? "one night" : `${points.length} nights`);

function spent(runs) {
  const priced = runs.filter((run) => run.cost != null);
  return priced.length ? priced.reduce((sum, run) => sum + run.cost, 0) : null;
}

function state(run) {
  if (run.state === "failed") return badge(run.failed_tasks.length ? `failed in ${run.failed_tasks.join(", ")}` : "failed", "bad");
  return run.held ? badge("not promoted", "warn") : badge(run.state, run.state === "success" ? "plain" : "busy");
}

function mark(row, details) {
  if (row.live) return badge("live", "good");
  if (row.rolled_back_at) return badge("rolled back", "warn");
  return row.generation === details.previous ? badge("before", "plain") : "";
}

function differences(row, live) {
  if (row.live) return "–";
  if (!row.vector_space || !live?.vector_space) return "not known";
  const names = new Set([...Object.keys(row.vector_space), ...Object.keys(live.vector_space)]);
  const different = [...names].filter((name) => row.vector_space[name] !== live.vector_space[name]);
  return different.map((name, at) => [at ? ", " : "", el("span", { class: "quiet" }, `${name.replaceAll("_", " ")} `), row.vector_space[name] || "none"]).flat();
}
