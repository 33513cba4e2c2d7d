// A worker with one variant. Ending the worker is what cancels its loading, and what gives its memory back: the memory
// of WebAssembly only grows.

import { OnnxEncoder, StaticEncoder } from "./encoders.js";
import { packError } from "./faults.js";
import { Release } from "./release.js";
import { runSelfTest } from "./selftest.js";
import { readTensors } from "./tensors.js";
import { splitRows } from "./vectors.js";

const RUNTIMES = {
  wasm: { script: "ort.wasm.min.mjs", binary: "ort-wasm-simd-threaded.wasm" },
  webgpu: { script: "ort.webgpu.min.mjs", binary: "ort-wasm-simd-threaded.asyncify.wasm" },
};
const RUNTIME = "browser/packages/onnxruntime-web/";
const PROBES = ["probes/probes.json", "probes/golden.safetensors"];

// ONNX Runtime Web does not say how much memory it has; it makes the memory here.
const memories = [];
const { Memory } = WebAssembly;
WebAssembly.Memory = class extends Memory {
  constructor(descriptor) {
    super(descriptor);
    memories.push(this);
  }
};

let encoder;
let ownBytes = 0;

/** Bytes that the variant takes: its table, or the memory of WebAssembly. */
const countBytes = () => memories.reduce((sum, memory) => sum + memory.buffer.byteLength, ownBytes);

async function open({ base, digest, name, device, threads }) {
  const report = (phase, loaded, total) => postMessage({ progress: { variant: name, phase, loaded, total } });
  const release = await Release.open(base, { digest });
  const folder = `variants/${name}/`;
  const variant = await release.readJson(`${folder}variant.json`);
  const runtime = variant.kind === "onnx" && RUNTIMES[device];
  const names = [...Object.values(variant.files).map((file) => folder + file), ...PROBES];
  if (runtime) names.push(RUNTIME + runtime.binary);
  const total = release.size(names);
  let loaded = 0;
  const contents = {};
  for (const file of names) {
    contents[file] = await release.read(file, {
      count: (bytes) => report("download", (loaded += bytes), total),
    });
  }
  report("start", 0, 1);
  const files = Object.fromEntries(
    Object.entries(variant.files).map(([role, file]) => [role, { name: file, bytes: contents[folder + file] }]),
  );
  if (runtime) {
    const place = new URL("./packages/onnxruntime-web/", import.meta.url).href;
    const scripts = { module: place + runtime.script, binary: contents[RUNTIME + runtime.binary], folder: place };
    encoder = await OnnxEncoder.open(variant, files, scripts, device, threads);
  } else {
    encoder = new StaticEncoder(variant, files);
    ownBytes = files.table.bytes.length;
  }
  const golden = readTensors(contents[PROBES[1]], PROBES[1])[name];
  const cosine = await runSelfTest(
    async (text, prompt) => (await encoder.encode([text], prompt))[0].vector,
    JSON.parse(new TextDecoder().decode(contents[PROBES[0]])),
    splitRows(golden.values, variant.dimensions),
    (share) => report("selftest", share, 1),
  );
  return { variant, cosine, threads: encoder.threads, bytes: countBytes() };
}

async function encode({ texts, prompt }) {
  const results = await encoder.encode(texts, prompt);
  return { results, bytes: countBytes() };
}

const CALLS = { open, encode };

// Calls wait for each other: a session of ONNX Runtime Web computes one thing at a time.
let last = Promise.resolve();
onmessage = ({ data: { id, call, values } }) => {
  last = last
    .then(() => CALLS[call](values))
    .then(
      (result) => postMessage({ id, result }),
      (error) => postMessage({ id, error: packError(error) }),
    );
};
