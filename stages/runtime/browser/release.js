// The release's files: fetched, checked against its manifest, and kept in the browser's Cache Storage.

import { IntegrityError, cancelled } from "./faults.js";

const STORE = "embed-foundry";
const AGAIN = "Do not use this release; copy it to the server again, byte by byte.";

/** Return the hex SHA-256 of bytes. */
async function sha256(bytes) {
  if (!globalThis.crypto?.subtle) {
    throw new Error("This page was not loaded by https or from localhost, so the browser cannot check files. Use https.");
  }
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Fetch a file in pieces; at most `size` bytes if that is known. `count` is called with the bytes of each piece. */
async function download(url, { size, signal, count = () => {} }) {
  const answer = await fetch(url, { signal, cache: "no-cache" });
  if (!answer.ok) throw new Error(`${url}: the server answered ${answer.status} ${answer.statusText}.`);
  const pieces = [];
  let received = 0;
  for (const reader = answer.body.getReader(); ; ) {
    const { done, value } = await reader.read();
    if (done) break;
    received += value.length;
    if (received > size) {
      await reader.cancel();
      break;
    }
    pieces.push(value);
    count(value.length);
  }
  if (size !== undefined && received !== size) {
    throw new IntegrityError(`${url}: ${received > size ? "over" : received} bytes, the manifest lists ${size}. ${AGAIN}`);
  }
  const bytes = new Uint8Array(received);
  let offset = 0;
  for (const piece of pieces) {
    bytes.set(piece, offset);
    offset += piece.length;
  }
  return bytes;
}

/** A release folder on a web server. */
export class Release {
  /**
   * Read and check the manifest, and forget files that are kept of other releases at this address.
   *
   * @param {string} base the folder's address, with a slash at the end.
   * @param {string} [digest] the release's digest, as `embed-foundry verify` prints it; a page that names it trusts no
   *   other release, whatever the server sends.
   */
  static async open(base, { digest } = {}) {
    const url = `${base}manifest.json`;
    const text = new TextDecoder().decode(await download(url, {}));
    // The digest is over the same bytes without its own line: keys are sorted, a line each.
    const line = /^ {2}"digest": "([0-9a-f]{64})",\n/m.exec(text);
    const own = line && (await sha256(new TextEncoder().encode(text.replace(line[0], ""))));
    if (!line || own !== line[1]) throw new IntegrityError(`${url}: changed since it was written (own digest differs). ${AGAIN}`);
    if (digest && digest !== own) {
      throw new IntegrityError(`${url}: is the release ${own}, this page expects ${digest}. Update the page, or the release.`);
    }
    const release = new Release(base, own, JSON.parse(text).files);
    await release.#forgetOthers();
    return release;
  }

  constructor(base, digest, files) {
    this.base = base;
    this.digest = digest;
    this.files = files;
  }

  /** Return the size of files in bytes. */
  size(names) {
    return names.reduce((sum, name) => sum + this.#entry(name).size, 0);
  }

  /**
   * Return a file's bytes, checked: from the Cache Storage if it is there, else from the server.
   *
   * @param {(bytes: number) => void} [count] called with the bytes of each piece that arrives.
   */
  async read(name, { signal, count = () => {} } = {}) {
    const { sha256: expected, size } = this.#entry(name);
    const kept = await this.#find(expected);
    if (kept && (await sha256(kept)) === expected) {
      count(size);
      return kept;
    }
    const bytes = await download(this.base + name, { size, signal, count });
    const actual = await sha256(bytes);
    if (signal?.aborted) throw cancelled();
    if (actual !== expected) {
      throw new IntegrityError(`${this.base}${name}: SHA-256 ${actual}, the manifest lists ${expected}. ${AGAIN}`);
    }
    await this.#keep(expected, bytes);
    return bytes;
  }

  /** Return the JSON value in a file. */
  async readJson(name, options) {
    return JSON.parse(new TextDecoder().decode(await this.read(name, options)));
  }

  #entry(name) {
    if (!this.files[name]) throw new IntegrityError(`${this.base}${name}: the manifest does not list it. ${AGAIN}`);
    return this.files[name];
  }

  #key(digest) {
    return `${this.base}.verified/${digest}`;
  }

  async #find(digest) {
    const answer = await globalThis.caches?.open(STORE).then((store) => store.match(this.#key(digest)));
    return answer && new Uint8Array(await answer.arrayBuffer());
  }

  async #keep(digest, bytes) {
    try {
      await globalThis.caches?.open(STORE).then((store) => store.put(this.#key(digest), new Response(bytes)));
    } catch {
      // The browser's quota is full, or it keeps nothing (private windows): the file is fetched again next time.
    }
  }

  async #forgetOthers() {
    const store = await globalThis.caches?.open(STORE);
    const current = new Set(Object.values(this.files).map((entry) => this.#key(entry.sha256)));
    for (const { url } of (await store?.keys()) ?? []) {
      if (url.startsWith(this.#key("")) && !current.has(url)) await store.delete(url);
    }
  }
}
