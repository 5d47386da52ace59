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

/** Of all shards. @param {import('./lib.mjs').Server} server @param {string} name */
async function metric(server, name) {
  const lines = (await server.metrics()).matchAll(new RegExp(`^moonring_${name}(?:_total)?\\{[^}]*\\} (\\d+)$`, 'gm'));
  return [...lines].reduce((sum, [, value]) => sum + Number(value), 0);
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

test('a tab over TCP that is moved to another shard and back goes on there', async () => {
  const server = await startServer({ flags: [...TCP, '--shards', '2', '--room-spread', 'always'] });
  try {
    const people = [{ name: 'Ada', blocked: true }, { name: 'Grace', blocked: true }];
    await inRoom(server, people, async ([ada, grace]) => {
      for (const tab of [ada, grace]) await flows(tab, { videos: 1, audios: 1 });
      const client = await ada.evaluate(() => window.moonring.client.id);
      for (const [n, shard] of [1, 0].entries()) {
        const headers = { 'content-type': 'application/json' };
        const order = await fetch(`${server.admin}/rooms/tcp/move`, { method: 'POST', headers, body: JSON.stringify({ client, shard }) });
        assert.equal(order.status, 200);
        await until('it has moved', async () => (await metric(server, 'clients_moved')) === n + 1);
        for (const tab of [ada, grace]) await flows(tab, { videos: 1, audios: 1 });
      }
      assert.deepEqual([await protocol(ada), await ada.evaluate(() => window.moonring.client.id)], ['tcp', client]);
    });
  } finally {
    await server.stop();
  }
});

test('without media_tcp there are no candidates for it', async () => {
  const server = await startServer();
  try {
    await inRoom(server, [{ name: 'Ada', blocked: false }], async ([ada]) => {
      const answer = () => ada.evaluate(() => window.moonring.client.peerConnection.remoteDescription?.sdp);
      const sdp = await until('there is an answer', answer);
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
