// The operators' page: the canary, rooms, scripts in trouble, the paths to clients; nothing without the token where there is
// one.
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { HERE, ROOT, flows, keepScreenshot, openTab, shared, startServer, until } from './lib.mjs';

const all = shared();

test('an operator sees rooms, their scripts, the canary and the path to each client, after showing the token', async () => {
  const token = 'the-token-of-operators';
  const scripts = mkdtempSync(join(tmpdir(), 'moonring-admin-'));
  const script = join(scripts, 'default_room.lua');
  const text = readFileSync(join(HERE, 'scripts', 'default_room.lua'), 'utf8');
  writeFileSync(script, text);
  const server = await startServer({ scripts, flags: ['--admin-token', token, '--on-save', 'nothing'] });
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
    const ways = await page.locator('.inner tbody tr td:nth-child(2)').allTextContents();
    assert.deepEqual(ways, ['websocket/udp', 'websocket/udp']);
    await until('an estimate is known', async () => /bit\/s/.test(await page.locator('.inner tbody tr').first().innerText()));
    await until('there is a curve', async () => ((await page.locator('.estimate').first().getAttribute('points')) ?? '').split(' ').length > 2);
    await keepScreenshot(page, 'admin');

    assert.equal(await page.isVisible('#canary'), false, 'there has been none');
    const operate = (/** @type {string} */ path, /** @type {object} */ body) =>
      fetch(`${server.admin}/${path}`, {
        method: 'POST',
        headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
        body: JSON.stringify(body),
      });
    writeFileSync(script, `${text}\n-- a newer version\n`);
    const begun = await operate('canary', { rooms: 'se*', seconds: 600 });
    assert.equal(begun.status, 200, await begun.text());
    const canary = page.locator('#canary');
    await until('the canary is shown', async () => /^The canary of default_room\.lua in se\* runs for \d+ of 600 s\.$/.test(await canary.locator('p').innerText()));
    await until('its room runs the version', async () => (await canary.locator('tbody td').allTextContents())[1] === '1');
    await operate('canary/abort', {});
    await until('it is told that it went back', async () => (await canary.locator('p').innerText()).includes('went back after'));
    assert.match((await canary.locator('p').getAttribute('class')) ?? '', /bad/);

    await page.fill('#filter', 'other');
    await page.waitForSelector('#none:not([hidden])');
    await page.fill('#filter', 'se');
    await row.waitFor();
    assert.deepEqual(errors, []);
  } finally {
    await Promise.all([...tabs.map((tab) => tab.context().close()), context.close()]);
    await server.stop();
    rmSync(scripts, { recursive: true, force: true });
  }
});

test('with more rooms than are told at once the page says so, and says nothing twice', async () => {
  const context = await all.browser.newContext({ viewport: { width: 1200, height: 700 } });
  /** @type {string[]} */ const asked = [];
  await context.route('http://admin.test/**', (route) => {
    const { pathname, searchParams } = new URL(route.request().url());
    if (pathname === '/rooms') {
      asked.push(String(searchParams.get('limit')));
      const room = { room: 'a', shard: 0, clients: 2, tracks: 1, policy: null, paths: [] };
      return route.fulfill({ json: { rooms: [room], next: 'a' } });
    }
    if (pathname === '/canary' || pathname === '/nodes') return route.fulfill({ status: 503 });
    return route.fulfill({ path: join(ROOT, 'web/admin', pathname === '/' ? 'index.html' : pathname) });
  });
  const page = await context.newPage();
  try {
    await page.goto('http://admin.test/');
    for (const [limit, words] of [['100', '1 room and more, 2 clients'], ['400', ''], ['1600', ''], ['2000', '1 room and more (name the ones to see), 2 clients']]) {
      await until(`${limit} were asked for`, () => asked.at(-1) === limit);
      if (words) await page.locator('#totals', { hasText: words }).waitFor();
      if (limit !== '2000') await page.click('#more');
    }
    assert.equal(await page.isVisible('#more'), false, 'it would do nothing');
    await page.evaluate(() => {
      window.said = 0;
      new MutationObserver(() => window.said++).observe(/** @type {Node} */ (document.getElementById('totals')), { childList: true, characterData: true, subtree: true });
    });
    const before = asked.length;
    await until('it was asked again', () => asked.length >= before + 2);
    assert.equal(await page.evaluate(() => window.said), 0);
  } finally {
    await context.close();
  }
});
