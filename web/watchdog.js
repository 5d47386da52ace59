// @ts-check
/**
 * Notices what may have cut a WebSocket without closing it. The server pings the socket, but a browser answers pings by
 * itself and tells the page nothing, and a TCP connection whose network is gone stays open for minutes.
 */

const TICK_MS = 2000;
/** A visible page's timer that is this late has slept with its machine. */
const VISIBLE_JUMP_MS = 15_000;
/** Browsers run the timers of hidden pages once a minute. */
const HIDDEN_JUMP_MS = 100_000;

export class Watchdog {
  #last = Date.now();
  #wasHidden = document.visibilityState !== 'visible';
  #timer = 0;
  /** @type {(why: string) => void} */ #bark;
  #onOnline = () => this.#bark('The network has changed');
  #onVisible = () => this.check();
  /** @type {string | undefined} */ #type;
  #onConnection = () => {
    const type = connection()?.type;
    if (type !== this.#type && type !== 'none') this.#bark('The network has changed');
    this.#type = type;
  };

  /** @param {(why: string) => void} bark Called when the socket and the media path are to be made anew. */
  constructor(bark) {
    this.#bark = bark;
    this.#type = connection()?.type;
    this.#timer = setInterval(() => this.check(), TICK_MS);
    addEventListener('online', this.#onOnline);
    document.addEventListener('visibilitychange', this.#onVisible);
    connection()?.addEventListener('change', this.#onConnection);
  }

  /** Barks and returns true if the machine has slept since the last look; wall-clock time goes on during sleep. */
  check() {
    const now = Date.now();
    const away = now - this.#last;
    this.#last = now;
    const hidden = document.visibilityState !== 'visible';
    const slept = away > (hidden || this.#wasHidden ? HIDDEN_JUMP_MS : VISIBLE_JUMP_MS);
    this.#wasHidden = hidden;
    if (slept) this.#bark('The machine has slept');
    return slept;
  }

  stop() {
    clearInterval(this.#timer);
    removeEventListener('online', this.#onOnline);
    document.removeEventListener('visibilitychange', this.#onVisible);
    connection()?.removeEventListener('change', this.#onConnection);
  }
}

/** The Network Information API, where there is one. @returns {(EventTarget & {type?: string}) | undefined} */
function connection() {
  return /** @type {any} */ (navigator).connection;
}
