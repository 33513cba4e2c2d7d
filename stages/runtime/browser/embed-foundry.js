// Opens the release that this file ships in, in a web page:
//
//   import { openBundle } from "./release/browser/embed-foundry.js";
//   const encoder = await openBundle();
//   const { vectors } = await encoder.encode(["How do I list my buckets?"]);
//
// docs/browser.md says what a server must send, and what every option does.

import { Connection } from "./calls.js";
import { InputError } from "./faults.js";
import { roundToHalf, truncate } from "./vectors.js";

export { InputError, IntegrityError } from "./faults.js";

const PRECISIONS = ["float32", "float16"];
const connections = new Map(); // name of a service -> { connection, users }

/**
 * Open a release: verify its files, choose a variant for this device, and self-test it.
 *
 * @param {object} [options]
 * @param {string} [options.base] the release's address; by default that of the release which this file is part of.
 * @param {string} [options.digest] the only release that may be opened, as `embed-foundry verify` prints it.
 * @param {string} [options.variant] a variant by name; by default the best one for the device's memory.
 * @param {(event: object) => void} [options.onevent] told of progress (`phase` download, start or selftest; `loaded` of
 *   `total`), fallback, pressure (`level` high or critical) and unload (`reason` idle, pressure, limit or asked).
 * @param {AbortSignal} [options.signal] cancels loading.
 * @param {"auto" | "wasm" | "webgpu"} [options.device] what computes graphs; "auto" takes a GPU where there is one.
 * @param {number} [options.threads] CPU threads; more than one needs an isolated page.
 * @param {number} [options.memoryMb] memory that loaded variants may take; by default half of the device's.
 * @param {number} [options.cacheMb] memory for vectors of texts that were encoded before.
 * @param {number} [options.idleMs] after how long an unused variant is unloaded; by default by the device's memory.
 * @param {number} [options.deviceMemory] GB of memory, where the browser does not say or to try another tier.
 * @returns {Promise<Encoder>}
 * @throws {IntegrityError} a file is not what the manifest says, or no variant passes its self-test.
 * @throws {InputError} there is no such variant.
 */
export async function openBundle({ base, digest, variant, onevent, signal, ...options } = {}) {
  if (!navigator.locks) throw new Error("This page was not loaded by https or from localhost. Use https.");
  const address = new URL(base ?? "..", base ? document.baseURI : import.meta.url).href.replace(/\/?$/, "/");
  const settings = { device: "auto", cacheMb: 16, ...options };
  const name = ["embed-foundry", address, digest ?? "", JSON.stringify(settings)].join(" ");
  const shared = connections.get(name) ?? { connection: new Connection(name, { base: address, digest, options: settings }), users: 0 };
  connections.set(name, shared);
  shared.users++;
  const leave = () => {
    if (--shared.users > 0) return;
    connections.delete(name);
    shared.connection.close();
  };
  const silence = shared.connection.listen((event) => onevent?.(event));
  try {
    const description = await shared.connection.ask("open", { variant }, signal);
    return new Encoder(shared.connection, description, () => {
      silence();
      leave();
    });
  } catch (error) {
    silence();
    leave();
    throw error;
  }
}

/** One variant, opened. Its fields describe it: variant, spaceId, dimensions, matryoshka, maxTokens, prompts, device … */
class Encoder {
  #connection;
  #leave;

  constructor(connection, description, leave) {
    this.#connection = connection;
    this.#leave = leave;
    Object.assign(this, description);
  }

  /** Whether this tab runs the service that all tabs share. */
  get serving() {
    return this.#connection.serving;
  }

  /**
   * Encode texts into vectors of unit norm.
   *
   * @param {string[]} texts
   * @param {object} [options]
   * @param {string} [options.prompt] a key of `prompts`.
   * @param {number} [options.dimensions] one of `matryoshka`: the first values, divided by their norm.
   * @param {"float32" | "float16"} [options.precision] of the vectors.
   * @param {AbortSignal} [options.signal] cancels the call.
   * @returns `vectors` (one a text), `truncated` (indices of texts over `maxTokens`), `unknown` (of texts without a
   *   known token, static only), `cached` (how many texts came from the cache), `roundingError` (of half precision, the
   *   largest of a value), `memoryMb` (of the loaded variants).
   * @throws {InputError} no list of texts; or no such prompt, dimension or precision; or a text without tokens.
   */
  async encode(texts, { prompt, dimensions = this.dimensions, precision = "float32", signal } = {}) {
    if (!Array.isArray(texts)) throw new InputError("encode expects a list of texts.");
    texts.forEach((text, index) => {
      if (typeof text !== "string") throw new InputError(`Text ${index} is a ${typeof text}, expected a string.`);
      if (!text.isWellFormed()) throw new InputError(`Text ${index} holds half of a surrogate pair. Take it out.`);
    });
    requireMember("dimensions", dimensions, this.matryoshka);
    requireMember("precision", precision, PRECISIONS);
    if (prompt !== undefined && prompt !== null) requireMember("prompt", prompt, Object.keys(this.prompts));
    const { entries, cached, memoryMb } = await this.#connection.ask("encode", { variant: this.variant, texts, prompt }, signal);
    const indices = (fits) => entries.flatMap((entry, index) => (fits(entry) ? [index] : []));
    const full = entries.map(({ vector }) => (dimensions < this.dimensions ? truncate(vector, dimensions) : vector));
    const rounded = precision === "float16" ? full.map(roundToHalf) : full.map((vector) => ({ vector, error: 0 }));
    return {
      vectors: rounded.map(({ vector }) => vector),
      truncated: indices(({ tokens }) => tokens > this.maxTokens),
      unknown: indices(({ unknown }) => unknown),
      cached,
      roundingError: rounded.reduce((most, { error }) => Math.max(most, error), 0),
      memoryMb,
    };
  }

  /** Give the variant's memory back; the next call loads it again, from the browser's storage. */
  unload() {
    return this.#connection.ask("unload", { variant: this.variant });
  }

  /** End the use of this encoder; the last one of a tab ends the tab's part in the service. */
  close() {
    this.#leave();
    this.#leave = () => {};
  }
}

function requireMember(what, value, members) {
  if (!members.includes(value)) throw new InputError(`There is no ${what} ${value}; there are ${members.join(", ") || "none"}.`);
}
