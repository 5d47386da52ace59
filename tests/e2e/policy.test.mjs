// What a room's script decides, as a user of the page meets it.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { flows, keepScreenshot, openTab, ROOT, shared, sleep, startServer, stats, until } from './lib.mjs';

const all = shared({});

test('a wrong token shows the script’s reason', async () => {
  const tab = await openTab(all.browser, all.server, { room: 'door', name: 'Mallory', token: 'guess' }, { wait: false });
  await tab.locator('#reason', { hasText: 'You may not join: Wrong token: ask the host for the link' }).waitFor();
  await keepScreenshot(tab, 'wrong-token');
  await tab.context().close();
});

test('the third publisher’s video is refused, its sound is not', async () => {
  const tabs = [];
  for (const name of ['Ada', 'Grace', 'Linus']) tabs.push(await openTab(all.browser, all.server, { room: 'limit-1', name }));
  const [ada, grace, linus] = tabs;
  await linus.getByText('Your video was refused: Only 2 cameras in this room').first().waitFor();
  await flows(linus, { videos: 2, audios: 2 });
  await flows(ada, { videos: 1, audios: 2 });
  await keepScreenshot(linus, 'third-video-refused');
  // The place of somebody who leaves is free again.
  await grace.context().close();
  await until('Linus may publish', () =>
    linus.evaluate(() =>
      window.moonring.client.publish(window.moonring.media.camera.clone(), { source: 'camera' }).then(() => true, () => false),
    ),
  );
  await flows(ada, { videos: 1, audios: 1 });
  for (const tab of [ada, linus]) await tab.context().close();
});

test('a camera that was refused, and one that was unpublished, is sent in all its layers later', async () => {
  const query = { room: 'limit-2', width: 1280, height: 720, simulcast: 1 };
  const tabs = [];
  for (const name of ['Ada', 'Grace']) tabs.push(await openTab(all.browser, all.server, { room: query.room, name }));
  const [, grace] = tabs;
  const linus = await openTab(all.browser, all.server, { ...query, name: 'Linus' });
  await linus.getByText('Your video was refused: Only 2 cameras in this room').first().waitFor();
  await sleep(2000); // its section is offered inactive
  await grace.context().close();
  const publish = () => linus.evaluate(() =>
    window.moonring.client.publish(window.moonring.media.camera, { source: 'camera', simulcast: true }).then(
      (/** @type {any} */ publication) => Boolean(window.again = publication), () => false));
  const sent = () => linus.evaluate(() => {
    const transceivers = window.moonring.client.peerConnection.getTransceivers();
    const videos = transceivers.filter((/** @type {RTCRtpTransceiver} */ { sender, currentDirection }) => sender.track?.kind === 'video' && currentDirection === 'sendonly');
    return videos.map((/** @type {RTCRtpTransceiver} */ { sender }) =>
      sender.getParameters().encodings.map(({ rid, scaleResolutionDownBy }) => `${rid} ${scaleResolutionDownBy}`).join());
  });
  await until('Linus may publish', publish);
  assert.deepEqual(await sent(), ['q 4,h 2,f 1']);
  await linus.evaluate(() => window.again.unpublish());
  await sleep(2000);
  assert.deepEqual(await sent(), []);
  assert.ok(await publish());
  assert.deepEqual(await sent(), ['q 4,h 2,f 1']);
  for (const tab of [tabs[0], linus]) await tab.context().close();
});

test('a kick ends the call of the one, with its reason, and of nobody else', async () => {
  await all.withTabs('kick', ['Ada', 'Grace', 'Mallory'], async ([ada, grace, mallory]) => {
    await flows(ada, { videos: 2, audios: 2 });
    await ada.evaluate(() => window.moonring.client.send({ type: 'kick', name: 'Mallory', reason: 'Mind your language' }));
    await mallory.locator('#reason', { hasText: 'You were put out: Mind your language' }).waitFor();
    await until('Mallory is gone', () => ada.evaluate(() => window.moonring.client.clients.size === 1));
    await flows(ada, { videos: 1, audios: 1 });
    await flows(grace, { videos: 1, audios: 1 });
    assert.equal(Object.keys((await stats(ada)).inbound).length, 2);
  });
});

test('a track that the policy mutes is shown so to its publisher, who cannot undo it', async () => {
  await all.withTabs('mute', ['Ada', 'Grace'], async ([ada, grace]) => {
    await flows(ada, { videos: 1, audios: 1 });
    await flows(grace, { videos: 1, audios: 1 });
    const tell = (/** @type {string} */ type, /** @type {string} */ kind) =>
      ada.evaluate((message) => window.moonring.client.send(message), { type, kind, name: 'Grace' });
    const noted = (/** @type {string | RegExp} */ text) => grace.locator('.tile.mine .note', { hasText: text }).waitFor();
    await tell('mute', 'audio');
    await noted(/^sound muted by the room$/);
    await ada.locator('.tile:not(.mine) .note', { hasText: 'muted' }).waitFor();
    await keepScreenshot(grace, 'muted-by-the-room');
    // Her own button changes nothing about that.
    for (const name of ['Mute', 'Unmute']) await grace.getByRole('button', { name, exact: true }).click();
    await noted(/^sound muted by the room$/);
    await tell('mute', 'video');
    await noted('sound muted by the room, video muted by the room');
    for (const kind of ['audio', 'video']) await tell('unmute', kind);
    await until('the note is gone', async () => (await grace.textContent('.tile.mine .note')) === '');
    await flows(ada, { videos: 1, audios: 1 });
    const told = await grace.evaluate(() => window.moonring.notices);
    assert.deepEqual(told.filter((/** @type {string} */ text) => text.startsWith('The room')).slice(0, 2), [
      'The room has muted your sound',
      'The room has muted your video',
    ]);
  });
});

test('the policy that ships lets the default token in and says why it refuses another', async () => {
  const shipped = await startServer({ scripts: join(ROOT, 'scripts') });
  try {
    const guest = await openTab(all.browser, shipped, { room: 'demo', name: 'Mallory', token: 'guess' }, { wait: false });
    await guest.locator('#reason', { hasText: /You may not join: .+/ }).waitFor();
    await guest.context().close();
    const tabs = [];
    for (const name of ['Ada', 'Grace']) tabs.push(await openTab(all.browser, shipped, { room: 'demo', name, token: 'moonring' }));
    for (const tab of tabs) await flows(tab, { videos: 1, audios: 1 });
    await Promise.all(tabs.map((tab) => tab.context().close()));
  } finally {
    await shipped.stop();
  }
});
