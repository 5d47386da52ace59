// What a room's script decides, as a user of the page meets it.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { flows, keepScreenshot, openTab, ROOT, startBrowser, startServer, stats, until } from './lib.mjs';

let browser;
let server;
before(async () => {
  server = await startServer();
  browser = await startBrowser();
});
after(async () => {
  await browser?.close();
  await server?.stop();
});

test('a wrong token shows the script’s reason', async () => {
  const tab = await openTab(browser, server, { room: 'door', name: 'Mallory', token: 'guess' }, { wait: false });
  await tab.locator('#reason', { hasText: 'You may not join: Wrong token: ask the host for the link' }).waitFor();
  await keepScreenshot(tab, 'wrong-token');
  await tab.context().close();
});

test('the third publisher’s video is refused, its sound is not', async () => {
  const tabs = [];
  for (const name of ['Ada', 'Grace', 'Linus']) tabs.push(await openTab(browser, server, { room: 'limit-1', name }));
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

test('a kick ends the call of the one, with its reason, and of nobody else', async () => {
  const tabs = [];
  for (const name of ['Ada', 'Grace', 'Mallory']) tabs.push(await openTab(browser, server, { room: 'kick', name }));
  const [ada, grace, mallory] = tabs;
  await flows(ada, { videos: 2, audios: 2 });
  await ada.evaluate(() => window.moonring.client.send({ type: 'kick', name: 'Mallory', reason: 'Mind your language' }));
  await mallory.locator('#reason', { hasText: 'You were put out: Mind your language' }).waitFor();
  await until('Mallory is gone', () => ada.evaluate(() => window.moonring.client.clients.size === 1));
  await flows(ada, { videos: 1, audios: 1 });
  await flows(grace, { videos: 1, audios: 1 });
  assert.equal(Object.keys((await stats(ada)).inbound).length, 2);
  await Promise.all(tabs.map((tab) => tab.context().close()));
});

test('the policy that ships lets the default token in and says why it refuses another', async () => {
  const shipped = await startServer({ scripts: join(ROOT, 'scripts') });
  try {
    const guest = await openTab(browser, shipped, { room: 'demo', name: 'Mallory', token: 'guess' }, { wait: false });
    await guest.locator('#reason', { hasText: /You may not join: .+/ }).waitFor();
    await guest.context().close();
    const tabs = [];
    for (const name of ['Ada', 'Grace']) tabs.push(await openTab(browser, shipped, { room: 'demo', name, token: 'moonring' }));
    for (const tab of tabs) await flows(tab, { videos: 1, audios: 1 });
    await Promise.all(tabs.map((tab) => tab.context().close()));
  } finally {
    await shipped.stop();
  }
});
