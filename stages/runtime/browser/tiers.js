// Which variant a device opens, how many at once, and how long an unused one stays: by the memory of the device.

import { InputError } from "./faults.js";

const MINUTE = 60_000;
// Memory in GB, and up to it: the widest weights to try first, in bits; variants loaded at once; idle time in ms.
const TIERS = [
  { memory: 2, bits: 4, models: 1, idle: MINUTE },
  { memory: 4, bits: 4, models: 2, idle: 5 * MINUTE },
  { memory: 8, bits: 8, models: 3, idle: 10 * MINUTE },
  { memory: Infinity, bits: 16, models: 5, idle: Infinity },
];
// What is assumed where the browser does not say (Firefox, Safari): a small phone is served, too.
const UNKNOWN = 4;
const KINDS = ["onnx", "static"];
// Parts of the memory budget: above HIGH a page hears of it, above CRITICAL unused variants are unloaded.
export const HIGH = 0.75;
export const CRITICAL = 0.9;

/** Return the tier of a device with `memory` GB; by default what the browser says of this one. */
export function chooseTier(memory = navigator.deviceMemory ?? UNKNOWN) {
  const tier = TIERS.find((candidate) => memory <= candidate.memory);
  // Half of the memory is left to the system and to other pages, as the targets edge_2gb to edge_8gb leave it.
  return { ...tier, memory, budgetMb: memory * 500 };
}

/**
 * Return the names of the variants to try, the best first: those of the first choice's vector space that run in a
 * browser; weights that fit the tier before wider ones; then the target's own order.
 *
 * @param {object} contract the release's bundle.json.
 * @param {string} [name] one variant that is asked for; it has no replacement.
 */
export function listVariants(contract, tier, name) {
  const { order } = contract.selection;
  const runs = order.filter((variant) => KINDS.includes(contract.variants[variant].kind));
  if (name) {
    if (runs.includes(name)) return [name];
    throw new InputError(`There is no variant ${name} that runs in a browser; there are ${runs.join(", ")}.`);
  }
  const space = contract.variants[order[0]].space_id;
  const excess = (variant) => Math.max(0, contract.variants[variant].bits - tier.bits);
  const eligible = runs.filter((variant) => contract.variants[variant].space_id === space);
  if (!eligible.length) throw new InputError(`No variant of ${order.join(", ")} runs in a browser. Build target=browser.`);
  return eligible.sort((left, right) => excess(left) - excess(right) || order.indexOf(left) - order.indexOf(right));
}
