// @ts-check
/**
 * One offer until its answer. Over a lost connection it is sent again under another number: any of its numbers answers it.
 *
 * @typedef {import('./protocol.js').ClientMessage} ClientMessage
 * @typedef {Extract<import('./protocol.js').ServerMessage, {type: 'answer'}>} Answer
 *
 * @typedef {{tell: (message: ClientMessage) => void, number: () => number, isHealthy: () => boolean,
 *            silent: () => void}} Host
 */
import { ClientError } from './errors.js';

/** The server's room may ask elsewhere before it decides, so an answer may take a while. */
const PATIENCE_MS = 20_000;
/** With a media path that is silent, too, it is the connection that is gone. */
const SHORT_PATIENCE_MS = 5000;
/** Pause before an offer is sent again that came while the server had not decided on the one before. */
const BUSY_MS = 300;
const MOST_BUSY = 60;

export class Exchange {
  /** @type {(answer: Answer) => void} */ resolve = () => {};
  /** @type {(error: ClientError) => void} */ reject = () => {};
  /** @type {Promise<Answer>} */
  answer = new Promise((resolve, reject) => {
    this.resolve = resolve;
    this.reject = reject;
  });
  /** @type {Set<number>} */ #requests = new Set();
  #host;
  #timer = 0;
  #busy = 0;

  /**
   * @param {{sdp: string, publish: import('./protocol.js').Publish[], subscribe: import('./protocol.js').Subscribe[]}} message
   * @param {Host} host
   */
  constructor(message, host) {
    this.message = message;
    this.#host = host;
  }

  send() {
    const request = this.#host.number();
    this.#requests.add(request);
    this.#host.tell({ type: 'offer', request, ...this.message });
    this.#wait(this.#host.isHealthy() ? PATIENCE_MS : SHORT_PATIENCE_MS, this.#host.silent);
  }

  /** Stops waiting, for the end or until `send` is called again. */
  suspend() {
    clearTimeout(this.#timer);
  }

  /** @param {number} request */
  is(request) {
    return this.#requests.has(request);
  }

  /** The server's error; true if it is dealt with here. @param {ClientError} error */
  failed(error) {
    const again = error.code === 'busy' && this.#busy++ < MOST_BUSY;
    if (again) this.#wait(BUSY_MS, () => this.send());
    else this.reject(error);
    return again;
  }

  /** @param {number} time @param {() => void} then */
  #wait(time, then) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(then, time);
  }
}
