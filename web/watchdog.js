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

/** Between two looks at what the media path has brought, and once nothing has come since the last one: a look makes the
 *  browser count for all tracks, so that there are few of them while all is well. */
const LOOK_MS = 300;
const ANXIOUS_LOOK_MS = 150;
/** So long nothing comes over a path that was busy, and over one that had reports only, before it is doubted: the server
 *  reports once a second. */
const BUSY_SILENCE_MS = 1150;
const IDLE_SILENCE_MS = 4000;
/** Packets between two looks that make a path a busy one. */
const BUSY = 4;

/**
 * Notices a media path on which nothing comes any more, seconds before ICE does: the address that it had is gone, for
 * example, and no browser tells pages of that. Looks only while the page is visible, as timers are slow otherwise.
 */
export class PathWatch {
  #pc;
  #silent;
  #timer = 0;
  #stopped = false;
  #packets = -1;
  #wasBusy = false;
  #silence = 0;
  #last = performance.now();

  /** @param {RTCPeerConnection} pc @param {() => void} silent Called once, until something comes again. */
  constructor(pc, silent) {
    this.#pc = pc;
    this.#silent = silent;
    this.#wait();
  }

  stop() {
    this.#stopped = true;
    clearTimeout(this.#timer);
  }

  #wait() {
    if (this.#stopped) return;
    this.#timer = setTimeout(() => this.#look().finally(() => this.#wait()), this.#silence > 0 ? ANXIOUS_LOOK_MS : LOOK_MS);
  }

  async #look() {
    const elapsed = Math.min(performance.now() - this.#last, 2 * LOOK_MS); // a timer that is late is no silence
    this.#last = performance.now();
    const isWatched = this.#pc.connectionState === 'connected' && document.visibilityState === 'visible';
    const packets = isWatched ? await packetsOf(this.#pc) : undefined;
    if (this.#stopped) return;
    if (packets === undefined) {
      this.#packets = -1; // nothing is known of the time until the next look
      this.#silence = 0;
      return;
    }
    const came = this.#packets < 0 ? 0 : packets - this.#packets;
    const isFirst = this.#packets < 0;
    this.#packets = packets;
    if (came > 0 || isFirst) {
      this.#wasBusy = came >= BUSY;
      this.#silence = 0;
      return;
    }
    const limit = this.#wasBusy ? BUSY_SILENCE_MS : IDLE_SILENCE_MS;
    const before = this.#silence;
    this.#silence += elapsed;
    if (before < limit && this.#silence >= limit) this.#silent();
  }
}

/** Packets that came over the transport so far. All sections share it, so that one of them knows. @param {RTCPeerConnection} pc */
async function packetsOf(pc) {
  const one = pc.getTransceivers().find(({ currentDirection }) => currentDirection === 'recvonly' || currentDirection === 'sendonly');
  if (!one) return undefined;
  const report = await (one.currentDirection === 'recvonly' ? one.receiver : one.sender).getStats();
  for (const stat of report.values()) if (stat.type === 'transport') return /** @type {number} */ (stat.packetsReceived);
  return undefined;
}
