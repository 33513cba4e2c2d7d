// A bounded cache by frequency and recency: segmented LRU (Karedla, Love and Wherry, 1994).

// Bytes of an entry beside its vector and key: the map's own, about.
const OVERHEAD = 64;

/**
 * Keeps vectors by key. A key that was asked for again moves to the protected segment; the least recently used one of
 * the other segment goes first, so one pass over many new texts does not push out what is asked for often.
 */
export class VectorCache {
  #probation = new Map();
  #protected = new Map();
  #limit;
  #bytes = { probation: 0, protected: 0 };

  /** @param {number} limit the most bytes that all entries may take. */
  constructor(limit) {
    this.#limit = limit;
  }

  /** Bytes of all entries. */
  get bytes() {
    return this.#bytes.probation + this.#bytes.protected;
  }

  /** Return the entry of a key, or undefined. */
  get(key) {
    let entry = this.#protected.get(key);
    if (entry) {
      this.#protected.delete(key);
      this.#protected.set(key, entry);
      return entry;
    }
    entry = this.#probation.get(key);
    if (!entry) return undefined;
    this.#remove("probation", this.#probation, key);
    this.#insert("protected", this.#protected, key, entry);
    while (this.#bytes.protected > 0.8 * this.#limit && this.#protected.size > 1) {
      const [oldest, moved] = this.#protected.entries().next().value;
      this.#remove("protected", this.#protected, oldest);
      this.#insert("probation", this.#probation, oldest, moved);
    }
    return entry;
  }

  /** Keep an entry, `{ vector, … }`; the least useful ones make room. One that is larger than the cache is not kept. */
  set(key, entry) {
    if (this.#protected.has(key) || this.#probation.has(key) || size(key, entry) > this.#limit) return;
    this.#insert("probation", this.#probation, key, entry);
    while (this.bytes > this.#limit) {
      const name = this.#probation.size ? "probation" : "protected";
      const segment = name === "probation" ? this.#probation : this.#protected;
      this.#remove(name, segment, segment.keys().next().value);
    }
  }

  /** Forget everything. */
  clear() {
    this.#probation.clear();
    this.#protected.clear();
    this.#bytes = { probation: 0, protected: 0 };
  }

  #insert(name, segment, key, entry) {
    segment.set(key, entry);
    this.#bytes[name] += size(key, entry);
  }

  #remove(name, segment, key) {
    this.#bytes[name] -= size(key, segment.get(key));
    segment.delete(key);
  }
}

const size = (key, { vector }) => 2 * key.length + vector.byteLength + OVERHEAD;
