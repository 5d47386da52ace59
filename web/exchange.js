// @ts-check
/**
 * One offer until its answer. Who has lost the connection meanwhile does not know what became of it: the server may not have
 * it, may still decide on it, may have kept its answer for the next connection, or has said it to the one before. What the
 * offer has brought about may be taken back in the last case only, so the server is asked first: with the same description,
 * no section of which is named. That brings nothing about, and its answer comes after all that is to come of the offer.
 *
 * @typedef {import('./protocol.js').ClientMessage} ClientMessage
 * @typedef {Extract<import('./protocol.js').ServerMessage, {type: 'answer'}>} Answer
 * @typedef {{sdp: string, publish: import('./protocol.js').Publish[], subscribe: import('./protocol.js').Subscribe[]}} Offer
 *
 * @typedef {{tell: (message: ClientMessage) => void, number: () => number, isHealthy: () => boolean,
 *            silent: () => void}} Host
 */
import { ClientError } from './errors.js';

/** The server's room may ask elsewhere before it decides, so an answer may take a while. */
const PATIENCE_MS = 20_000;
/** With a media path that is silent, too, it is the connection that is gone. */
const SHORT_PATIENCE_MS = 5000;
/** Pause before an offer is sent again that came while the server had not decided on the one before, or was busy. */
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
  /** The numbers under which it was sent: any of them answers it. @type {Set<number>} */ #requests = new Set();
  /** The number of the question what became of it; 0 while there is none. */ #question = 0;
  /** What came of the offer while the question is open. @type {((now?: Answer) => void) | undefined} */ #verdict;
  #takeBack = () => {};
  #host;
  #timer = 0;
  #busy = 0;

  /** @param {Offer} message @param {Host} host */
  constructor(message, host) {
    this.message = message;
    this.#host = host;
  }

  send() {
    this.#requests.add(this.#tell(this.message));
  }

  /** Stops waiting, for the end or until `resume` is called. */
  suspend() {
    clearTimeout(this.#timer);
  }

  /** Goes on over another connection. @param {() => void} takeBack Undoes what the offer has brought about: its answer is lost. */
  resume(takeBack) {
    const { publish, subscribe } = this.message;
    this.#takeBack = takeBack;
    if (this.#verdict) this.#verdict();
    else if (this.#requests.size > 0 && publish.length + subscribe.length > 0) this.#ask();
    else this.send(); // nobody has it, or it makes no difference
  }

  /** @param {number} request */
  is(request) {
    return this.#requests.has(request) || (request > 0 && request === this.#question);
  }

  /** @param {Answer} message */
  answered(message) {
    if (message.request === this.#question) this.#told(message);
    else this.#settle((now = message) => this.resolve({ ...message, sdp: now.sdp }));
  }

  /** The server's error; true if it is dealt with here. @param {number} request @param {ClientError} error */
  failed(request, error) {
    const isQuestion = request === this.#question;
    // `limit`: too many messages, or a queue is full; both pass.
    const again = ['busy', 'limit'].includes(error.code) && this.#busy++ < MOST_BUSY;
    if (again) this.#wait(BUSY_MS, () => (this.#question ? this.#ask() : this.send()));
    else if (isQuestion) this.#told();
    else this.#settle(() => this.reject(error));
    return again || isQuestion;
  }

  #ask() {
    this.#question = this.#tell({ ...this.message, publish: [], subscribe: [] });
  }

  /** Nothing more comes of what was sent over earlier connections. @param {Answer} [now] how things stand now */
  #told(now) {
    this.#question = 0;
    if (this.#verdict) return this.#verdict(now);
    this.#requests.clear();
    this.#takeBack();
    this.send();
  }

  /** @param {(now?: Answer) => void} verdict */
  #settle(verdict) {
    if (this.#question) this.#verdict = verdict;
    else verdict();
  }

  /** @param {Offer} message */
  #tell(message) {
    const request = this.#host.number();
    this.#host.tell({ type: 'offer', request, ...message });
    this.#wait(this.#host.isHealthy() ? PATIENCE_MS : SHORT_PATIENCE_MS, this.#host.silent);
    return request;
  }

  /** @param {number} time @param {() => void} then */
  #wait(time, then) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(then, time);
  }
}
