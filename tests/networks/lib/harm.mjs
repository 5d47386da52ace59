// @ts-check
// Two people in a call, one of whom is behind a link that loses or delays packets both ways: what of picture and sound arrives.
import { openTab, sleep, until, withoutUdp } from '../../e2e/lib.mjs';
import { browserIn } from './browser.mjs';

const SETTLE_MS = 8000;
const LOOK_MS = 250;
/** Most bytes that may wait in the server's kernel for a connection: a second of what is sent here. */
const MAX_UNSENT = 64 * 1024;

/** @typedef {import('../../e2e/lib.mjs').Tab} Tab */
/** What is wanted: least share of the frames, most of the sound that is made up, most of the time that is frozen.
 *  @typedef {{frames: number, concealed: number, frozen: number}} Goal */
/** @typedef {{sent: number, decoded: number, freezes: number, frozen: number, concealed: number, samples: number, resent: number, at: number}} Counts */

/** @param {Tab} tab @returns {Promise<Counts>} */
function counts(tab) {
  return tab.evaluate(async () => {
    const all = [...(await window.moonring.client.peerConnection.getStats()).values()];
    const one = (/** @type {string} */ type, /** @type {string} */ kind) => all.find((report) => report.type === type && report.kind === kind) ?? {};
    const [video, audio, sent] = [one('inbound-rtp', 'video'), one('inbound-rtp', 'audio'), one('outbound-rtp', 'video')];
    return {
      at: performance.now() / 1000,
      sent: sent.framesSent ?? 0,
      decoded: video.framesDecoded ?? 0,
      freezes: video.freezeCount ?? 0,
      frozen: video.totalFreezesDuration ?? 0,
      resent: video.retransmittedPacketsReceived ?? 0,
      concealed: audio.concealedSamples ?? 0,
      samples: audio.totalSamplesReceived ?? 0,
    };
  });
}

/** `overTcp`: the one behind the link has no UDP.
 *  @param {import('./net.mjs').Net} net @param {import('./server.mjs').Server} server
 *  @param {{name: string, harm: import('./net.mjs').Harm, goal: Goal, seconds: number, overTcp?: boolean}} scene */
export async function behindHarm(net, server, { name, harm, goal, seconds, overTcp = false }) {
  const places = [await net.place(), await net.place(harm)];
  if (overTcp) places[1].control('cubic');
  const browsers = [];
  try {
    for (const place of places) browsers.push(await browserIn(place));
    const query = { room: name, media: 'camera', simulcast: 0, width: 640, height: 360, fps: 20 };
    const tabs = [];
    for (const [n, browser] of browsers.entries()) {
      tabs.push(await openTab(browser, server, { ...query, name: `person ${n}` }, { init: overTcp && n === 1 ? withoutUdp : undefined }));
    }
    for (const tab of tabs) await until('pictures flow', async () => (await counts(tab)).decoded > 30);
    await sleep(SETTLE_MS);
    const before = await Promise.all(tabs.map(counts));
    const waiting = overTcp ? await watchUnsent(net, server, await tabs[1].evaluate(() => window.moonring.client.id), seconds) : '';
    if (!overTcp) await sleep(seconds * 1000);
    const after = await Promise.all(tabs.map(counts));
    for (const [n, way] of ['from behind the link', 'to behind the link'].entries()) {
      const [from, to] = [after[n], before[n]];
      const sent = after[1 - n].sent - before[1 - n].sent;
      const frames = (from.decoded - to.decoded) / sent;
      const concealed = (from.concealed - to.concealed) / (from.samples - to.samples);
      const frozen = (from.frozen - to.frozen) / (from.at - to.at);
      /** @type {[string, boolean][]} */
      const goals = [['frames', frames >= goal.frames], ['sound', concealed <= goal.concealed], ['freezes', frozen <= goal.frozen]];
      const missed = goals.filter(([, met]) => !met).map(([words]) => words);
      console.log(`${name}: ${way}: ${percent(frames)} of ${sent} frames (goal ${percent(goal.frames)}), ${from.freezes - to.freezes} freezes, `
        + `${percent(frozen)} of the time frozen (goal ${percent(goal.frozen)}), ${percent(concealed)} of the sound made up `
        + `(goal ${percent(goal.concealed)}), ${from.resent - to.resent} packets repaired${n === 1 ? waiting : ''}: ${missed.length > 0 ? `MISSED ${missed}` : 'ok'}`);
      if (missed.length > 0) process.exitCode = 1;
    }
  } finally {
    await Promise.all(browsers.map((browser) => browser.close()));
  }
}

/** What waits in the kernel meanwhile, and what the server makes of the path; in words.
 *  @param {import('./net.mjs').Net} net @param {import('./server.mjs').Server} server @param {string} client @param {number} seconds */
async function watchUnsent(net, server, client, seconds) {
  const [unsent, estimates] = [[0], /** @type {number[]} */ ([])];
  for (const end = Date.now() + seconds * 1000; Date.now() < end; await sleep(LOOK_MS)) {
    unsent.push(net.unsent());
    const path = (await server.paths()).find((path) => path.client === client);
    if (path?.estimate) estimates.push(path.estimate / 1000);
  }
  const most = Math.max(...unsent);
  if (most > MAX_UNSENT) process.exitCode = 1;
  const [least, largest] = [Math.min(...estimates), Math.max(...estimates)].map((kbps) => kbps.toFixed(0));
  return `, at most ${(most / 1024).toFixed(0)} KiB unsent (goal ${MAX_UNSENT / 1024}), estimate ${least} to ${largest} kbit/s`;
}

/** @param {number} share */
const percent = (share) => `${(share * 100).toFixed(1)} %`;
