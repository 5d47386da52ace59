// The operators' page: rooms, scripts in trouble, the paths to clients; nothing without the token where there is one.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { flows, keepScreenshot, openTab, shared, startServer, until } from './lib.mjs';

const all = shared();

test('an operator sees rooms, their scripts and the path to each client, after showing the token', async () => {
  const token = 'the-token-of-operators';
  const server = await startServer({ flags: ['--admin-token', token] });
  const context = await all.browser.newContext({ viewport: { width: 1200, height: 700 } });
  const tabs = [];
  try {
    for (const name of ['Ada', 'Grace']) tabs.push(await openTab(all.browser, server, { room: 'seen', name }));
    for (const tab of tabs) await flows(tab, { videos: 1, audios: 1 });

    const page = await context.newPage();
    /** @type {string[]} */ const errors = [];
    page.on('pageerror', (error) => errors.push(String(error)));
    page.on('console', (line) => line.type() === 'error' && !line.text().includes('401') && errors.push(line.text()));
    await page.goto(server.admin);
    await page.waitForSelector('#login:not([hidden])');
    assert.equal(await page.isVisible('#rooms'), false);
    for (const shown of ['not it', token]) {
      if (shown === token) await page.waitForFunction(() => document.querySelector('#refused')?.textContent?.includes('not the admin_token'));
      await page.fill('#token', shown);
      await page.click('#login button');
    }
    const row = page.locator('#rooms > tbody > tr').first();
    await row.waitFor();
    const cells = await row.locator('td').allTextContents();
    assert.deepEqual([cells[0], cells[2], cells[3]], ['seen', '2', '4']);
    assert.match(cells[4], /^default_room\.lua [0-9a-f]{8}$/);
    assert.equal(cells.at(-1), 'runs');

    await row.locator('button').click();
    await until('the paths are drawn', async () => (await page.locator('.inner tbody tr').count()) === 2);
    await until('an estimate is known', async () => /bit\/s/.test(await page.locator('.inner tbody tr').first().innerText()));
    await until('there is a curve', async () => ((await page.locator('.estimate').first().getAttribute('points')) ?? '').split(' ').length > 2);
    await keepScreenshot(page, 'admin');

    await page.fill('#filter', 'other');
    await page.waitForSelector('#none:not([hidden])');
    await page.fill('#filter', 'se');
    await row.waitFor();
    assert.deepEqual(errors, []);
  } finally {
    await Promise.all([...tabs.map((tab) => tab.context().close()), context.close()]);
    await server.stop();
  }
});
