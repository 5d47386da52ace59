// @ts-check
// What the page is for whoever uses it: the lobby, the views, the lists, the keys, what is said and what is not.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { answer, joined, track, withFakeIn } from './fake.mjs';
import { keepScreenshot, shared, until } from './lib.mjs';

/** @typedef {import('./fake.mjs').Handle} Handle */
/** @typedef {import('./fake.mjs').Send} Send */
/** @typedef {import('./lib.mjs').Tab} Tab */

const all = shared();
const people = [
  { client: 'grace', metadata: { name: 'Grace' } },
  { client: 'linus', metadata: { name: 'Linus' } },
];

/** A room with Grace and Linus, who both send a picture and sound. @param {(send: Send) => void} [keep] @returns {Handle} */
function company(keep = () => {}) {
  return (message, send) => {
    if (message.type !== 'join') return false;
    keep(send);
    const tracks = people.flatMap(({ client }) => [track(`${client}-v`, 'video', client), track(`${client}-a`, 'audio', client)]);
    send(joined('demo', people, tracks));
    return true;
  };
}

/** The browser has not been asked for the camera yet. */
function unasked() {
  Object.defineProperty(Permissions.prototype, 'query', { value: async () => ({ state: 'prompt' }) });
}

const large = (/** @type {Tab} */ tab) =>
  tab.evaluate(() => document.querySelector('.tile.large')?.getAttribute('aria-label') ?? null);
const focused = (/** @type {Tab} */ tab) => tab.evaluate(() => document.activeElement?.id);

test('the lobby shows what will be sent before it is, and hands it over', async () => {
  await withFakeIn(all, undefined, { outside: 1, autojoin: 0, media: 'camera' }, async (tab, fake) => {
    await tab.getByRole('button', { name: 'Preview', exact: true }).click();
    await tab.waitForFunction(() => (/** @type {HTMLVideoElement} */ (document.getElementById('mirror'))).videoWidth > 0);
    const cameras = tab.locator('#lobby select[data-device=videoinput] option');
    await until('the camera is listed', async () => (await cameras.allTextContents()).join() === 'fake_device_0');
    await until('the microphone is heard', () => tab.evaluate(() => (/** @type {HTMLMeterElement} */ (document.getElementById('level'))).value > 0));
    await keepScreenshot(tab, 'lobby');
    const previewed = await tab.evaluate(() => window.moonring.media.camera.id);
    await tab.getByLabel('Join muted').check();
    await tab.getByLabel('Join without video').check();
    await tab.getByRole('button', { name: 'Join' }).click();
    await tab.waitForFunction(() => window.moonring.published.camera && window.moonring.published.mic);
    assert.equal(await tab.evaluate(() => window.moonring.media.camera.id), previewed);
    assert.deepEqual(await tab.evaluate(() => [window.moonring.media.mic.enabled, window.moonring.media.camera.enabled]), [false, false]);
    await tab.getByRole('button', { name: 'Unmute' }).waitFor();
    await tab.getByRole('button', { name: 'Start video' }).waitFor();
    await until('the server knows', () => fake.of('mute').length === 2 && fake.of('mute').every(({ muted }) => muted));
    assert.equal(await focused(tab), 'mic', 'the focus goes on to the call');
  }, { init: unasked });
});

test('who has allowed the camera before sees the preview at once', async () => {
  await withFakeIn(all, undefined, { outside: 1, autojoin: 0, media: 'camera' }, async (tab) => {
    await tab.waitForFunction(() => (/** @type {HTMLVideoElement} */ (document.getElementById('mirror'))).videoWidth > 0);
    await tab.getByRole('button', { name: 'Stop the preview' }).click();
    assert.deepEqual(await tab.evaluate(() => window.moonring.media), {});
  });
});

test('the name is kept over a reload, and the invite link has the room and the token', async () => {
  await withFakeIn(all, undefined, { outside: 1, autojoin: 0, media: 'none', name: '' }, async (tab, fake) => {
    await tab.context().grantPermissions(['clipboard-read', 'clipboard-write']);
    await tab.getByLabel('Your name').fill('Ada Lovelace');
    await tab.getByRole('button', { name: 'Join' }).click();
    await tab.getByRole('button', { name: 'Invite' }).click();
    await tab.getByText('The invite link is in the clipboard').first().waitFor();
    const link = await tab.evaluate(() => navigator.clipboard.readText());
    assert.equal(link, `${fake.url}/?room=demo#token=let-me-in`);
    await tab.goto('about:blank');
    await tab.goto(link);
    assert.equal(await tab.getByLabel('Your name').inputValue(), 'Ada Lovelace');
    assert.equal(await tab.getByLabel('Token').inputValue(), 'let-me-in');
  });
});

test('speaker view follows who speaks, a pin holds, and the focus stays on it', async () => {
  /** @type {Send} */ let send = () => {};
  await withFakeIn(all, company((s) => (send = s)), { media: 'test' }, async (tab) => {
    await tab.waitForFunction(() => window.moonring.received.size === 4);
    assert.equal(await large(tab), null);
    await tab.keyboard.press('g');
    assert.equal(await large(tab), 'Grace');
    send({ type: 'active_speakers', clients: ['linus'] });
    await until('Linus is large', async () => (await large(tab)) === 'Linus');
    await keepScreenshot(tab, 'speaker-view');
    const pin = tab.getByRole('button', { name: 'Pin Grace' });
    await pin.focus();
    await tab.keyboard.press('Enter');
    assert.equal(await large(tab), 'Grace');
    assert.equal(await pin.getAttribute('aria-pressed'), 'true');
    assert.ok(await pin.evaluate((button) => button === document.activeElement));
    send({ type: 'active_speakers', clients: ['linus'] });
    await tab.keyboard.press('g');
    assert.equal(await large(tab), 'Grace', 'pinned, whatever the view and whoever speaks');
    await tab.keyboard.press('Escape');
    assert.equal(await large(tab), null);
  });
});

test('single keys do what the list says, never while somebody writes, and can be switched off', async () => {
  await withFakeIn(all, company(), { media: 'test' }, async (tab, fake) => {
    await tab.waitForFunction(() => window.moonring.published.mic);
    await tab.keyboard.press('m');
    await tab.getByRole('button', { name: 'Unmute' }).waitFor();
    await tab.keyboard.press('v');
    await tab.getByRole('button', { name: 'Start video' }).waitFor();
    await tab.keyboard.press('c');
    await until('the text has the focus', async () => (await focused(tab)) === 'text');
    await tab.keyboard.type('m and v');
    await tab.keyboard.press('Enter');
    await until('it was sent', () => fake.of('message').length === 1);
    assert.deepEqual(fake.of('message')[0].value, { type: 'chat', text: 'm and v' });
    assert.equal(fake.of('mute').length, 2, 'letters of a text are not keys');
    await tab.keyboard.press('Escape');
    assert.equal(await focused(tab), 'show-chat', 'the focus goes back to the button');
    await tab.keyboard.press('?');
    await keepScreenshot(tab, 'shortcuts');
    const described = await tab.locator('#shortcuts dt').allTextContents();
    assert.deepEqual(described, ['M', 'V', 'S', 'P', 'C', 'G', 'F', 'I', 'D', '?', 'Esc']);
    await tab.getByLabel('Single keys do these things').uncheck();
    await tab.locator('#shortcuts').getByRole('button', { name: 'Close' }).click();
    await tab.keyboard.press('m');
    assert.equal(await tab.getByRole('button', { name: 'Unmute' }).count(), 1);
  });
});

test('the list of people says what each sends', async () => {
  /** @type {Send} */ let send = () => {};
  await withFakeIn(all, company((s) => (send = s)), {}, async (tab) => {
    await tab.getByRole('button', { name: 'People' }).click();
    const rows = async () => (await tab.locator('#persons li').allInnerTexts()).map((text) => text.replace(/\s+/g, ' '));
    assert.deepEqual(await rows(), ['Ada (you) watches', 'Grace camera, microphone', 'Linus camera, microphone']);
    send({ type: 'track_changed', track: { ...track('grace-a', 'audio', 'grace'), muted: true } });
    send({ type: 'track_unpublished', track: 'linus-v' });
    send({ type: 'client_joined', client: 'new', metadata: { name: 'Margaret' } });
    await tab.locator('#persons', { hasText: 'Margaret' }).waitFor();
    assert.deepEqual(await rows(), ['Ada (you) watches', 'Grace camera, muted', 'Linus microphone', 'Margaret watches']);
  });
});

test('“Start video” that was refused can be tried again when the seat is free', async () => {
  let isFree = false;
  /** @type {Handle} */
  const handle = (message, send) => {
    if (message.type !== 'offer') return false;
    const video = message.publish.find((/** @type {any} */ { source }) => source === 'camera');
    send(answer(message, video && !isFree ? { [video.mid]: 'Only two cameras in this room' } : {}));
    return true;
  };
  await withFakeIn(all, handle, { media: 'test' }, async (tab) => {
    const start = tab.getByRole('button', { name: 'Start video' });
    await start.waitFor();
    await tab.locator('.tile.mine .note', { hasText: 'video refused' }).waitFor();
    await start.click();
    await until('it was refused again', async () =>
      tab.evaluate(() => window.moonring.notices.filter((/** @type {string} */ text) => /refused: Only two/.test(text)).length === 2));
    isFree = true;
    await start.click();
    await tab.getByRole('button', { name: 'Stop video' }).waitFor();
    await until('the note is gone', async () => (await tab.textContent('.tile.mine .note')) === '');
    assert.ok(await tab.evaluate(() => window.moonring.media.camera.enabled));
  });
});

test('messages that the page does not know are not shown, those in words are', async () => {
  /** @type {Send} */ let send = () => {};
  await withFakeIn(all, company((s) => (send = s)), {}, async (tab) => {
    for (const value of [{ type: 'goodbye', from: 'gone', reason: 'left' }, 7, null, ['x'], { text: { deep: 1 } }, { seats: 3 }]) {
      send({ type: 'message', value });
    }
    send({ type: 'message', value: { type: 'chat', from: 'grace', text: 'hello' } });
    send({ type: 'message', value: 'The room closes at five' });
    send({ type: 'message', value: { type: 'error', text: 'A text has at most 2000 bytes' } });
    await tab.locator('#unread', { hasText: '3' }).waitFor();
    await tab.getByRole('button', { name: 'Messages, 3 unread' }).click();
    assert.deepEqual(await tab.locator('#messages li').allTextContents(), [
      'Grace hello',
      'Room The room closes at five',
      'Room A text has at most 2000 bytes',
    ]);
    assert.equal(await tab.locator('#unread').isVisible(), false);
  });
});

test('names and messages of any length, number and kind leave the page as it is', async () => {
  /** @type {Send} */ let send = () => {};
  const family = '👩‍👩‍👧‍👦';
  const names = ['<img src=x onerror="window.hacked=1">', 'x'.repeat(16_000), family.repeat(100), '   ', { first: 'Ada' }, null];
  const who = names.map((name, n) => ({ client: `client-${n}`, metadata: { name } }));
  /** @type {Handle} */
  const handle = (message, s) => {
    send = s;
    return message.type === 'join' && (send(joined('demo', who, who.map(({ client }) => track(`${client}-v`, 'video', client)))), true);
  };
  await withFakeIn(all, handle, {}, async (tab) => {
    await tab.waitForFunction(() => window.moonring.received.size === 6);
    const labels = await tab.locator('.tile:not(.mine)').evaluateAll((tiles) => tiles.map((tile) => tile.getAttribute('aria-label') ?? ''));
    assert.deepEqual(labels.map((label) => [...label].length <= 61), Array(6).fill(true));
    assert.deepEqual([labels[0], labels[3], labels[5]], [names[0], 'client-3', 'client-5']);
    assert.ok(labels[2].startsWith(family));
    assert.equal(await tab.evaluate(() => window.hacked), undefined);
    for (let n = 0; n < 600; n++) send({ type: 'message', value: { type: 'chat', from: 'client-1', text: `${n} ${'long '.repeat(n < 590 ? 1 : 2000)}` } });
    await tab.locator('#unread', { hasText: '600' }).waitFor();
    const toasts = await tab.locator('#toasts p').allTextContents();
    assert.ok(toasts.length <= 4 && toasts.every((text) => text.length <= 161), `${toasts.map(({ length }) => length)}`);
    const covered = await tab.locator('#toasts').evaluate((box) => box.getBoundingClientRect().height / innerHeight);
    assert.ok(covered < 0.6, `${covered} of the page`);
    await tab.getByRole('button', { name: /^Messages/ }).click();
    assert.equal(await tab.locator('#messages li').count(), 500);
    const wide = await tab.evaluate(() => document.documentElement.scrollWidth > innerWidth);
    assert.equal(wide, false);
    await keepScreenshot(tab, 'crowded');
  });
});

test('on a phone nothing covers the picture but the name, and nothing is wider than the screen', async () => {
  const phone = { viewport: { width: 360, height: 640 }, hasTouch: true, isMobile: true };
  const body = async (/** @type {Tab} */ tab) => {
    await tab.waitForFunction(() => window.moonring.received.size === 4 && window.moonring.published.camera);
    await tab.waitForFunction(() => document.querySelector('.tile.mine .stats')?.textContent);
    assert.equal(await tab.locator('.tile .stats:visible').count(), 0);
    for (const key of ['', 'g', 'p', 'c']) {
      if (key) await tab.locator('body').press(key);
      const wide = await tab.evaluate(() => document.documentElement.scrollWidth > innerWidth);
      assert.equal(wide, false, `after ${key}`);
      await keepScreenshot(tab, `phone${key && `-${key}`}`);
    }
    const out = await tab.evaluate(() =>
      [...document.querySelectorAll('#controls button')].filter((button) => {
        const { left, right, height } = button.getBoundingClientRect();
        return left < 0 || right > innerWidth || (height > 0 && height < 44);
      }).length);
    assert.equal(out, 0, 'every button is in reach, and large enough for a finger');
  };
  await withFakeIn(all, company(), { media: 'test' }, body, { context: phone });
});

test('every control has a name, and the ids are unique', async () => {
  const nameless = () => {
    const all = /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll('button, input, select, video, meter, dialog, aside, nav'));
    const named = (/** @type {HTMLElement} */ node) =>
      node.getAttribute('aria-label') || node.getAttribute('aria-labelledby') || node.textContent?.trim()
      || [...(/** @type {HTMLInputElement} */ (node).labels ?? [])].some((label) => label.textContent?.trim());
    return [...all].filter((node) => !named(node)).map((node) => node.outerHTML.slice(0, 80));
  };
  await withFakeIn(all, company(), { media: 'test' }, async (tab) => {
    await tab.waitForFunction(() => window.moonring.received.size === 4);
    assert.deepEqual(await tab.evaluate(nameless), []);
    const twice = await tab.evaluate(() => {
      const ids = [...document.querySelectorAll('[id]')].map(({ id }) => id);
      return ids.filter((id, at) => ids.indexOf(id) !== at);
    });
    assert.deepEqual(twice, []);
    assert.equal(await tab.getByRole('img', { name: /^Network: / }).count() > 0 || (await tab.locator('.network').count()) === 3, true);
  });
});

test('the page keeps to its content security policy', async () => {
  const policy = () => {
    window.broken = [];
    document.addEventListener('securitypolicyviolation', (event) => window.broken.push(`${event.violatedDirective} ${event.blockedURI}`));
  };
  await withFakeIn(all, company(), { media: 'test' }, async (tab) => {
    await tab.waitForFunction(() => window.moonring.received.size === 4 && window.moonring.published.camera);
    assert.deepEqual(await tab.evaluate(() => window.broken), []);
  }, { init: policy });
});

test('whatever others give as their name or send, everybody is shown', async () => {
  /** @type {Send} */ let send = () => {};
  /** @type {any[]} */ const odd = [{ toString: 1, valueOf: 1 }, { length: 1 }, ['x'], null, 7, true, ''];
  const strangers = odd.map((name, n) => ({ client: `odd${n}`, metadata: { name } }));
  /** @type {Handle} */
  const handle = (message, say) => {
    send = say;
    return message.type === 'join' && (say(joined('demo', [...strangers, { client: 'none', metadata: null }, ...people])), true);
  };
  await withFakeIn(all, handle, {}, async (tab) => {
    const names = () => tab.locator('.tile').evaluateAll((tiles) => tiles.map((tile) => tile.getAttribute('aria-label')));
    const expected = ['Ada', 'odd0', 'odd1', 'odd2', 'odd3', '7', 'true', 'odd6', 'none', 'Grace', 'Linus'];
    assert.deepEqual(await names(), expected);
    assert.deepEqual(await tab.evaluate(() => window.moonring.notices), []);
    for (const value of [{ text: 'a', from: { toString: 1, valueOf: 1 } }, { text: { length: 3 } }, { message: ['b'] }, [], null, 1, { text: 'c', from: 'grace' }]) send({ type: 'message', value });
    await until('all came', () => tab.evaluate(() => window.moonring.messages.length === 7));
    assert.deepEqual(await tab.locator('#messages li').allTextContents(), ['Somebody a', 'Grace c']);
    send({ type: 'client_joined', client: 'late', metadata: { name: { toString: 1, valueOf: 1 } } });
    await until('who came late is shown', async () => (await names()).length === expected.length + 1);
  });
});

test('a server that is not there is said to be so in the lobby', async () => {
  await withFakeIn(all, undefined, { outside: 1, autojoin: 0, media: 'none' }, async (tab, fake) => {
    fake.letIn(false);
    await tab.getByRole('button', { name: 'Join' }).click();
    await tab.locator('#reason', { hasText: 'The server cannot be reached' }).waitFor();
    assert.equal(await tab.getByRole('button', { name: 'Join' }).isEnabled(), true);
    fake.letIn(true);
    await tab.getByRole('button', { name: 'Join' }).click();
    await tab.waitForFunction(() => window.moonring.client.joined);
  });
});
