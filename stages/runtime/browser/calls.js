// A tab's calls to the service, in whichever tab that runs.
//
// A SharedWorker would be simpler, but Chromium gives it no threads (its page may be isolated, it never is) and no
// workers of its own. A worker of the tab that holds a Web Lock can have both.

import { cancelled, unpackError } from "./faults.js";

/** The connection of this tab to the service of one release. */
export class Connection {
  #tab = crypto.randomUUID();
  #waiting = new Map(); // call id -> { message, resolve, reject }
  #calls = 0;
  #requests;
  #answers;
  #events;
  #listeners = new Set();
  #closing = new AbortController();

  /**
   * @param {string} name of the service: tabs that give the same name share it.
   * @param {object} setup what the service is started with, by the first tab.
   */
  constructor(name, setup) {
    this.#requests = new BroadcastChannel(`${name} requests`);
    this.#answers = new BroadcastChannel(`${name} answers ${this.#tab}`);
    this.#events = new BroadcastChannel(`${name} events`);
    this.#answers.onmessage = ({ data }) => this.#settle(data);
    this.#events.onmessage = ({ data }) => this.#hear(data);
    navigator.locks
      .request(name, { signal: this.#closing.signal }, () => this.#serve(name, setup))
      .catch(() => {}); // closed before it was this tab's turn
  }

  /** Whether this tab runs the service. */
  serving = false;

  /** Call `listener` with every event of the service; return what ends that. */
  listen(listener) {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Pass a call to the service and return its result; an aborted `signal` cancels it there, too. */
  ask(call, values, signal) {
    if (signal?.aborted) return Promise.reject(cancelled());
    const id = `${this.#tab} ${++this.#calls}`;
    const message = { tab: this.#tab, id, call, values };
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { message, resolve, reject });
      this.#requests.postMessage(message);
      signal?.addEventListener("abort", () => {
        this.#requests.postMessage({ tab: this.#tab, id, call: "cancel" });
        this.#settle({ id, error: { name: "AbortError", message: cancelled().message } });
      });
    });
  }

  /** End this tab's part; another tab that is open runs the service from now on. */
  close() {
    this.#closing.abort();
    for (const channel of [this.#requests, this.#answers, this.#events]) channel.close();
    for (const { reject } of this.#waiting.values()) reject(cancelled());
    this.#waiting.clear();
  }

  /** Run the service until this tab is closed. */
  #serve(name, setup) {
    this.serving = true;
    const worker = new Worker(new URL("./service.js", import.meta.url), { type: "module", name });
    worker.postMessage({ name, ...setup });
    return new Promise((resolve) => {
      const end = () => {
        worker.terminate();
        resolve();
      };
      worker.onerror = (event) => {
        const message = `The service's worker failed (${event.message || "it could not be loaded"}).`;
        this.#events.postMessage({ type: "failed", message });
        this.#hear({ type: "failed", message });
        end();
      };
      this.#closing.signal.addEventListener("abort", end);
    });
  }

  #hear(event) {
    // A new service has seen no call yet.
    if (event.type === "ready") for (const { message } of this.#waiting.values()) this.#requests.postMessage(message);
    if (event.type === "failed") {
      for (const id of [...this.#waiting.keys()]) this.#settle({ id, error: { name: "Error", message: event.message } });
    }
    for (const listener of this.#listeners) listener(event);
  }

  #settle({ id, result, error }) {
    const call = this.#waiting.get(id);
    if (!call) return;
    this.#waiting.delete(id);
    if (error) call.reject(unpackError(error));
    else call.resolve(result);
  }
}
