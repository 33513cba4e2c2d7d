// Texts to token ids, as embed_foundry/encoders/tokenized.py does it.

import { Tokenizer } from "./packages/tokenizers/tokenizers.min.mjs";

import { InputError } from "./faults.js";

/** The tokenizer of one variant; it never pads. */
export class TextTokenizer {
  #tokenizer;
  #variant;
  #before;
  #after;
  #checked;

  /**
   * @param {object} json the variant's tokenizer.json.
   * @param {object} variant its variant.json.
   * @param {boolean} special whether special tokens are put around a text.
   */
  constructor(json, variant, special) {
    this.#tokenizer = new Tokenizer(json, {});
    this.#variant = variant;
    const whole = special ? this.#encode("a", true) : [];
    const plain = special ? this.#encode("a", false) : [];
    this.#before = plain.length ? whole.indexOf(plain[0]) : whole.length;
    this.#after = whole.length - plain.length - this.#before;
    this.special = special;
    // Texts are checked only where the tokenizer has ids that the model has no row for.
    const ids = [...Object.values(json.model.vocab).filter(Number.isInteger), ...json.added_tokens.map(({ id }) => id)];
    const highest = ids.reduce((most, id) => Math.max(most, id), Array.isArray(json.model.vocab) ? json.model.vocab.length - 1 : -1);
    this.#checked = variant.vocabulary > 0 && variant.vocabulary <= highest;
  }

  /** Return `{ ids, tokens }` of each text: the ids within the variant's limit, and how many there were before. */
  encode(texts) {
    return texts.map((text, index) => {
      const ids = this.#encode(text, this.special);
      if (this.special && !ids.length) throw new InputError(`Text ${index} has no token, so the model has no vector for it. Leave it out.`);
      const missing = this.#checked && ids.find((id) => id >= this.#variant.vocabulary);
      if (missing) {
        throw new InputError(`Text ${index} holds a token (id ${missing}), and the model has rows for ${this.#variant.vocabulary}. Take it out.`);
      }
      return { ids: this.#truncate(ids), tokens: ids.length };
    });
  }

  /** Return how many tokens of a prompt pooling leaves out: its own and the special tokens in front. */
  countLeftOut(prompt) {
    if (!prompt || this.#variant.pools_prompt) return 0;
    return this.#encode(prompt, true).length - (this.#after ? 1 : 0);
  }

  #encode(text, special) {
    return this.#tokenizer.encode(text, { add_special_tokens: special }).ids;
  }

  #truncate(ids) {
    const { max_tokens: limit, truncation_side: side } = this.#variant;
    if (ids.length <= limit) return ids;
    const stop = ids.length - this.#after;
    const kept = Math.max(0, limit - this.#before - this.#after);
    const middle = side === "left" ? ids.slice(stop - kept, stop) : ids.slice(this.#before, this.#before + kept);
    return [...ids.slice(0, this.#before), ...middle, ...ids.slice(stop)];
  }
}
