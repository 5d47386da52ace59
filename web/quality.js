// @ts-check
/**
 * How good the network is, from 1 to 5, for this client and for everybody it receives from, out of `getStats`.
 *
 * For the own side it is the worst of: the path's state and round-trip time, the loss that the server reports, and whether
 * the browser shrinks the picture for want of bandwidth. For somebody else: the loss and the freezes of what comes from
 * them, and whether the server has paused it for want of bandwidth.
 *
 * @typedef {{loss: number, frozen: number, rtt: number, limited: boolean}} Figures
 * @typedef {{packets: number, lost: number, frozen: number, at: number}} Counts
 */

export const PERIOD_MS = 2000;
/** From 5 down to 2: at most this much loss (after repair, a share), freeze (a share of the time), round trip (s). */
const GRADES = [
  { quality: 5, loss: 0.005, frozen: 0.005, rtt: 0.25 },
  { quality: 4, loss: 0.02, frozen: 0.03, rtt: 0.4 },
  { quality: 3, loss: 0.05, frozen: 0.1, rtt: 0.7 },
  { quality: 2, loss: 0.12, frozen: 0.3, rtt: 1.5 },
];
/** A worse grade counts at once, a better one after this many periods: a sign that flickers says nothing. */
const STEADY = 2;

/** @param {Figures} figures */
export function grade({ loss, frozen, rtt, limited }) {
  const fits = GRADES.find((g) => loss <= g.loss && frozen <= g.frozen && rtt <= g.rtt)?.quality ?? 1;
  return limited ? Math.min(fits, 3) : fits;
}

export class Quality {
  /** @type {Map<string, number>} */ grades = new Map();
  /** Of the streams that the last look has seen. @type {Map<string, Counts>} */ #counts = new Map();
  /** When the server's last report of each own stream came. @type {Map<string, number>} */ #reports = new Map();
  /** @type {Map<string, number>} */ #better = new Map();
  #emit;

  /** @param {(client: string, quality: number) => void} emit */
  constructor(emit) {
    this.#emit = emit;
  }

  /**
   * @param {RTCStatsReport} report
   * @param {{id: string, publisherOf: (media: string) => string | undefined, starved: Set<string>,
   *          connected: boolean}} room `publisherOf`: by the id of a received MediaStreamTrack; `starved`: clients of whom
   *   something is paused for want of bandwidth
   */
  read(report, { id, publisherOf, starved, connected }) {
    /** @type {Map<string, Figures>} */ const all = new Map([[id, { loss: 0, frozen: 0, rtt: 0, limited: false }]]);
    const own = /** @type {Figures} */ (all.get(id));
    const list = [.../** @type {Map<string, any>} */ (/** @type {unknown} */ (report)).values()];
    const isUsed = pairInUse(list);
    const [counts, reports] = [this.#counts, this.#reports];
    [this.#counts, this.#reports] = [new Map(), new Map()];
    for (const stats of list) {
      if (stats.type === 'candidate-pair' && isUsed(stats)) own.rtt = Math.max(own.rtt, stats.currentRoundTripTime ?? 0);
      if (stats.type === 'remote-inbound-rtp') {
        this.#reports.set(stats.id, stats.timestamp);
        // Of a stream that is not sent any more browsers keep the last one.
        if (reports.get(stats.id) !== stats.timestamp) own.loss = Math.max(own.loss, stats.fractionLost ?? 0);
      }
      if (stats.type === 'outbound-rtp') own.limited ||= stats.qualityLimitationReason === 'bandwidth';
      if (stats.type !== 'inbound-rtp') continue;
      const publisher = publisherOf(stats.trackIdentifier);
      if (!publisher) continue;
      const figures = all.get(publisher) ?? { loss: 0, frozen: 0, rtt: 0, limited: starved.has(publisher) };
      const { loss, frozen } = this.#since(counts.get(stats.id), stats);
      figures.loss = Math.max(figures.loss, loss);
      figures.frozen = Math.max(figures.frozen, frozen);
      all.set(publisher, figures);
    }
    for (const known of [this.grades, this.#better]) for (const client of known.keys()) if (!all.has(client)) known.delete(client);
    for (const [client, figures] of all) this.#settle(client, connected ? grade(figures) : 1);
  }

  /** Loss and freeze of a received stream since the last look, as shares. @param {Counts | undefined} before @param {any} stats */
  #since(before, { id, packetsReceived = 0, packetsLost = 0, totalFreezesDuration = 0, timestamp }) {
    this.#counts.set(id, { packets: packetsReceived, lost: packetsLost, frozen: totalFreezesDuration, at: timestamp });
    if (!before || packetsReceived < before.packets) return { loss: 0, frozen: 0 }; // it has begun anew
    const lost = Math.max(0, packetsLost - before.lost);
    const expected = lost + Math.max(0, packetsReceived - before.packets);
    const time = (timestamp - before.at) / 1000;
    return {
      loss: expected > 0 ? lost / expected : 0,
      frozen: time > 0 ? Math.max(0, totalFreezesDuration - before.frozen) / time : 0,
    };
  }

  /** @param {string} client @param {number} quality */
  #settle(client, quality) {
    const known = this.grades.get(client);
    if (known !== undefined && quality > known) {
      const times = (this.#better.get(client) ?? 0) + 1;
      this.#better.set(client, times);
      if (times < STEADY) return;
    }
    this.#better.delete(client);
    if (known === quality) return;
    this.grades.set(client, quality);
    this.#emit(client, quality);
  }
}

/**
 * Says of a pair whether media takes it. Browsers keep those that were taken before, as nominated as ever.
 * @param {any[]} all @returns {(pair: any) => boolean}
 */
function pairInUse(all) {
  const used = all.find(({ type, selectedCandidatePairId }) => type === 'transport' && selectedCandidatePairId);
  if (used) return ({ id }) => id === used.selectedCandidatePairId;
  return ({ selected, nominated }) => selected ?? nominated;
}
