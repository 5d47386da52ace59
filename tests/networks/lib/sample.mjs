// @ts-check
// What a receiver's getStats says four times a second, and the figures that are made of it.
import { sleep } from '../../e2e/lib.mjs';

const EVERY_MS = 250;
/** How often it is looked whether the publisher's encoder makes pictures: a pause is told from a low rate. */
const ENCODED_EVERY_MS = 100;
/** A height is reached when it stays for so long. */
const STAYS_S = 3;

/** @typedef {import('../../e2e/lib.mjs').Tab} Tab */
/** `t` in seconds since the sampling began, `at` in milliseconds since 1970, `frozen` and all counts since the stream did.
 *  @typedef {{t: number, at: number, height: number, frames: number, freezes: number, frozen: number, bytes: number, resent: number,
 *    packets: number, lost: number}} Sample */
/** @typedef {{at: number, estimate: number | null, target: number | null, paused: number, resends: number, loss: number, rtt: number | null}} Known */

/** Samples the picture that `tab` receives, over `window.connection` or the room's connection, from now on.
 *  @param {Tab} tab */
export async function startSampling(tab) {
  await tab.evaluate((every) => {
    const began = performance.now();
    window.samples = [];
    clearInterval(window.sampling);
    window.sampling = setInterval(async () => {
      const t = (performance.now() - began) / 1000;
      const connection = window.connection ?? window.moonring.client?.peerConnection;
      if (!connection) return;
      const all = [...(await connection.getStats()).values()];
      const s = all.find((report) => report.type === 'inbound-rtp' && report.kind === 'video') ?? {};
      window.samples.push({
        t,
        at: Date.now(),
        height: s.frameHeight ?? 0,
        frames: s.framesDecoded ?? 0,
        freezes: s.freezeCount ?? 0,
        frozen: s.totalFreezesDuration ?? 0,
        bytes: s.bytesReceived ?? 0,
        resent: s.retransmittedBytesReceived ?? 0,
        packets: s.packetsReceived ?? 0,
        lost: s.packetsLost ?? 0,
      });
    }, every);
  }, EVERY_MS);
}

/** @param {Tab} tab @returns {Promise<Sample[]>} */
export const samplesOf = (tab) => tab.evaluate(() => window.samples);

/** What the publisher's `tab` sends, four times a second, in `window.sending`: if it falls short, no path is to blame. When its
 *  encoder made pictures of each layer is in `window.encoded`, in milliseconds since 1970. @param {Tab} tab */
export async function watchSending(tab) {
  await tab.evaluate((every) => {
    /** @type {Record<string, {height: number, seen: number, at: number[]}>} */ const encoded = (window.encoded = {});
    window.counting = setInterval(async () => {
      const all = [...(await window.moonring.client.peerConnection.getStats()).values()];
      for (const { type, kind, rid, framesEncoded = 0, frameHeight = 0 } of all) {
        if (type !== 'outbound-rtp' || kind !== 'video') continue;
        const layer = (encoded[rid ?? ''] ??= { height: 0, seen: 0, at: [] });
        if (framesEncoded > layer.seen) layer.at.push(Date.now());
        Object.assign(layer, { seen: framesEncoded, height: Math.max(layer.height, frameHeight) });
      }
    }, every);
  }, ENCODED_EVERY_MS);
  await tab.evaluate((every) => {
    window.sending = [];
    window.watching = setInterval(async () => {
      const all = [...(await window.moonring.client.peerConnection.getStats()).values()];
      const layers = all.filter((report) => report.type === 'outbound-rtp' && report.kind === 'video');
      const pair = all.find((report) => report.type === 'candidate-pair' && report.nominated);
      const source = all.find((report) => report.type === 'media-source' && report.kind === 'video');
      const kept = ['rid', 'framesPerSecond', 'frameHeight', 'active', 'targetBitrate', 'qualityLimitationReason', 'framesEncoded', 'keyFramesEncoded'];
      const rate = (/** @type {any} */ report) => Object.fromEntries(kept.map((name) => [name, report[name]]));
      window.sending.push({ estimate: pair?.availableOutgoingBitrate, fps: source?.framesPerSecond, layers: layers.map(rate) });
    }, every);
  }, EVERY_MS);
}

/** Asks the server once a second what it knows of the paths, until `stop()`.
 *  @param {import('./server.mjs').Server} server */
export function watchPaths(server) {
  const began = Date.now();
  let isOver = false;
  /** @type {Record<string, Known[]>} */ const known = {};
  const watching = (async () => {
    while (!isOver) {
      for (const { client, estimate, target, paused, resends, loss, rtt } of await server.paths()) {
        (known[client] ??= []).push({ at: (Date.now() - began) / 1000, estimate, target, paused, resends, loss, rtt });
      }
      await sleep(1000);
    }
  })();
  return {
    async stop() {
      isOver = true;
      await watching;
      return known;
    },
  };
}

/** The figures of the time from `from` to `to`. `reached`: seconds until the picture has the height `wanted` and keeps it
 *  for three seconds, or to the end; `stays`: share of the time after that in which it has it. `frozen` is the share of the time.
 *  @param {Sample[]} samples @param {{from: number, to: number, wanted: number}} time */
export function figures(samples, { from, to, wanted }) {
  const within = samples.filter(({ t }) => t >= from && t <= to);
  const [first, last] = [within[0], within[within.length - 1]];
  if (!first || !last) throw new Error(`no samples from ${from} to ${to} s`);
  const has = (/** @type {Sample} */ { height }) => Math.abs(height - wanted) <= 4;
  const start = within.find((sample) => has(sample) && within.every((other) => other.t < sample.t || other.t > sample.t + STAYS_S || has(other)));
  const after = start ? within.filter(({ t }) => t >= start.t) : [];
  const time = last.t - first.t;
  return {
    began: first.at,
    ended: last.at,
    reached: start && start.t - from,
    stays: after.length > 0 ? after.filter(has).length / after.length : 0,
    height: median(within.slice(-12).map(({ height }) => height)),
    switches: within.filter(({ height }, n) => n > 0 && height !== within[n - 1].height).length,
    fps: (last.frames - first.frames) / time,
    freezes: last.freezes - first.freezes,
    frozen: (last.frozen - first.frozen + stalledAtEnd(within)) / time,
    kbps: ((last.bytes - first.bytes) * 8) / 1000 / time,
    resent: last.bytes > first.bytes ? (last.resent - first.resent) / (last.bytes - first.bytes) : 0,
    lost: last.lost - first.lost,
  };
}

/** The share of the time from `began` to `ended` in which the encoder skipped pictures of the layer of that height, by what a
 *  browser calls a freeze: three times as long as usual, and 150 ms longer.
 *  @param {Record<string, {height: number, at: number[]}>} encoded @param {{began: number, ended: number, height: number}} of */
export function skipped(encoded, { began, ended, height }) {
  const far = (/** @type {{height: number}} */ layer) => Math.abs(layer.height - height);
  const [nearest] = Object.values(encoded).sort((a, b) => far(a) - far(b));
  const times = [began, ...(nearest?.at ?? []).filter((at) => at >= began && at <= ended), ended];
  const gaps = times.slice(1).map((at, n) => at - times[n]);
  const usual = median([...gaps]);
  const long = gaps.filter((gap) => gap > Math.max(3 * usual, usual + 150));
  return long.reduce((sum, gap) => sum + gap, 0) / (ended - began);
}

/** A freeze that has not ended is not counted by the browser yet: seconds without a picture at the end, beyond one.
 *  @param {Sample[]} samples */
function stalledAtEnd(samples) {
  const last = samples[samples.length - 1];
  const newest = samples.find(({ frames }) => frames === last.frames) ?? last;
  const still = last.t - newest.t;
  return still > 1 ? still : 0;
}

/** @param {number[]} values */
const median = (values) => values.sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0;
