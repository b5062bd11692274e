"use strict";
// Each event has the whole part, escaped by the server: whoever was away has missed nothing.
const live = document.querySelector("[data-live]");
const graph = document.querySelector("#graph");
const drawn = graph.getAttribute("src");
let shown = "";
const source = new EventSource(live.dataset.live);
source.addEventListener("message", (event) => {
  const told = JSON.parse(event.data);
  live.innerHTML = told.html;
  live.dataset.state = told.state;
  if (told.history !== undefined) {
    document.querySelector("#history").innerHTML = told.history;
  }
  for (const form of document.querySelectorAll("[data-verb]")) {
    form.hidden = !told.verbs.includes(form.dataset.verb);
  }
  const steps = Array.from(live.querySelectorAll(".step"), (step) => step.className).join();
  if (steps !== shown) {
    shown = steps;
    graph.src = `${drawn}?at=${Date.now()}`;
  }
});
