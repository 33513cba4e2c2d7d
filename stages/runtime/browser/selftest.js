// Does a variant encode here as it did when it was released? The limits are those of embed_foundry/selftest.py.

import { IntegrityError } from "./faults.js";
import { dot } from "./vectors.js";

const COSINE = 0.99;
const NORM = 1e-3;
const RANKING = 0.05;
const COLLAPSE = 0.05;
const STATE = 1e-3;

/**
 * Encode the release's probes, each alone, the longest first, and compare them with the recorded vectors.
 *
 * @param {(text: string, prompt: ?string) => Promise<Float32Array>} encode
 * @param {{ text: string, prompt: ?string }[]} probes the first is the longest.
 * @param {Float32Array[]} golden the vectors at release.
 * @param {(share: number) => void} progress
 * @returns the least cosine of a probe's vector to the recorded one.
 */
export async function runSelfTest(encode, probes, golden, progress) {
  const shortest = probes.reduce((least, probe) => (probe.text.length < least.text.length ? probe : least));
  const before = await encode(shortest.text, shortest.prompt);
  const vectors = [];
  for (const { text, prompt } of probes) {
    vectors.push(await encode(text, prompt));
    progress(vectors.length / probes.length);
  }
  await encode(probes[0].text, probes[0].prompt);
  const after = await encode(shortest.text, shortest.prompt);
  const faults = findFaults(vectors, golden, probes);
  const shift = Math.hypot(...before.map((value, index) => value - after[index]));
  if (!(shift <= STATE)) faults.push(`the shortest probe moves by ${shift.toPrecision(2)} after the longest one`);
  if (faults.length) throw new IntegrityError(`self-test: ${faults.join("; ")}`);
  return Math.min(...vectors.map((vector, index) => dot(vector, golden[index])));
}

/** Return what is wrong with vectors, given those at release; comparisons are written so that NaN fails. */
function findFaults(vectors, golden, probes) {
  const name = (index) => JSON.stringify(probes[index].text.slice(0, 40));
  const faults = [];
  vectors.forEach((vector, index) => {
    const length = Math.sqrt(dot(vector, vector));
    const cosine = dot(vector, golden[index]);
    if (!(Math.abs(length - 1) <= NORM)) faults.push(`length ${length.toFixed(4)} for ${name(index)}, expected 1`);
    if (!(cosine >= COSINE)) {
      faults.push(`cosine ${cosine.toFixed(4)} to the recorded vector for ${name(index)}, expected at least ${COSINE}`);
    }
  });
  const here = compareAll(vectors);
  const released = compareAll(golden);
  const swapped = countSwapped(here, released);
  if (swapped) faults.push(`${swapped} rankings of probes changed`);
  const shift = median(here) - median(released);
  if (!(Math.abs(shift) <= COLLAPSE)) faults.push(`the median similarity moved by ${shift.toFixed(3)}: the space has collapsed`);
  return faults;
}

const compareAll = (vectors) => vectors.map((left) => vectors.map((right) => dot(left, right)));

/** Return how often one probe was clearly closer to a second than to a third at release, and is not here. */
function countSwapped(here, released) {
  let count = 0;
  for (let i = 0; i < here.length; i++) {
    for (let j = 0; j < here.length; j++) {
      for (let k = 0; k < here.length; k++) {
        if (i === j || i === k || j === k) continue;
        if (released[i][j] - released[i][k] > RANKING && !(here[i][j] > here[i][k])) count++;
      }
    }
  }
  return count;
}

function median(matrix) {
  const values = matrix.flatMap((row, i) => row.filter((_, j) => i !== j)).sort((left, right) => left - right);
  return (values[(values.length - 1) >> 1] + values[values.length >> 1]) / 2;
}
