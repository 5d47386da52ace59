// @ts-check
/**
 * @typedef {'rejected'|'refused'|'closed'|'left'|'kicked'|'closing'|'media'|'lost'|'out_of_order'|'browser'|'reconnecting'} OwnCode
 * @typedef {OwnCode | import('./protocol.js').ErrorCode} ClientErrorCode
 */

/**
 * What a rejected promise of a client carries. Codes of the client's own:
 * - `rejected`: the room's policy, or a bound of the server, did not let us in;
 * - `refused`: the policy did not let us publish or subscribe; the message is its reason;
 * - `closed`: there is no stay: it has not begun, or is over;
 * - `left`, `kicked`, `closing`, `media`: the stay has ended: by `leave()`, by the room, because the server stops for good,
 *   because the media path could not be repaired;
 * - `lost`: the server could not be reached, or not again;
 * - `out_of_order`: a call at the wrong time, for example a second `join`;
 * - `browser`: the browser could not make or use a session description;
 * - `bad_message`: what the page has given cannot be told as JSON, which the server says of what it cannot read, too.
 *
 * Every other code is an error code of the server, see `ErrorCode` in protocol.d.ts.
 */
export class ClientError extends Error {
  /** @param {ClientErrorCode} code @param {string} message */
  constructor(code, message) {
    super(message);
    this.name = 'ClientError';
    /** @type {ClientErrorCode} */
    this.code = code;
  }
}

/** The error as a `ClientError`, whatever was thrown. @param {unknown} error @returns {ClientError} */
export function clientError(error) {
  if (error instanceof ClientError) return error;
  return new ClientError('browser', error instanceof Error ? error.message : String(error));
}

/** A value of the page's as it is now, as it will be told. @template T @param {string} name What it is called. @param {T} value @returns {T} */
export function told(name, value) {
  /** @type {string | undefined} */ let text;
  let why = `it is ${value === undefined ? 'undefined' : `a ${typeof value}`}`;
  try {
    text = JSON.stringify(value);
  } catch (error) {
    why = error instanceof Error ? error.message : String(error);
  }
  if (text === undefined) throw new ClientError('bad_message', `${name} cannot be told as JSON: ${why}`);
  return JSON.parse(text);
}
