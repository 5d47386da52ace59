// @ts-check
// Media over TCP, for networks that let no UDP through.
import assert from 'node:assert/strict';
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { flows, openTab, report, shared, startServer, stats, until, withoutUdp } from './lib.mjs';

const all = shared();
const TCP = ['--media-tcp'];

/** Tabs in a room, of which those with `blocked` have no UDP. @param {import('./lib.mjs').Server} server
 *  @param {{name: string, blocked: boolean}[]} people @param {(tabs: import('./lib.mjs').Tab[]) => Promise<void>} body */
async function inRoom(server, people, body) {
  const tabs = [];
  try {
    for (const { name, blocked } of people) {
      tabs.push(await openTab(all.browser, server, { room: 'tcp', name }, { init: blocked ? withoutUdp : undefined }));
    }
    await body(tabs);
  } finally {
    await Promise.all(tabs.map((tab) => tab.context().close()));
  }
}

/** What the tab's media goes over. @param {import('./lib.mjs').Tab} tab @returns {Promise<string>} */
function protocol(tab) {
  return tab.evaluate(async () => {
    const all = await window.moonring.client.peerConnection.getStats();
    const { selectedCandidatePairId } = [...all.values()].find(({ type }) => type === 'transport');
    return all.get(all.get(selectedCandidatePairId).remoteCandidateId).protocol;
  });
}

/** @param {import('./lib.mjs').Server} server @param {string} name */
async function metric(server, name) {
  const line = (await server.metrics()).match(new RegExp(`^moonring_${name}(?:_total)?\\{[^}]*\\} (\\d+)$`, 'm'));
  return Number(line?.[1]);
}

test('two who have no UDP and one who has see and hear each other', async () => {
  const server = await startServer({ flags: [...TCP, '--shards', '1'] });
  try {
    const people = [{ name: 'Ada', blocked: true }, { name: 'Grace', blocked: true }, { name: 'Edsger', blocked: false }];
    await inRoom(server, people, async (tabs) => {
      for (const tab of tabs) await flows(tab, { videos: 2, audios: 2 });
      assert.deepEqual(await Promise.all(tabs.map(protocol)), ['tcp', 'tcp', 'udp']);
      for (const tab of tabs.slice(0, 2)) {
        const streams = Object.values((await stats(tab)).inbound);
        assert.deepEqual(streams.filter(({ packetsLost }) => packetsLost > 0), []);
      }
      assert.ok((await metric(server, 'tcp_connections')) >= 2);
      report(`over TCP: ${await metric(server, 'tcp_datagrams_received')} datagrams in, ${await metric(server, 'tcp_datagrams_sent')} out, ${await metric(server, 'tcp_left_out')} left out`);
    });
    await until('the connections of those who have left are closed', async () => (await metric(server, 'tcp_connections')) === 0);
  } finally {
    await server.stop();
  }
});

test('without media_tcp there are no candidates for it', async () => {
  const server = await startServer();
  try {
    await inRoom(server, [{ name: 'Ada', blocked: false }], async ([ada]) => {
      const sdp = await ada.evaluate(() => window.moonring.client.peerConnection.remoteDescription.sdp);
      assert.deepEqual(sdp.match(/^a=candidate:\S+ \d+ tcp .*$/gm), null);
    });
  } finally {
    await server.stop();
  }
});

test('a call over TCP comes back when another process takes over', async () => {
  const socket = join(mkdtempSync(join(tmpdir(), 'moonring-tcp-')), 'socket');
  const server = await startServer({ flags: [...TCP, '--shards', '1', '--take-over', socket] });
  try {
    const people = [{ name: 'Ada', blocked: true }, { name: 'Grace', blocked: true }];
    await inRoom(server, people, async ([ada, grace]) => {
      for (const tab of [ada, grace]) await flows(tab, { videos: 1, audios: 1 });
      const id = await ada.evaluate(() => window.moonring.client.id);
      assert.equal(await server.replace(), 0);
      await ada.waitForFunction(() => window.moonring.client.joined);
      for (const tab of [ada, grace]) await flows(tab, { videos: 1, audios: 1 });
      assert.deepEqual([await protocol(ada), await ada.evaluate(() => window.moonring.client.id)], ['tcp', id]);
    });
  } finally {
    await server.stop();
  }
});
