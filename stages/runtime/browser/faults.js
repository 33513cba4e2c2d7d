// Errors that a page can tell apart: by `name`, which survives a message between workers.

/** A file is not what the release's manifest says, or a variant does not compute what it computed at release. */
export class IntegrityError extends Error {
  name = "IntegrityError";
}

/** A call asks for something that there is not: a variant, a prompt, a dimension, a text without tokens. */
export class InputError extends Error {
  name = "InputError";
}

const KINDS = { IntegrityError, InputError };

/** Return what a message carries of an error. */
export const packError = (error) => ({ name: error?.name ?? "Error", message: error?.message ?? String(error) });

/** Return the error that a message carried. */
export function unpackError({ name, message }) {
  if (name === "AbortError") return new DOMException(message, name);
  const error = new (KINDS[name] ?? Error)(message);
  error.name = name;
  return error;
}

/** Return the error of work that was cancelled, as `fetch` throws it. */
export const cancelled = () => new DOMException("The work was cancelled.", "AbortError");
