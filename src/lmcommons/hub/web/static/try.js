// The answer to a prompt as it is made. Without this, the form leads to a page with the whole answer.
"use strict";

const form = document.getElementById("try");
const output = document.getElementById("answer");
const place = output.closest("section");
const failure = document.getElementById("failure");
const stop = document.getElementById("stop");
const waits = document.getElementById("waiting");
const nothing = document.getElementById("nothing");
let asking = null;

function show(kind, data) {
  waits.hidden = true;
  if (kind === "piece") {
    output.textContent += data.text;
    place.hidden = false;
  }
  if (kind === "end") nothing.hidden = output.textContent.trim() !== "";
  if (kind === "failed") fail(data.message);
}

function fail(message) {
  failure.textContent = message;
  failure.hidden = false;
}

async function read(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let waiting = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) throw new Error("the stream has no end");
    const events = (waiting + value).split("\n\n");
    waiting = events.pop();
    for (const event of events) {
      const [kind, data] = event.split("\n");
      show(kind.slice("event: ".length), JSON.parse(data.slice("data: ".length)));
      if (!kind.endsWith(" piece")) return; // the last one says how it ended
    }
  }
}

async function ask(event) {
  event.preventDefault();
  if (asking) return;
  asking = new AbortController();
  output.textContent = "";
  failure.hidden = true;
  nothing.hidden = true;
  place.hidden = true;
  waits.hidden = false;
  place.setAttribute("aria-busy", "true");
  stop.hidden = false;
  try {
    const response = await fetch(form.dataset.stream, {
      method: "POST",
      body: new URLSearchParams(new FormData(form)),
      headers: { Accept: "text/html", "HX-Request": "true" },
      signal: asking.signal,
    });
    if (response.ok) await read(response);
    else fail(await response.text());
  } catch (error) {
    if (error.name !== "AbortError") fail(form.dataset.lost);
  } finally {
    asking = null;
    waits.hidden = true;
    if (document.activeElement === stop) form.querySelector("button.button").focus(); // a hidden button keeps none
    stop.hidden = true;
    place.removeAttribute("aria-busy");
  }
}

form.addEventListener("submit", ask);
stop.addEventListener("click", () => asking && asking.abort());
