// @ts-check
// Two tabs in a room that is spread over two shards: one is moved to and fro while pictures flow.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { flows, report, shared, sleep, stats, until, watchGaps } from './lib.mjs';

/** @typedef {import('./lib.mjs').Tab} Tab */

const all = shared({ flags: ['--shards', '2', '--room-spread', 'always'] });
/** Moves of each tab. */
const MOVES = 5;

/** An order to the admin pages. @param {string} room @param {string} client @param {number} shard */
async function order(room, client, shard) {
  const response = await fetch(`${all.server.admin}/rooms/${room}/move`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ client, shard }),
  });
  return { status: response.status, text: (await response.text()).trim() };
}

/** The port of the server's that media flows to, and how often the DTLS transport was made. @param {Tab} tab */
async function path(tab) {
  return tab.evaluate(async () => {
    const report = [...(await window.moonring.client.peerConnection.getStats()).values()];
    const transport = report.find(({ type }) => type === 'transport');
    const pair = report.find(({ id }) => id === transport.selectedCandidatePairId);
    return { port: report.find(({ id }) => id === pair?.remoteCandidateId)?.port, dtls: transport.dtlsState };
  });
}

/** @param {Tab} tab */
async function figures(tab) {
  const video = Object.values((await stats(tab)).inbound).find(({ kind }) => kind === 'video');
  return { frames: video.framesDecoded, lost: video.packetsLost, freezes: video.freezeCount, frozen: video.totalFreezesDuration };
}

test('a tab that is moved to another shard and back five times loses no packet and makes no new handshake', async () => {
  const room = 'moves';
  await all.withTabs(room, ['Ada', 'Grace'], async ([ada, grace]) => {
    for (const tab of [ada, grace]) await flows(tab, { videos: 1, audios: 1 });
    const id = await ada.evaluate(() => window.moonring.client.id);
    const told = (/** @type {Tab} */ tab) => tab.evaluate(() => window.told);
    for (const tab of [ada, grace]) {
      await tab.evaluate(() => {
        window.told = [];
        for (const name of ['client_left', 'client_joined', 'track_unpublished', 'state']) {
          window.moonring.client.on(name, () => window.told.push(name));
        }
      });
      await watchGaps(tab);
    }
    const before = await Promise.all([ada, grace].map(figures));
    const times = [];
    let { port } = await path(ada);
    for (let n = 0; n < 2 * MOVES; n++) {
      // Ada came first, to shard 0.
      const answer = await order(room, id, (n + 1) % 2);
      assert.deepEqual(answer, { status: 200, text: 'null' });
      const began = performance.now();
      const from = port;
      port = await until('media takes the other path', async () => {
        const now = await path(ada);
        return now.port !== from && now.port;
      });
      times.push(Math.round(performance.now() - began));
      await flows(grace, { videos: 1, audios: 1 });
      await flows(ada, { videos: 1, audios: 1 });
    }
    await sleep(1000);
    const after = await Promise.all([ada, grace].map(figures));
    for (const [n, name] of ['Ada, who moved', 'Grace, who stayed'].entries()) {
      const longest = await [ada, grace][n].evaluate(() => Math.round(window.longest));
      const change = (/** @type {'frames'|'lost'|'freezes'} */ of) => after[n][of] - before[n][of];
      report(`${2 * MOVES} moves, ${name}: ${change('frames')} frames, ${change('lost')} packets lost, ${change('freezes')} freezes, longest time between two frames ${longest} ms`);
      assert.equal(change('lost'), 0, name);
    }
    report(`another path in use ${times.join(', ')} ms after the order`);
    assert.equal((await path(ada)).dtls, 'connected');
    assert.deepEqual([await told(ada), await told(grace)], [[], []]);
    const metrics = await all.server.metrics();
    assert.match(metrics, /moonring_clients_moved_total\{shard="0"\} 5/);
  });
});

test('who cannot be moved is named', async () => {
  await all.withTabs('still', ['Ada'], async ([ada]) => {
    const id = await ada.evaluate(() => window.moonring.client.id);
    assert.deepEqual(await order('still', id, 7), { status: 422, text: 'there is no shard 7; there are 0 to 1' });
    assert.deepEqual(await order('still', 'nobody', 1), { status: 422, text: 'there is no client nobody in the room' });
  });
});
