// @ts-check
// Lost connections and restarts with the real server: the call goes on, as muted as it was.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { flows, keepScreenshot, openTab, report, shared, sleep, startProxy, startServer, stats, until } from './lib.mjs';

/** @typedef {import('./lib.mjs').Tab} Tab */

const all = shared({});

const names = (/** @type {Tab} */ tab) =>
  tab.evaluate(() => [...window.moonring.client.clients.values()].map((/** @type {any} */ who) => who.metadata.name).sort());
const id = (/** @type {Tab} */ tab) => tab.evaluate(() => window.moonring.client.id);
/** Whether the server gives tickets. @param {Tab} tab */
const canResume = (tab) => tab.evaluate(() => window.ticket !== undefined);

/** Notes what the server says of tickets, before the page's own scripts. */
function noteTicket() {
  const { parse } = JSON;
  JSON.parse = (/** @type {string} */ text, reviver) => {
    const value = parse(text, reviver);
    if (value?.type === 'joined') window.ticket = value.ticket;
    return value;
  };
}

/** Two tabs that see each other, the first of them through a proxy. @param {(ada: Tab, grace: Tab,
 *  proxy: Awaited<ReturnType<typeof startProxy>>, t: import('node:test').TestContext) => Promise<unknown>} body
 *  @param {import('node:test').TestContext} t */
async function withProxy(t, body) {
  const proxy = await startProxy(all.server.port);
  const room = `proxy-${t.name.length}`;
  const tabs = [await openTab(all.browser, proxy, { room, name: 'Ada' }, { init: noteTicket })];
  try {
    tabs.push(await openTab(all.browser, all.server, { room, name: 'Grace' }));
    for (const tab of tabs) await flows(tab, { videos: 1, audios: 1 });
    await body(tabs[0], tabs[1], proxy, t);
  } finally {
    await Promise.all(tabs.map((tab) => tab.context().close()));
    proxy.stop();
  }
}

test('a WebSocket that is cut while media flows costs no frame, and nobody is told', async (t) => {
  await withProxy(t, async (ada, grace, proxy) => {
    if (!(await canResume(ada))) return t.skip('the server gives no tickets');
    const me = await id(ada);
    await grace.evaluate(() => {
      window.told = [];
      for (const name of ['client_left', 'client_joined', 'track_unpublished']) window.moonring.client.on(name, () => window.told.push(name));
    });
    const before = await figures(grace);
    proxy.cut({ open: true });
    await ada.waitForFunction(() => window.moonring.client.state !== 'joined');
    await ada.waitForFunction(() => window.moonring.client.joined);
    assert.equal(await id(ada), me, 'the same stay');
    await flows(grace, { videos: 1, audios: 1 });
    await flows(ada, { videos: 1, audios: 1 });
    const after = await figures(grace);
    report(`WebSocket cut: ${after.frames - before.frames} frames decoded meanwhile, ${after.lost - before.lost} packets lost, ${after.dropped - before.dropped} frames dropped`);
    assert.equal(after.lost - before.lost, 0);
    assert.deepEqual(await grace.evaluate(() => window.told), []);
    // And it is a whole client still: what it says is heard, what others do it hears.
    await ada.getByRole('button', { name: 'Mute', exact: true }).click();
    await grace.locator('.tile:not(.mine) .note', { hasText: 'muted' }).waitFor();
  });
});

test('tracks that are decided on while the connection is lost are the page’s own, once it is back', async (t) => {
  // Back while the first of two tracks is decided on, and once both are.
  for (const [room, decided] of /** @type {[string, number][]} */ ([['slow-1', 1], ['slow-2', 2]])) {
    const proxy = await startProxy(all.server.port);
    const grace = await openTab(all.browser, all.server, { room, name: 'Grace', media: 'none' });
    const ada = await openTab(all.browser, proxy, { room, name: 'Ada' }, { init: noteTicket });
    try {
      if (!(await canResume(ada))) return t.skip('the server gives no tickets');
      const me = await id(ada);
      await grace.evaluate(() => {
        window.gone = 0;
        window.moonring.client.on('track_unpublished', () => window.gone++);
      });
      await ada.waitForFunction(() => window.moonring.client.peerConnection.signalingState === 'have-local-offer');
      await sleep(200); // it is on its way
      proxy.cut({ open: false });
      const tracks = () => grace.evaluate(() => [...window.moonring.client.tracks.keys()].sort());
      await until('it is decided', async () => (await tracks()).length === decided);
      proxy.open();
      await ada.evaluate(() => window.moonring.client.reconnect());
      await ada.waitForFunction(() => window.moonring.published.camera && window.moonring.published.mic);
      assert.equal(await id(ada), me, 'the same stay');
      assert.deepEqual(await ada.evaluate(() => [window.moonring.published.camera.id, window.moonring.published.mic.id].sort()), await tracks());
      await flows(grace, { videos: 1, audios: 1 });
      await ada.getByRole('button', { name: 'Mute', exact: true }).click();
      await grace.locator('.tile:not(.mine) .note', { hasText: 'muted' }).waitFor();
      assert.equal(await grace.evaluate(() => window.gone), 0);
    } finally {
      await Promise.all([ada, grace].map((tab) => tab.context().close()));
      proxy.stop();
    }
  }
});

test('who comes back after the stay has ended joins anew, as muted as before', async (t) => {
  await withProxy(t, async (ada, grace, proxy) => {
    const me = await id(ada);
    await ada.getByRole('button', { name: 'Mute', exact: true }).click();
    await grace.locator('.tile:not(.mine) .note', { hasText: 'muted' }).waitFor();
    proxy.cut({ open: false });
    await ada.getByText('Reconnecting …').first().waitFor();
    await until('Ada is gone', async () => (await names(grace)).length === 0, 60_000);
    proxy.open();
    await ada.waitForFunction(() => window.moonring.client.joined, undefined, { timeout: 60_000 });
    assert.notEqual(await id(ada), me);
    await flows(ada, { videos: 1, audios: 1 });
    await flows(grace, { videos: 1, audios: 0 }); // the server forwards nothing of a muted track
    await grace.locator('.tile:not(.mine) .note', { hasText: 'muted' }).waitFor();
    assert.deepEqual(await names(grace), ['Ada']);
    assert.equal(await grace.locator('.tile').count(), 2);
    await ada.getByRole('button', { name: 'Unmute' }).click();
    await flows(grace, { videos: 1, audios: 1 });
    assert.equal(await grace.textContent('.tile:not(.mine) .note'), '');
  });
});

test('after kill -9 and a restart of the server two tabs are back by themselves, the mute state right', async () => {
  const server = await startServer({});
  /** @type {Tab[]} */ const tabs = [];
  try {
    for (const name of ['Ada', 'Grace']) tabs.push(await openTab(all.browser, server, { room: 'killed', name }));
    const [ada, grace] = tabs;
    for (const tab of tabs) await flows(tab, { videos: 1, audios: 1 });
    await ada.getByRole('button', { name: 'Mute', exact: true }).click();
    await grace.locator('.tile:not(.mine) .note', { hasText: 'muted' }).waitFor();
    await server.end('SIGKILL');
    for (const tab of tabs) await tab.waitForFunction(() => window.moonring.client.state === 'reconnecting');
    await server.again();
    const started = Date.now();
    await Promise.all(tabs.map((tab) => tab.waitForFunction(() => window.moonring.client.joined)));
    await Promise.all(tabs.map((tab) => flows(tab, { videos: 1, audios: tab === ada ? 1 : 0 })));
    report(`kill -9 and restart: both tabs have pictures ${Date.now() - started} ms after the server is healthy (goal: 3000)`);
    await keepScreenshot(grace, 'after-the-restart');
    await ada.getByRole('button', { name: 'Unmute' }).waitFor();
    assert.deepEqual(await ada.evaluate(() => [window.moonring.media.mic.enabled, window.moonring.published.mic.muted]), [false, true]);
    await grace.locator('.tile:not(.mine) .note', { hasText: 'muted' }).waitFor();
    assert.deepEqual(await grace.evaluate(() => [window.moonring.media.mic.enabled, window.moonring.published.mic.muted]), [true, false]);
    assert.equal(await ada.textContent('.tile:not(.mine) .note'), '');
    for (const tab of tabs) assert.equal(await tab.locator('.tile').count(), 2);
  } finally {
    await Promise.all(tabs.map((tab) => tab.context().close()));
    await server.stop();
  }
});

test('a server that is stopped for a restart is waited for', async (t) => {
  const server = await startServer({ flags: ['--shutdown-grace-s', '2'] });
  const tab = await openTab(all.browser, server, { room: 'deploy', name: 'Ada' }, { init: noteTicket });
  try {
    if (!(await canResume(tab))) return t.skip('the server gives no tickets, and says `kicked`');
    await server.end('SIGTERM');
    await tab.waitForFunction(() => window.moonring.client.state === 'reconnecting');
    await server.again();
    await tab.waitForFunction(() => window.moonring.client.joined);
  } finally {
    await tab.context().close();
    await server.stop();
  }
});

test('a closed tab is gone at once, whatever the resume time', async () => {
  await all.withTabs('closed', ['Ada', 'Grace'], async ([ada, grace]) => {
    await flows(grace, { videos: 1, audios: 1 });
    await ada.goto('about:blank');
    await until('Ada is gone', async () => (await names(grace)).length === 0, 3000);
  });
});

test('a camera of 640x480 is sent in two layers, the best of them whole, whoever was there first', async () => {
  const query = { media: 'camera', simulcast: 1, width: 640, height: 480 };
  await all.withTabs('small', ['Grace', 'Ada'], async (tabs) => {
    for (const tab of tabs) await flows(tab, { videos: 1, audios: 1 });
    for (const tab of tabs) {
      await until('both layers are sent', async () => {
        const layers = (await stats(tab)).outbound.filter(({ kind }) => kind === 'video');
        return layers.map(({ rid, frameWidth, frameHeight }) => [rid, frameWidth, frameHeight].join()).sort().join(' ') === 'h,640,480 q,320,240';
      });
      await until('the best arrives', async () => Object.values((await stats(tab)).inbound).some(({ frameWidth }) => frameWidth === 640));
      const [{ layers }] = await tab.evaluate(() => [...window.moonring.client.tracks.values()].filter((/** @type {any} */ t) => t.kind === 'video'));
      assert.equal(layers, 2);
    }
  }, query);
});

test('who receives first and sends later offers every header extension all the same', async () => {
  await all.withTabs('extensions', ['Ada'], async ([ada]) => {
    await ada.waitForFunction(() => window.moonring.published.camera);
    const grace = await openTab(all.browser, all.server, { room: 'extensions', name: 'Grace', media: 'none' });
    try {
      await flows(grace, { videos: 1, audios: 1 });
      const rids = await grace.evaluate(async () => {
        const [video] = (await navigator.mediaDevices.getUserMedia({ video: { width: 640, height: 480 } })).getVideoTracks();
        await window.moonring.client.publish(video, { source: 'camera', simulcast: true });
        const { sdp } = window.moonring.client.peerConnection.localDescription;
        return sdp.split(/^(?=m=)/m).at(-1).match(/^a=extmap:.*(rtp-stream-id|transport-wide-cc-extensions-01)$/gm).length;
      });
      assert.equal(rids, 3);
      await flows(ada, { videos: 1, audios: 0 });
    } finally {
      await grace.context().close();
    }
  });
});

test('views and wanted layers go both ways: who shows nothing receives nothing, and nobody encodes it', async (t) => {
  const query = { media: 'camera', simulcast: 1, width: 1280, height: 720 };
  await all.withTabs('views', ['Ada'], async ([ada]) => {
    const grace = await openTab(all.browser, all.server, { room: 'views', name: 'Grace', media: 'none' }, { init: noteTicket });
    try {
      if (!(await canResume(grace))) return t.skip('the server is from before tickets');
      await flows(grace, { videos: 1, audios: 1 });
      const sending = async () => (await stats(ada)).outbound.filter(({ kind, active }) => kind === 'video' && active).map(({ rid }) => rid).sort();
      await grace.evaluate(() => (/** @type {HTMLElement} */ (document.getElementById('tiles')).style.display = 'none'));
      await until('it is paused', () => grace.evaluate(() => [...window.moonring.client.paused.values()].includes('hidden')));
      await until('nothing is encoded', async () => (await sending()).length === 0);
      await grace.evaluate(() => (/** @type {HTMLElement} */ (document.getElementById('tiles')).style.display = ''));
      await flows(grace, { videos: 1, audios: 1 });
      await until('the pause is over', () => grace.evaluate(() => window.moonring.client.paused.size === 0));
      // A picture as large as a stamp is not worth the best layer.
      await grace.setViewportSize({ width: 320, height: 320 });
      await until('the best layer is off', async () => !(await sending()).includes('f'));
      await flows(grace, { videos: 1, audios: 1 });
    } finally {
      await grace.context().close();
    }
  }, query);
});

/** The video that a tab receives, in numbers. @param {Tab} tab */
async function figures(tab) {
  const video = Object.values((await stats(tab)).inbound).find(({ kind }) => kind === 'video');
  return { frames: video.framesDecoded, lost: video.packetsLost, dropped: video.framesDropped };
}
