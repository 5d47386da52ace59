// @ts-check
// Two people in a call, one of whom is behind a link that carries nothing at all for a while, as a phone's does between two
// cells: how much longer than the outage the pictures stand still.
import { connectDirectly, leaveWithMedia } from '../../e2e/direct.mjs';
import { openTab, sleep, until, withoutUdp } from '../../e2e/lib.mjs';
import { browserIn } from './browser.mjs';

const LENGTHS_MS = [200, 500, 1000, 2000];
const TCP_LENGTHS_MS = [500, 1000, 2000, 4000];
const TIMES = 4;
/** Between two outages, so that each finds the call as it was before the first. */
const PAUSE_MS = 8000;
/** Most that pictures may stand still after the outage is over, as a median: a key frame takes half a second to be asked for again. */
const GOAL_MS = 1000;
/** The same over TCP, which tries again a second after it has tried last. */
const TCP_GOAL_MS = 2000;
const SAMPLE_MS = 40;
/** The distance of the two from each other, one way. */
const DELAY_MS = 20;

/** @typedef {import('../../e2e/lib.mjs').Tab} Tab */

/** Notes in the page when its picture moved, in milliseconds since 1970. @param {Tab} tab */
function watchFrames(tab) {
  return tab.evaluate((every) => {
    const moved = /** @type {number[]} */ (window.moved = []);
    let seen = 0;
    setInterval(async () => {
      const connection = window.connection ?? window.moonring.client?.peerConnection;
      const video = [...(await connection.getStats()).values()].find(({ type, kind }) => type === 'inbound-rtp' && kind === 'video');
      if ((video?.framesDecoded ?? 0) > seen) moved.push(Date.now());
      seen = video?.framesDecoded ?? 0;
    }, every);
  }, SAMPLE_MS);
}

/** The longest time in which nothing moved between `from` and `to`. @param {Tab} tab @param {number} from @param {number} to */
async function longest(tab, from, to) {
  const moved = await tab.evaluate(() => /** @type {number[]} */ (window.moved));
  const within = [from, ...moved.filter((at) => at > from && at < to), to];
  return Math.max(...within.slice(1).map((at, n) => at - within[n]));
}

/** `isDirect`: without a server; `overTcp`: the one behind the link has no UDP; `length` of the outages in ms; 0: several.
 *  @param {import('./net.mjs').Net} net @param {import('./server.mjs').Server} server @param {{isDirect?: boolean, overTcp?: boolean, length: number}} scene */
export async function outages(net, server, { isDirect = false, overTcp = false, length }) {
  const name = `${isDirect ? 'direct-' : ''}${overTcp ? 'tcp-' : ''}outage`;
  const [lengths, goal] = overTcp ? [TCP_LENGTHS_MS, TCP_GOAL_MS] : [LENGTHS_MS, GOAL_MS];
  const places = [await net.place(), await net.place({ delayMs: DELAY_MS })];
  if (overTcp) places[1].control('cubic');
  const browsers = [];
  try {
    for (const place of places) browsers.push(await browserIn(place));
    const query = { room: name, media: 'camera', width: 640, height: 360, fps: 20 };
    const tabs = [];
    for (const [n, browser] of browsers.entries()) {
      tabs.push(await openTab(browser, server, { ...query, name: `person ${n}` }, { init: overTcp && n === 1 ? withoutUdp : undefined }));
    }
    if (isDirect) {
      await leaveWithMedia(tabs);
      await connectDirectly(tabs[0], tabs[1]);
    }
    for (const tab of tabs) await watchFrames(tab);
    for (const tab of tabs) await until('pictures flow', () => tab.evaluate(() => window.moved.length > 30));
    await sleep(PAUSE_MS);
    for (const ms of length > 0 ? [length] : lengths) {
      /** @type {number[][]} */ const stood = [[], []];
      for (let n = 0; n < TIMES; n++) {
        const began = Date.now();
        places[1].cut(ms);
        await sleep(ms + PAUSE_MS);
        for (const [n, tab] of tabs.entries()) stood[n].push((await longest(tab, began, Date.now())) - ms);
      }
      for (const [n, way] of ['from behind the link', 'to behind the link'].entries()) {
        const sorted = stood[n].toSorted((a, b) => a - b);
        const median = (sorted[TIMES / 2 - 1] + sorted[TIMES / 2]) / 2;
        const isMissed = !isDirect && median > goal;
        console.log(`${name}: nothing for ${ms} ms: ${way}: pictures stand still for ${sorted.join(', ')} ms beyond that `
          + `(goal: median ${goal}): ${isMissed ? 'MISSED' : 'ok'}`);
        if (isMissed) process.exitCode = 1;
      }
    }
  } finally {
    await Promise.all(browsers.map((browser) => browser.close()));
  }
}
