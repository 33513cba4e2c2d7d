// Arithmetic on vectors: Float32Array throughout; sums are in double precision, as JavaScript numbers are.

/** Return the product of two vectors of equal length. */
export function dot(left, right) {
  let sum = 0;
  for (let index = 0; index < left.length; index++) sum += left[index] * right[index];
  return sum;
}

/** Return a vector divided by its norm; a vector of zeros stays one. */
export function normalise(vector) {
  const norm = Math.sqrt(dot(vector, vector)) || 1;
  return vector.map((value) => value / norm);
}

/** Return the first `dimensions` values, divided by their norm (Matryoshka). */
export const truncate = (vector, dimensions) => normalise(vector.slice(0, dimensions));

const bits = new Uint32Array(1);
const float = new Float32Array(bits.buffer);

/** Return the IEEE 754 half-precision bits nearest to a number; a tie goes to the even one. */
function toHalf(value) {
  float[0] = value;
  const sign = (bits[0] >>> 16) & 0x8000;
  const magnitude = bits[0] & 0x7fffffff;
  if (magnitude > 0x7f800000) return sign | 0x7e00; // NaN
  if (magnitude >= 0x47800000) return sign | 0x7c00; // 65536 and more, and infinity
  if (magnitude < 0x38800000) {
    // Subnormal: units of 2^-24, and a sum with 2^-1 leaves just these in a float's lowest bits.
    float[0] = Math.abs(value) + 0.5;
    return sign | (bits[0] - 0x3f000000);
  }
  return sign | ((magnitude - 0x38000000 + 0xfff + ((magnitude >>> 13) & 1)) >>> 13);
}

/** Return the number that half-precision bits stand for. */
export function fromHalf(half) {
  const sign = half & 0x8000 ? -1 : 1;
  const exponent = (half >>> 10) & 0x1f;
  const fraction = half & 0x3ff;
  if (exponent === 0x1f) return fraction ? NaN : sign * Infinity;
  return exponent ? sign * 2 ** (exponent - 15) * (1 + fraction / 1024) : sign * fraction * 2 ** -24;
}

/**
 * Return a vector in half precision and the largest error of a value.
 *
 * The vector is a Float16Array where the browser has one, else a Uint16Array of the same bits.
 */
export function roundToHalf(vector) {
  const halves = Uint16Array.from(vector, toHalf);
  let error = 0;
  for (let index = 0; index < vector.length; index++) {
    error = Math.max(error, Math.abs(vector[index] - fromHalf(halves[index])));
  }
  return { vector: globalThis.Float16Array ? new Float16Array(halves.buffer) : halves, error };
}

/** Return vectors of `dimensions` values each from one array that holds them one after the other. */
export function splitRows(values, dimensions) {
  return Array.from({ length: values.length / dimensions }, (_, row) =>
    values.subarray(row * dimensions, (row + 1) * dimensions),
  );
}
