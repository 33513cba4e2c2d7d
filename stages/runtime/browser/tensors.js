// Reads safetensors: eight bytes with the header's length, a JSON header, then the tensors' bytes.

import { IntegrityError } from "./faults.js";
import { fromHalf } from "./vectors.js";

const READ = {
  F32: (buffer) => new Float32Array(buffer),
  F16: (buffer) => Float32Array.from(new Uint16Array(buffer), fromHalf),
  I8: (buffer) => new Int8Array(buffer),
  I32: (buffer) => new Int32Array(buffer),
  I64: (buffer) => Int32Array.from(new BigInt64Array(buffer), Number),
};

/**
 * Return the tensors of a file: name -> { shape, values }.
 *
 * Half precision is widened to Float32Array, and int64, which indexes a table here, narrowed to Int32Array.
 */
export function readTensors(bytes, name) {
  const length = Number(new DataView(bytes.buffer, bytes.byteOffset, 8).getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(bytes.subarray(8, 8 + length)));
  delete header.__metadata__;
  const tensors = {};
  for (const [key, { dtype, shape, data_offsets: [start, end] }] of Object.entries(header)) {
    if (!READ[dtype]) throw new IntegrityError(`${name}: the tensor ${key} is ${dtype}, expected one of ${Object.keys(READ)}.`);
    const offset = bytes.byteOffset + 8 + length;
    tensors[key] = { shape, values: READ[dtype](bytes.buffer.slice(offset + start, offset + end)) };
  }
  return tensors;
}
