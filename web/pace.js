// @ts-check
/**
 * What is said to the server, at the pace that it takes: so many messages a second for long, and ten times as many at once, as
 * it says in `joined` (`messages_per_s`); 16 KiB of a message count as one more. What comes faster it refuses and does not look at,
 * and fifty refusals end the connection. Half of what it takes at once is left for offers, which are not held back, as they
 * come one at a time, and for the goodbye.
 *
 * @typedef {import('./protocol.js').ClientMessage} ClientMessage
 * @typedef {{type: string, track?: string, text: string}} Waiting
 */

/** What servers take that do not say so. */
const USUAL_PER_S = 20;
/** Of what the server takes, so that clocks may differ. */
const PART = 0.9;
/** Seconds of that at once. */
const AT_ONCE_S = 5;
const CHARACTERS_PER_MESSAGE = 16 * 1024;
/** So many messages may wait: what the page goes on saying faster than this is not taken. */
const MOST_WAITING = 1000;
/** What comes in crowds, when a page lets many tracks go or shows them otherwise, and lets everything else go first. */
const PATIENT = ['layer', 'unsubscribe', 'view'];
/** What nobody has to be told of a track any more once it ends in this way. @type {Record<string, string[]>} */
const POINTLESS = { unsubscribe: ['layer', 'view'], unpublish: ['mute'] };

/** The messages of one connection. */
export class Pace {
  #send;
  #perS;
  #atOnce;
  #tokens;
  #at = performance.now();
  /** @type {Waiting[]} */ #waiting = [];
  #timer = 0;

  /** @param {(text: string) => void} send @param {number} [perS] What the server takes. */
  constructor(send, perS = USUAL_PER_S) {
    this.#send = send;
    this.#perS = perS * PART;
    this.#tokens = this.#atOnce = perS * AT_ONCE_S;
  }

  /** Says it, now or as soon as the server takes it; false if too much is waiting already. @param {ClientMessage} message */
  say(message) {
    const text = JSON.stringify(message); // as it is now
    this.#refill();
    if (message.type === 'offer') this.#offer(message, text);
    else if (this.#waiting.length === 0 && this.#tokens >= 1) this.#now(text);
    else if (this.#waiting.length >= MOST_WAITING && message.type === 'message') return false;
    else this.#later({ type: message.type, track: 'track' in message ? message.track : undefined, text });
    return true;
  }

  /** The connection has ended, and with it what waits. */
  stop() {
    clearTimeout(this.#timer);
    this.#waiting = [];
  }

  /** The tracks that it asks for may have been let go before. @param {Extract<ClientMessage, {type: 'offer'}>} offer @param {string} text */
  #offer(offer, text) {
    const isFirst = (/** @type {Waiting} */ { type, track }) => type === 'unsubscribe' && offer.subscribe.some((asked) => asked.track === track);
    for (const first of this.#waiting.filter(isFirst)) this.#now(first.text);
    this.#waiting = this.#waiting.filter((waits) => !isFirst(waits));
    this.#now(text);
  }

  /** @param {string} text */
  #now(text) {
    this.#tokens -= 1 + Math.floor(text.length / CHARACTERS_PER_MESSAGE);
    this.#send(text);
  }

  /** Of what is said of a track the last word counts. @param {Waiting} message */
  #later(message) {
    const { type, track } = message;
    const pointless = POINTLESS[type] ?? [];
    if (pointless.length > 0) this.#waiting = this.#waiting.filter((waits) => waits.track !== track || !pointless.includes(waits.type));
    const same = this.#waiting.findIndex((waits) => track !== undefined && waits.track === track && waits.type === type);
    if (same >= 0) return void (this.#waiting[same] = message);
    this.#waiting.push(message);
    this.#wait();
  }

  #wait() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#flush(), Math.max(1, Math.ceil(((1 - this.#tokens) * 1000) / this.#perS)));
  }

  #flush() {
    this.#refill();
    while (this.#waiting.length > 0 && this.#tokens >= 1) {
      const next = Math.max(0, this.#waiting.findIndex(({ type }) => !PATIENT.includes(type)));
      this.#now(this.#waiting.splice(next, 1)[0].text);
    }
    if (this.#waiting.length > 0) this.#wait();
  }

  #refill() {
    const now = performance.now();
    this.#tokens = Math.min(this.#atOnce, this.#tokens + ((now - this.#at) * this.#perS) / 1000);
    this.#at = now;
  }
}
