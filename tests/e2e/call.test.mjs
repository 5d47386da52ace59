// Browsers in a room: everybody sees and hears everybody, whoever comes late, reloads or loses the path.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { flows, inCall, openTab, report, shared, stats, until } from './lib.mjs';

const all = shared({});
const { withTabs } = all;

test('two browsers see and hear each other', async () => {
  await withTabs('two', ['Ada', 'Grace'], async (tabs) => {
    for (const tab of tabs) {
      const inbound = Object.values(await flows(tab, { videos: 1, audios: 1 }));
      assert.equal(inbound.length, 2);
    }
    for (const tab of tabs) {
      await until('the tone is heard', async () =>
        Object.values((await stats(tab)).inbound).some((s) => s.kind === 'audio' && s.totalAudioEnergy > 0),
      );
      await until('the tile shows figures', async () => /\d+×\d+ · \d+ fps/.test(String(await tab.textContent('.tile:not(.mine) .stats'))));
    }
  });
});

test('who speaks is highlighted for the others', async () => {
  await withTabs('speak', ['Ada', 'Grace'], async ([, grace]) => {
    await flows(grace, { videos: 1, audios: 1 });
    await grace.locator('.tile.speaking:not(.mine)').waitFor();
  });
});

test('a message goes through the policy to everybody', async () => {
  await withTabs('chat', ['Ada', 'Grace'], async ([ada, grace]) => {
    await ada.evaluate(() => window.moonring.client.send({ type: 'chat', text: 'good morning' }));
    await grace.getByText('Ada: good morning').first().waitFor();
  });
});

test('a late joiner gets a picture', async () => {
  await withTabs('late', ['Ada', 'Grace'], async ([ada, grace]) => {
    await flows(ada, { videos: 1, audios: 1 });
    await flows(grace, { videos: 1, audios: 1 });
    const late = await openTab(all.browser, all.server, { room: 'late', name: 'Linus', media: 'none' });
    try {
      const took = await late.evaluate(async () => {
        const started = window.moonring.joinStarted;
        const decoded = async () =>
          [...(await window.moonring.client.peerConnection.getStats()).values()].filter(
            (s) => s.type === 'inbound-rtp' && s.kind === 'video' && s.framesDecoded > 0,
          ).length;
        while ((await decoded()) < 2) {
          if (performance.now() - started > 20_000) throw new Error('no picture within 20 s');
          await new Promise((done) => setTimeout(done, 20));
        }
        return performance.now() - started;
      });
      report(`a late joiner decodes both pictures ${Math.round(took)} ms after it asked to join (goal: 2000)`);
    } finally {
      await late.context().close();
    }
  });
});

test('a reload comes back, for both sides', async () => {
  await withTabs('reload', ['Ada', 'Grace'], async ([ada, grace]) => {
    await flows(ada, { videos: 1, audios: 1 });
    const before = await grace.evaluate(() => window.moonring.client.id);
    await grace.reload();
    await inCall(grace);
    const after = await grace.evaluate(() => window.moonring.client.id);
    assert.notEqual(after, before);
    await flows(grace, { videos: 1, audios: 1 });
    await until('Ada sees the new Grace only', () =>
      ada.evaluate((id) => [...window.moonring.client.clients.keys()].join() === id, after),
    );
    await flows(ada, { videos: 1, audios: 1 });
  });
});

test('media goes on after an ICE restart', async () => {
  await withTabs('restart', ['Ada', 'Grace'], async ([ada, grace]) => {
    await flows(ada, { videos: 1, audios: 1 });
    const ufrag = () =>
      ada.evaluate(() => /a=ice-ufrag:(\S+)/.exec(window.moonring.client.peerConnection.currentLocalDescription.sdp)?.[1]);
    const before = await ufrag();
    await ada.evaluate(() => window.moonring.client.restartIce());
    await until('the restart was answered', async () => (await ufrag()) !== before);
    await flows(ada, { videos: 1, audios: 1 });
    await flows(grace, { videos: 1, audios: 1 });
    assert.equal(await ada.evaluate(() => window.moonring.client.peerConnection.connectionState), 'connected');
  });
});

test('a track that stops being published leaves, and its section serves the next', async () => {
  await withTabs('stop', ['Ada', 'Grace'], async ([ada, grace]) => {
    await flows(grace, { videos: 1, audios: 1 });
    await ada.evaluate(() => window.moonring.published.camera.unpublish());
    await until('the video is gone', async () => Object.values((await stats(grace)).inbound).every((s) => s.kind === 'audio'));
    await until('Grace offered its section inactive', () =>
      grace.evaluate(() => /^a=inactive/m.test(window.moonring.client.peerConnection.currentLocalDescription.sdp)),
    );
    await ada.evaluate(() => window.moonring.client.publish(window.moonring.media.camera, { source: 'camera' }));
    await flows(grace, { videos: 1, audios: 1 });
  });
});
