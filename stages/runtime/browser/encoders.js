// The encoders: a variant's files in, vectors of texts out, as embed_foundry/encoders/ does it.

import { IntegrityError } from "./faults.js";
import { readTensors } from "./tensors.js";
import { TextTokenizer } from "./tokens.js";
import { normalise, splitRows } from "./vectors.js";

const OUTPUT = "sentence_embedding";
// The most texts of a call, and the most tokens of a call that has more than one text. On one thread, larger calls are
// no faster.
const CALL_TEXTS = 8;
const CALL_TOKENS = 2048;
// More threads than a small machine has cores are slower, and the page needs one.
const MOST_THREADS = 4;

/** Return the text before an input; `encode` of embed-foundry.js has checked the prompt's name. */
const findPrompt = (variant, prompt) => variant.prompts[prompt] ?? "";

/** Runs a graph that pools and normalises itself, by ONNX Runtime Web. */
export class OnnxEncoder {
  #ort;
  #session;
  #tokenizer;

  /**
   * @param {object} variant its variant.json.
   * @param {object} files role -> { name, bytes }.
   * @param {object} runtime `{ module, binary, folder }`: ONNX Runtime Web's script, its checked wasm, their folder.
   * @param {"wasm" | "webgpu"} device what computes.
   * @param {number} [threads] CPU threads; only an isolated page has more than one.
   */
  static async open(variant, files, { module, binary, folder }, device, threads) {
    const ort = await import(module);
    const cores = Math.min(MOST_THREADS, navigator.hardwareConcurrency ?? 1);
    ort.env.wasm.wasmPaths = folder;
    ort.env.wasm.wasmBinary = binary.buffer;
    ort.env.wasm.numThreads = globalThis.crossOriginIsolated ? (threads ?? cores) : 1;
    // A large graph keeps its weights in a file of its own, which it names.
    const externalData = files.weights && [{ path: files.weights.name, data: files.weights.bytes }];
    const session = await ort.InferenceSession.create(files.graph.bytes, {
      executionProviders: device === "webgpu" ? ["webgpu", "wasm"] : ["wasm"],
      ...(externalData && { externalData }),
    });
    if (!session.outputNames.includes(OUTPUT)) {
      throw new IntegrityError(`${variant.name}: expected an output named ${OUTPUT}, found ${session.outputNames}.`);
    }
    return new OnnxEncoder(ort, session, variant, files.tokenizer.bytes);
  }

  constructor(ort, session, variant, tokenizer) {
    this.#ort = ort;
    this.#session = session;
    this.#tokenizer = new TextTokenizer(JSON.parse(new TextDecoder().decode(tokenizer)), variant, true);
    this.variant = variant;
    this.threads = ort.env.wasm.numThreads;
  }

  /** Return `{ vector, tokens, unknown }` of each text. */
  async encode(texts, prompt) {
    const prefix = findPrompt(this.variant, prompt);
    const rows = this.#tokenizer.encode(texts.map((text) => prefix + text));
    const results = new Array(texts.length);
    for (const call of planCalls(rows, this.variant.batching)) {
      const vectors = await this.#run(call.map((index) => rows[index].ids), this.#tokenizer.countLeftOut(prefix));
      call.forEach((index, row) => {
        results[index] = { vector: vectors[row], tokens: rows[index].tokens, unknown: false };
      });
    }
    return results;
  }

  async #run(rows, leftOut) {
    const longest = rows.reduce((most, ids) => Math.max(most, ids.length), 0);
    const shape = [rows.length, longest];
    const ids = new BigInt64Array(rows.length * longest).fill(BigInt(this.variant.pad_id));
    const mask = new BigInt64Array(rows.length * longest);
    rows.forEach((row, index) => {
      row.forEach((id, place) => (ids[index * longest + place] = BigInt(id)));
      mask.fill(1n, index * longest, index * longest + row.length);
    });
    const inputs = {
      input_ids: () => new this.#ort.Tensor("int64", ids, shape),
      attention_mask: () => new this.#ort.Tensor("int64", mask, shape),
      token_type_ids: () => new this.#ort.Tensor("int64", new BigInt64Array(ids.length), shape),
      prompt_length: () => new this.#ort.Tensor("int64", new BigInt64Array(rows.length).fill(BigInt(leftOut)), [rows.length]),
    };
    const feeds = Object.fromEntries(this.#session.inputNames.map((name) => [name, inputs[name]()]));
    const { [OUTPUT]: output } = await this.#session.run(feeds, [OUTPUT]);
    const vectors = splitRows(Float32Array.from(await output.getData()), this.variant.dimensions).map(normalise);
    output.dispose();
    return vectors;
  }
}

/**
 * Return which texts share a call, by index, the shortest first: 8-bit activations depend on what a text is padded
 * with, so their variants batch only texts of equal length, or none ("single").
 */
function planCalls(rows, batching) {
  const calls = [];
  const order = rows.map((_, index) => index).sort((left, right) => rows[left].ids.length - rows[right].ids.length);
  const most = batching === "single" ? 1 : CALL_TEXTS;
  for (const index of order) {
    const { length } = rows[index].ids;
    const call = calls.at(-1);
    const fits =
      call &&
      call.length < most &&
      (call.length + 1) * length <= CALL_TOKENS &&
      (batching === "padded" || rows[call[0]].ids.length === length);
    if (fits) call.push(index);
    else calls.push([index]);
  }
  return calls;
}

/** Averages rows of one table, in plain JavaScript. A table follows no instruction, so prompts are not added. */
export class StaticEncoder {
  #table;
  #weights;
  #mapping;
  #tokenizer;

  constructor(variant, files) {
    const tensors = readTensors(files.table.bytes, files.table.name);
    if (!tensors.embeddings) throw new IntegrityError(`${files.table.name}: holds no tensor named embeddings.`);
    this.#table = tensors.embeddings.values;
    this.#weights = tensors.weights?.values;
    this.#mapping = tensors.mapping?.values; // token id -> row of the table
    this.#tokenizer = new TextTokenizer(JSON.parse(new TextDecoder().decode(files.tokenizer.bytes)), variant, false);
    this.variant = variant;
    this.threads = 1;
  }

  /** Return `{ vector, tokens, unknown }` of each text; the mean row stands for a text without a known token. */
  async encode(texts) {
    return this.#tokenizer.encode(texts).map(({ ids, tokens }) => {
      const known = ids.filter((id) => id !== this.variant.recipe.unknown_id);
      return { vector: normalise(this.#sum(known)), tokens, unknown: !known.length };
    });
  }

  #sum(ids) {
    const { dimensions } = this.variant;
    const sum = new Float64Array(dimensions);
    const rows = ids.length ? ids.map((id) => this.#mapping?.[id] ?? id) : [...Array(this.#table.length / dimensions).keys()];
    rows.forEach((row, index) => {
      const weight = ids.length && this.#weights ? this.#weights[ids[index]] : 1;
      for (let place = 0; place < dimensions; place++) sum[place] += weight * this.#table[row * dimensions + place];
    });
    return Float32Array.from(sum, (value) => value / rows.length);
  }
}
