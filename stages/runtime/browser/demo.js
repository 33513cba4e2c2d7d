// The demonstration page: opens the release that it ships in, and compares texts.

import { openBundle } from "./embed-foundry.js";

const $ = (id) => document.getElementById(id);
let encoder;
let loading;

const megabytes = (bytes) => (bytes / 1e6).toFixed(1);
const PHASES = {
  download: ({ variant, loaded, total }) => `${variant}: ${megabytes(loaded)} of ${megabytes(total)} MB`,
  start: ({ variant }) => `${variant}: starting`,
  selftest: ({ variant, loaded }) => `${variant}: self-test, ${Math.round(100 * loaded)} %`,
};
const EVENTS = {
  fallback: ({ variant, device, reason }) => `${variant} cannot be used on ${device}: ${reason}`,
  pressure: ({ level, usedMb, budgetMb }) => `memory pressure is ${level}: ${usedMb} of ${budgetMb} MB`,
  unload: ({ variant, reason }) => `${variant} unloaded: ${reason}`,
};

function hear(event) {
  if (event.type === "progress") {
    $("status").textContent = PHASES[event.phase](event);
    $("progress").value = event.loaded / event.total;
  } else if (EVENTS[event.type]) {
    const item = document.createElement("li");
    item.textContent = EVENTS[event.type](event);
    $("events").append(item);
  }
}

function fill(select, names, first = []) {
  select.replaceChildren(...first, ...names.map((name) => new Option(name, name)));
}

function showFacts(facts) {
  const entries = Object.entries(facts).flatMap(([name, value]) => {
    const [term, description] = [document.createElement("dt"), document.createElement("dd")];
    term.textContent = name;
    description.textContent = value;
    return [term, description];
  });
  $("facts").replaceChildren(...entries);
}

async function open() {
  loading?.abort();
  loading = new AbortController();
  encoder?.close();
  encoder = undefined;
  $("compare").disabled = $("unload").disabled = true;
  $("cancel").disabled = false;
  $("progress").value = 0;
  const started = performance.now();
  try {
    encoder = await openBundle({ variant: $("variant").value || undefined, onevent: hear, signal: loading.signal });
  } catch (error) {
    $("status").textContent = error.name === "AbortError" ? "Cancelled." : error.message;
    return;
  } finally {
    $("cancel").disabled = true;
  }
  $("progress").value = 1;
  $("status").textContent = `Ready after ${((performance.now() - started) / 1000).toFixed(1)} s.`;
  fill($("prompt"), Object.keys(encoder.prompts).sort(), [new Option("none", "")]);
  fill($("dimensions"), encoder.matryoshka);
  $("compare").disabled = $("unload").disabled = false;
  showFacts(describe());
}

function describe() {
  return {
    Model: encoder.model,
    Variant: encoder.variant,
    "Vector space": encoder.spaceId,
    Release: encoder.release,
    "Computed on": `${encoder.device}, ${encoder.threads} thread${encoder.threads > 1 ? "s" : ""}`,
    "Least cosine in the self-test": encoder.cosine.toFixed(6),
    "Memory of loaded variants": `${encoder.memoryMb.toFixed(1)} MB of ${encoder.tier.budgetMb}`,
    "This tab runs the service": encoder.serving ? "yes" : "no, another one does",
  };
}

async function compare() {
  const texts = $("texts").value.split("\n").filter((text) => text.trim());
  const started = performance.now();
  let result;
  try {
    result = await encoder.encode(texts, {
      prompt: $("prompt").value || undefined,
      dimensions: Number($("dimensions").value),
      precision: $("precision").value,
    });
  } catch (error) {
    $("status").textContent = error.message;
    return;
  }
  const milliseconds = performance.now() - started;
  const rows = texts.map((text, row) => {
    const line = document.createElement("tr");
    const head = document.createElement("th");
    head.scope = "row";
    head.textContent = text;
    const cells = result.vectors.map((vector) => {
      const cell = document.createElement("td");
      cell.textContent = result.vectors[row].reduce((sum, value, index) => sum + value * vector[index], 0).toFixed(3);
      return cell;
    });
    line.append(head, ...cells);
    return line;
  });
  $("matrix").replaceChildren(...rows);
  showFacts({
    ...describe(),
    "Memory of loaded variants": `${result.memoryMb.toFixed(1)} MB of ${encoder.tier.budgetMb}`,
    Time: `${milliseconds.toFixed(1)} ms for ${texts.length} texts`,
    "From the cache": `${result.cached} of ${texts.length}`,
    "Truncated texts": result.truncated.length || "none",
    "Largest error of half precision": result.roundingError ? result.roundingError.toExponential(1) : "none",
  });
}

$("open").addEventListener("click", open);
$("cancel").addEventListener("click", () => loading.abort());
$("unload").addEventListener("click", () => encoder.unload());
document.querySelector("form").addEventListener("submit", (event) => {
  event.preventDefault();
  compare();
});
// Elsewhere half-precision vectors are bare bits.
if (!globalThis.Float16Array) $("precision").lastElementChild.remove();
const contract = await (await fetch("../bundle.json")).json();
fill($("variant"), contract.selection.order, [new Option("the best for this device", "")]);
open();
