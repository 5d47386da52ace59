// @ts-check
// A browser in a call whose network changes: the address that it had is gone, and it has another.
import { openTab, sleep, stats, until } from '../../e2e/lib.mjs';
import { browserIn } from './browser.mjs';

/** How long pictures may stand still. */
const GOAL_MS = 3000;
const PATIENCE_MS = 30_000;

/** @typedef {import('../../e2e/lib.mjs').Tab} Tab */

/** Notes in the page when the picture of the other side last moved. @param {Tab} tab */
function watchPicture(tab) {
  return tab.evaluate(() => {
    const video = /** @type {HTMLVideoElement} */ (document.querySelector('.tile:not(.mine) video'));
    const seen = (window.seen = { last: performance.now(), longest: 0, frames: 0, events: [] });
    const { client } = window.moonring;
    const note = (/** @type {string} */ what) => seen.events.push([Math.round(performance.now()), what]);
    for (const event of ['state', 'joined', 'connection_state', 'track_paused', 'track_resumed', 'wanted_layers']) {
      client.on(event, (/** @type {any} */ what) => note(`${event} ${what?.state ?? ''} ${what?.reason ?? ''}`.trim()));
    }
    const pc = client.peerConnection;
    for (const state of ['iceConnectionState', 'iceGatheringState', 'signalingState']) {
      pc.addEventListener(state.toLowerCase() + 'change', () => note(`${state} ${pc[state]}`));
    }
    pc.addEventListener('icecandidate', (/** @type {any} */ e) => note(`candidate ${e.candidate?.candidate}`));
    window.note = note;
    const look = () => {
      const now = performance.now();
      if (now - seen.last > 500) note(`picture after ${Math.round(now - seen.last)} ms`);
      Object.assign(seen, { longest: Math.max(seen.longest, now - seen.last), last: now, frames: seen.frames + 1 });
      video.requestVideoFrameCallback(look);
    };
    video.requestVideoFrameCallback(look);
  });
}

/** The longest gap so far, or the one that is going on, in ms; and how many pictures there were. @param {Tab} tab */
function seen(tab) {
  return tab.evaluate(() => {
    const { last, longest, frames } = window.seen;
    return { longest: Math.round(Math.max(longest, performance.now() - last)), frames };
  });
}

/** Two people, one of whom gets another address; the call is looked at again after `alive` seconds.
 *  @param {import('./net.mjs').Net} net @param {import('./server.mjs').Server} server @param {number} alive */
export async function moveNetwork(net, server, alive) {
  const places = [await net.place(), await net.place()];
  const browsers = [];
  try {
    for (const place of places) browsers.push(await browserIn(place));
    const tabs = [];
    for (const [n, browser] of browsers.entries()) {
      tabs.push(await openTab(browser, server, { room: 'move', name: `person ${n}`, media: 'camera' }));
    }
    for (const tab of tabs) {
      await until('pictures flow', async () => Object.values((await stats(tab)).inbound).some(({ framesDecoded }) => framesDecoded > 30));
      await watchPicture(tab);
    }
    await sleep(3000);
    const steady = await Promise.all(tabs.map(seen));
    const ids = await Promise.all(tabs.map((tab) => tab.evaluate(() => window.moonring.client.id)));
    places[0].move();
    await tabs[0].evaluate(() => window.note('moved'));
    const before = await Promise.all(tabs.map(seen));
    for (const [n, tab] of tabs.entries()) {
      const goesOn = async () => (await seen(tab)).frames > before[n].frames + 30;
      await until(`person ${n} sees the other again`, goesOn, PATIENCE_MS);
    }
    if (process.env.MOVE_EVENTS) console.log((await tabs[0].evaluate(() => window.seen.events)).map((/** @type {any} */ e) => e.join(' ')).join('\n'));
    const gaps = (await Promise.all(tabs.map(seen))).map(({ longest }) => longest);
    console.log(`move: longest gap before ${steady.map(({ longest }) => longest).join(' and ')} ms; over the change of networks `
      + `${gaps[0]} ms for who moved, ${gaps[1]} ms for the other (goal: ${GOAL_MS})`);
    if (gaps.some((gap) => gap > GOAL_MS)) process.exitCode = 1;
    await sleep(alive * 1000);
    const then = await Promise.all(tabs.map(seen));
    await sleep(2000);
    const now = await Promise.all(tabs.map(seen));
    const same = await Promise.all(tabs.map((tab) => tab.evaluate(() => window.moonring.client.id)));
    const moving = now.map(({ frames }, n) => frames - then[n].frames);
    console.log(`move: ${alive} s later ${moving.join(' and ')} pictures in 2 s; the same stay: ${same.map((id, n) => id === ids[n]).join(' and ')}`);
    if (moving.some((frames) => frames < 5)) process.exitCode = 1;
  } finally {
    await Promise.all(browsers.map((browser) => browser.close()));
  }
}
