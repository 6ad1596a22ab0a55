// Elements and figures. All data becomes text nodes, never markup.

export function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value != null) made.setAttribute(name, value);
  }
  made.append(...children.flat(Infinity).filter((child) => child != null && child !== false));
  return made;
}

export const slot = (id) => document.getElementById(id);

export function fill(id, ...children) {
  slot(id).replaceChildren(...children.flat(Infinity).filter((child) => child != null && child !== false));
  slot(id).removeAttribute("aria-busy");
}

export const empty = (...text) => el("p", { class: "empty" }, ...text);
export const problem = (error) => el("p", { class: "problem", role: "alert" }, error.message);
export const badge = (text, kind) => el("span", { class: `badge ${kind}` }, text);
export const code = (text) => el("code", {}, text);

const whole = new Intl.NumberFormat("en");
export const count = (number) => (number == null ? "–" : whole.format(number));
export const figure = (number) => (number == null ? "–" : number.toFixed(3));

export function dollars(cost) {
  if (cost == null) return "not known";
  if (cost === 0) return "0 USD";
  return `${cost < 0.01 ? Number(cost.toPrecision(2)) : cost.toFixed(2)} USD`;
}

export function duration(seconds) {
  if (seconds == null) return "–";
  if (seconds < 60) return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
  return `${Math.floor(seconds / 3600)} h ${Math.round((seconds % 3600) / 60)} min`;
}

const zone = { timeZone: airflowTimeZone() };
const moment = new Intl.DateTimeFormat("en-GB", { ...zone, day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });
const dated = new Intl.DateTimeFormat("en-GB", { ...zone, day: "numeric", month: "short", year: "numeric", hour: "2-digit", minute: "2-digit", timeZoneName: "short" });
const dayOnly = new Intl.DateTimeFormat("en-GB", { ...zone, day: "numeric", month: "short" });
const timeOnly = new Intl.DateTimeFormat("en-GB", { ...zone, hour: "2-digit", minute: "2-digit" });
const sortable = new Intl.DateTimeFormat("en-CA", zone);
export const shortDate = (date) => moment.format(new Date(date));
export const shortDay = (date) => dayOnly.format(new Date(date));
export const shortTime = (date) => timeOnly.format(new Date(date));
export const dayKey = (date) => sortable.format(new Date(date));

export function when(date) {
  if (!date) return "–";
  return el("time", { datetime: date, title: dated.format(new Date(date)) }, shortDate(date));
}

export function ago(date) {
  const minutes = Math.round((Date.now() - new Date(date)) / 60000);
  const text = minutes < 1 ? "just now" : minutes < 60 ? `${minutes} min ago` : minutes < 2880 ? `${Math.round(minutes / 60)} h ago` : `${Math.round(minutes / 1440)} days ago`;
  return el("time", { datetime: date, title: dated.format(new Date(date)) }, text);
}

// A table that becomes a list of cards on a narrow screen: every cell knows its column's name.
export function table(caption, columns, rows) {
  const cells = (row) => columns.map(({ name, cell, kind }) => el("td", { class: kind, "data-label": name }, cell(row)));
  return el("div", { class: "table" }, el("table", {},
    el("caption", { class: "hidden" }, caption),
    el("thead", {}, el("tr", {}, columns.map(({ name, kind }) => el("th", { class: kind, scope: "col" }, name)))),
    el("tbody", {}, rows.map((row) => el("tr", { class: row.live ? "live" : null }, cells(row)))),
  ));
}

export function list(pairs, kind) {
  return el("dl", { class: kind }, pairs.map(([name, ...value]) => el("div", {}, el("dt", {}, name), el("dd", {}, ...value))));
}

// The zone that the user chose in Airflow.
function airflowTimeZone() {
  try {
    const chosen = JSON.parse(window.localStorage.getItem("timezone") ?? "null");
    return new Intl.DateTimeFormat("en", { timeZone: chosen ?? undefined }).resolvedOptions().timeZone;
  } catch {
    return undefined;
  }
}
