// The service: one worker for all tabs of an origin that opened the same release. The tab that holds the lock runs it;
// when that tab is closed, another one does.

import { VectorCache } from "./cache.js";
import { IntegrityError, cancelled, packError } from "./faults.js";
import { Models } from "./models.js";
import { Release } from "./release.js";
import { chooseTier, listVariants } from "./tiers.js";

// Texts of one step: between steps, other calls get their turn and a cancelled call ends.
const STEP = 16;
const MB = 1_000_000;

class Service {
  #running = new Map(); // call id -> AbortController of a call in progress
  #places = new Map(); // opened variant -> how it was opened
  #release;

  constructor({ name, base, digest, options }) {
    this.base = base;
    this.digest = digest;
    this.options = options;
    this.tier = { ...chooseTier(options.deviceMemory), ...(options.memoryMb && { budgetMb: options.memoryMb }) };
    if (options.idleMs !== undefined) this.tier.idle = options.idleMs;
    this.events = new BroadcastChannel(`${name} events`);
    this.cache = new VectorCache(options.cacheMb * MB);
    this.models = new Models(this.tier, (event) => this.events.postMessage(event));
    this.requests = new BroadcastChannel(`${name} requests`);
    this.name = name;
    this.requests.onmessage = ({ data }) => this.#receive(data);
    this.events.postMessage({ type: "ready" });
  }

  /** Answer a call to the tab that asked; a call that is sent again while it runs is not run twice. */
  async #receive({ tab, id, call, values }) {
    if (call === "cancel") return this.#running.get(id)?.abort();
    if (this.#running.has(id)) return undefined;
    const controller = new AbortController();
    this.#running.set(id, controller);
    let answer;
    try {
      answer = { id, result: await this[call](values, controller.signal) };
    } catch (error) {
      answer = { id, error: packError(error) };
    }
    this.#running.delete(id);
    const channel = new BroadcastChannel(`${this.name} answers ${tab}`);
    channel.postMessage(answer);
    channel.close();
    return undefined;
  }

  /** Open the named variant, or the first of the tier's order that passes its self-test. */
  async open({ variant }, signal) {
    // Every call awaits one promise; a failed one is tried again.
    this.#release ??= Release.open(this.base, { digest: this.digest }).catch((error) => {
      this.#release = undefined;
      throw error;
    });
    const release = await this.#release;
    const contract = await release.readJson("bundle.json", { signal });
    const names = listVariants(contract, this.tier, variant);
    const failures = [];
    for (const name of names) {
      for (const device of await this.#listDevices(contract, name)) {
        const place = { base: this.base, digest: release.digest, device, threads: this.options.threads };
        try {
          const { model, description } = await this.models.load(name, place, signal);
          this.#places.set(name, place);
          return this.#describe(release, contract, description, device, model, failures);
        } catch (error) {
          if (error.name === "AbortError") throw error;
          failures.push(`${name} on ${device}: ${error.message}`);
          this.events.postMessage({ type: "fallback", variant: name, device, reason: error.message });
        }
      }
    }
    throw new IntegrityError(`No variant can be opened here. ${failures.join(" ")}`);
  }

  #describe(release, contract, { variant, cosine, threads }, device, model, failures) {
    return {
      release: release.digest,
      model: contract.model.repo,
      variant: variant.name,
      spaceId: contract.variants[variant.name].space_id,
      dimensions: variant.dimensions,
      matryoshka: variant.matryoshka,
      maxTokens: variant.max_tokens,
      prompts: variant.prompts,
      device: variant.kind === "static" ? "javascript" : device,
      threads,
      cosine,
      failures,
      memoryMb: model.bytes / MB,
      tier: { ...this.tier, idle: this.tier.idle === Infinity ? null : this.tier.idle },
    };
  }

  /** Return what a variant may run on, the best first. */
  async #listDevices(contract, name) {
    const { device } = this.options;
    if (contract.variants[name].kind !== "onnx") return ["wasm"];
    if (device !== "auto") return [device];
    // Only the CPU has kernels for rounded activations.
    const { quantize } = contract.build.parameters.variants[name];
    if (quantize && (quantize.activations !== "fp32" || quantize.dynamic.length)) return ["wasm"];
    const adapter = await navigator.gpu?.requestAdapter();
    // A fallback adapter computes on the CPU, slower than WebAssembly.
    return adapter && !adapter.info?.isFallbackAdapter ? ["webgpu", "wasm"] : ["wasm"];
  }

  /** Return the vectors of texts, those that are in the cache from there. */
  async encode({ variant, texts, prompt }, signal) {
    const key = (text) => `${variant}\n${prompt ?? ""}\n${text}`;
    const entries = new Map(texts.map((text) => [text, this.cache.get(key(text))]));
    const missing = [...entries.keys()].filter((text) => !entries.get(text));
    for (let start = 0; start < missing.length; start += STEP) {
      if (signal.aborted) throw cancelled();
      const step = missing.slice(start, start + STEP);
      const loaded = await this.models.load(variant, this.#places.get(variant) ?? (await this.#reopen(variant, signal)), signal);
      const results = await this.models.encode(loaded, step, prompt);
      results.forEach((entry, index) => {
        entries.set(step[index], entry);
        this.cache.set(key(step[index]), entry);
      });
    }
    return {
      entries: texts.map((text) => entries.get(text)),
      cached: texts.length - texts.filter((text) => missing.includes(text)).length,
      memoryMb: this.models.bytes / MB,
    };
  }

  /** Unload a variant; the next call that needs it loads it again. */
  unload({ variant }) {
    this.models.unload(variant, "asked");
  }

  /** A tab took over from one that was closed: open again what that one had opened. */
  async #reopen(variant, signal) {
    await this.open({ variant }, signal);
    return this.#places.get(variant);
  }
}

onmessage = ({ data }) => new Service(data);
