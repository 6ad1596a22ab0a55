// The theme that the user chose in Airflow, which keeps it in this origin's storage; without one, the system's.
"use strict";

function follow() {
  const chosen = window.localStorage.getItem("theme");
  if (chosen === "dark" || chosen === "light") document.documentElement.dataset.theme = chosen;
  else delete document.documentElement.dataset.theme;
}

follow();
window.addEventListener("storage", follow);
