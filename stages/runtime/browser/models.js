// The variants that are loaded, each in a worker of its own; unloaded when unused, or when memory is short.

import { cancelled, unpackError } from "./faults.js";
import { CRITICAL, HIGH } from "./tiers.js";

const MB = 1_000_000;

/** One variant's worker. */
class Model {
  #worker = new Worker(new URL("./model.js", import.meta.url), { type: "module", name: "embed-foundry variant" });
  #waiting = new Map();
  #calls = 0;
  bytes = 0;
  used = 0;

  /**
   * @param {(progress: object) => void} onprogress told how far loading is.
   * @param {() => void} oncrash told that the worker ended by itself.
   */
  constructor(name, onprogress, oncrash) {
    this.name = name;
    this.#worker.onmessage = ({ data: { id, result, error, progress } }) => {
      if (progress) return onprogress(progress);
      const { resolve, reject } = this.#waiting.get(id);
      this.#waiting.delete(id);
      if (error) return reject(unpackError(error));
      this.bytes = result.bytes;
      return resolve(result);
    };
    this.#worker.onerror = (event) => {
      this.end(new Error(`${name}: its worker failed (${event.message || "not loaded"}).`));
      oncrash();
    };
  }

  get busy() {
    return this.#waiting.size > 0;
  }

  /** Pass a call to the worker and return its result. */
  ask(call, values) {
    return new Promise((resolve, reject) => {
      this.#waiting.set(++this.#calls, { resolve, reject });
      this.#worker.postMessage({ id: this.#calls, call, values });
    });
  }

  /** End the worker; what it was asked for fails with `error`. */
  end(error = cancelled()) {
    this.#worker.terminate();
    for (const { reject } of this.#waiting.values()) reject(error);
    this.#waiting.clear();
  }
}

/** Loads variants when they are asked for and keeps as many as the tier allows. */
export class Models {
  #loading = new Map(); // name -> { promise, model, waiters }
  #loaded = new Map(); // name -> { model, description }; the least recently used first
  #tier;
  #report;
  #timer;
  #level = "low"; // of memory pressure, as it was said last

  /**
   * @param {object} tier see `chooseTier`.
   * @param {(event: object) => void} report told of progress, pressure and unloading.
   */
  constructor(tier, report) {
    this.#tier = tier;
    this.#report = report;
  }

  /** Bytes that all loaded variants take. */
  get bytes() {
    return [...this.#loaded.values()].reduce((sum, { model }) => sum + model.bytes, 0);
  }

  /** Return `{ model, description }` of a variant, loaded now if it is not yet; cancelled when nobody waits any more. */
  async load(name, place, signal) {
    const loaded = this.#touch(name);
    if (loaded) return loaded;
    if (signal?.aborted) throw cancelled();
    const loading = this.#loading.get(name) ?? this.#start(name, place);
    loading.waiters++;
    return await new Promise((resolve, reject) => {
      const leave = () => {
        reject(cancelled());
        if (--loading.waiters === 0) loading.model.end();
      };
      signal?.addEventListener("abort", leave);
      loading.promise.then(resolve, reject).finally(() => signal?.removeEventListener("abort", leave));
    });
  }

  /** Encode texts with a loaded variant. */
  async encode({ model }, texts, prompt) {
    const { results } = await model.ask("encode", { texts, prompt });
    this.#touch(model.name);
    this.#relieve(model.name);
    return results;
  }

  /** Unload a variant that is not computing; `reason` goes into the event. */
  unload(name, reason) {
    const { model } = this.#loaded.get(name) ?? {};
    if (!model || model.busy) return;
    this.#loaded.delete(name);
    model.end();
    this.#report({ type: "unload", variant: name, reason });
  }

  #start(name, place) {
    const report = (progress) => this.#report({ type: "progress", ...progress });
    const model = new Model(name, report, () => this.#loaded.delete(name));
    const opened = model.ask("open", { ...place, name });
    const promise = opened.then(
      (description) => {
        this.#loading.delete(name);
        while (this.#loaded.size >= this.#tier.models && this.#unloadOldest("limit"));
        this.#loaded.set(name, { model, description });
        this.#touch(name);
        this.#relieve(name);
        return this.#loaded.get(name);
      },
      (error) => {
        this.#loading.delete(name);
        model.end();
        throw error;
      },
    );
    promise.catch(() => {}); // everybody who waited may have gone
    const loading = { promise, model, waiters: 0 };
    this.#loading.set(name, loading);
    return loading;
  }

  /** Return a loaded variant and note that it is used now. */
  #touch(name) {
    const entry = this.#loaded.get(name);
    if (!entry) return undefined;
    entry.model.used = Date.now();
    this.#loaded.delete(name);
    this.#loaded.set(name, entry);
    this.#watch();
    return entry;
  }

  /** Wake up when the least recently used variant has been idle for long enough. */
  #watch() {
    clearTimeout(this.#timer);
    const [oldest] = this.#loaded.values();
    if (!oldest || this.#tier.idle === Infinity) return;
    this.#timer = setTimeout(
      () => {
        for (const [name, { model }] of this.#loaded) {
          if (Date.now() - model.used >= this.#tier.idle) this.unload(name, "idle");
        }
        this.#watch();
      },
      Math.max(1000, oldest.model.used + this.#tier.idle - Date.now()),
    );
  }

  #unloadOldest(reason, except) {
    const name = [...this.#loaded.keys()].find((key) => key !== except && !this.#loaded.get(key).model.busy);
    if (name) this.unload(name, reason);
    return Boolean(name);
  }

  /** Report memory pressure, and unload what is not in use where it is critical. */
  #relieve(inUse) {
    const level = this.#measureLevel();
    if (level !== this.#level && level !== "low") {
      this.#report({ type: "pressure", level, usedMb: Math.round(this.bytes / MB), budgetMb: this.#tier.budgetMb });
    }
    while (this.#measureLevel() === "critical" && this.#unloadOldest("pressure", inUse));
    this.#level = this.#measureLevel();
  }

  #measureLevel() {
    const share = this.bytes / MB / this.#tier.budgetMb;
    return share > CRITICAL ? "critical" : share > HIGH ? "high" : "low";
  }
}
