// client.js and the page against a server that answers as each test wants: what a real one does too rarely to wait for.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { answer, joined, track, withFakeIn } from './fake.mjs';
import { keepScreenshot, shared, sleep, until } from './lib.mjs';

const all = shared();

/** @typedef {import('./fake.mjs').Handle} Handle */
/** @typedef {import('./fake.mjs').Fake} Fake */

/** @type {(handle: Handle | undefined, query: import('./lib.mjs').Query,
 *          body: (tab: import('./lib.mjs').Tab, fake: Fake) => Promise<unknown>) => Promise<void>} */
const withFake = (handle, query, body) => withFakeIn(all, handle, query, body);
const offers = (/** @type {Fake} */ fake) => fake.of('offer');
const people = [{ client: 'other', metadata: { name: 'Grace' } }];

test('intents of one moment share an offer, and the next offer waits for the answer', async () => {
  /** @type {(() => void)[]} */ const held = [];
  /** @type {Handle} */
  const hold = (message, send) => message.type === 'offer' && held.push(() => send(answer(message)));
  const tracks = ['a', 'b', 'c'].map((id) => track(id));
  /** @type {Handle} */
  const handle = (message, send, socket) => (message.type === 'join' ? (send(joined('demo', people, tracks)), true) : hold(message, send, socket));
  await withFake(handle, {}, async (tab, fake) => {
    await until('the first offer is there', () => held.length === 1);
    assert.deepEqual(offers(fake)[0].subscribe.map((/** @type {any} */ s) => s.track), ['a', 'b', 'c']);
    await tab.evaluate(() => {
      const { client } = window.moonring;
      client.tracks.set('d', { ...client.tracks.get('a'), id: 'd' });
      window.late = client.subscribe('d');
    });
    await sleep(200);
    assert.equal(held.length, 1);
    held[0]();
    await until('the second offer is there', () => held.length === 2);
    held[1]();
    assert.equal(await tab.evaluate(async () => (await window.late).kind), 'video');
  });
});

test('a receiving section names only the codec of its track', async () => {
  /** @type {Handle} */
  const handle = (message, send) => message.type === 'join' && (send(joined('demo', people, [track('a')])), true);
  await withFake(handle, {}, async (tab, fake) => {
    const [offer] = await until('an offer is there', () => offers(fake).length > 0 && offers(fake));
    const codecs = [...offer.sdp.matchAll(/^a=rtpmap:\d+ (\w+)/gm)].map(([, name]) => name.toLowerCase());
    assert.deepEqual([...new Set(codecs)].sort(), ['rtx', 'vp8']);
  });
});

test('the section of a track that ended is offered inactive and then used again', async () => {
  /** @type {import('./fake.mjs').Send} */ let say = () => {};
  /** @type {Handle} */
  const handle = (message, send) => {
    say = send;
    return message.type === 'join' && (send(joined('demo', people, [track('a')])), true);
  };
  await withFake(handle, {}, async (tab, fake) => {
    await tab.waitForFunction(() => window.moonring.received.has('a'));
    say({ type: 'track_unpublished', track: 'a' });
    const inactive = await until('an offer says inactive', () => offers(fake).find(({ sdp }) => /^a=inactive/m.test(sdp)));
    assert.deepEqual(inactive.subscribe, []);
    await sleep(100);
    say({ type: 'track_published', track: track('b') });
    await tab.waitForFunction(() => window.moonring.received.has('b'));
    const last = offers(fake).at(-1);
    assert.equal(last.subscribe[0].mid, offers(fake)[0].subscribe[0].mid);
    assert.equal(last.sdp.match(/^m=/gm).length, 1);
  });
});

test('a refused section tells its reason, on the page too, and the others go on', async () => {
  /** @type {Handle} */
  const handle = (message, send) => {
    if (message.type !== 'offer') return false;
    const video = message.publish.find((/** @type {any} */ { source }) => source === 'camera');
    send(answer(message, video ? { [video.mid]: 'Only two cameras in this room' } : {}));
    return true;
  };
  await withFake(handle, { media: 'test' }, async (tab) => {
    await tab.getByText('Your video was refused: Only two cameras in this room').first().waitFor();
    await tab.waitForFunction(() => window.moonring.published.mic);
    await keepScreenshot(tab, 'refused');
  });
});

test('a track that goes on in another codec is received anew, and one that the script ends is not', async () => {
  /** @type {import('./fake.mjs').Send} */ let say = () => {};
  /** @type {Handle} */
  const handle = (message, send) => {
    say = send;
    return message.type === 'join' && (send(joined('demo', people, [track('a')])), true);
  };
  await withFake(handle, {}, async (tab, fake) => {
    await tab.waitForFunction(() => window.moonring.received.has('a'));
    const before = await tab.evaluate(() => window.moonring.received.get('a').id);
    say({ type: 'track_changed', track: { ...track('a'), codec: 'h264' } });
    say({ type: 'unsubscribed', track: 'a', reason: 'the track goes on as H264, which its section does not take' });
    const offer = await until('it is asked for again', () => offers(fake).slice(1).find(({ subscribe }) => subscribe.length > 0));
    assert.deepEqual(offer.subscribe.map((/** @type {any} */ s) => s.track), ['a']);
    const section = offer.sdp.split(/^(?=m=)/m).find((/** @type {string} */ part) => part.includes(`a=mid:${offer.subscribe[0].mid}\r`));
    const codecs = [...section.matchAll(/^a=rtpmap:\d+ (\w+)/gm)].map(([, name]) => name.toLowerCase());
    assert.deepEqual([...new Set(codecs)].sort(), ['h264', 'rtx']);
    await tab.waitForFunction((id) => ![undefined, id].includes(window.moonring.received.get('a')?.id), before);
    say({ type: 'unsubscribed', track: 'a', reason: 'Enough seen' });
    await tab.waitForFunction(() => !window.moonring.received.has('a'));
    await until('its section is given up', () => offers(fake).length > 2);
    assert.deepEqual(offers(fake).at(-1).subscribe, []);
  });
});

test('an offer that the server cannot answer fails its intents only', async () => {
  let failed = false;
  /** @type {Handle} */
  const handle = (message, send) => {
    if (message.type === 'join') return send(joined('demo', people, [track('a'), track('b')])), true;
    if (message.type !== 'offer' || failed) return false;
    failed = true;
    send({ type: 'error', code: 'bad_sdp', message: 'no sense in it', request: message.request });
    return true;
  };
  await withFake(handle, {}, async (tab) => {
    await tab.getByText('no sense in it').first().waitFor();
    assert.equal(await tab.evaluate(async () => (await window.moonring.client.subscribe('b')).kind), 'video');
  });
});

test('a rejection is shown in the lobby, in the policy’s words', async () => {
  /** @type {Handle} */
  const handle = (message, send, socket) => {
    send({ type: 'rejected', reason: 'Invalid token' });
    socket.close();
    return true;
  };
  await withFake(handle, { outside: 1 }, async (tab) => {
    await tab.locator('#reason', { hasText: 'You may not join: Invalid token' }).waitFor();
    await keepScreenshot(tab, 'rejected');
  });
});

test('a restart changes the ice-ufrag of the offer', async () => {
  await withFake(undefined, { media: 'test' }, async (tab, fake) => {
    await tab.waitForFunction(() => window.moonring.published.mic);
    await tab.evaluate(() => window.moonring.client.restartIce());
    await until('a second offer is there', () => offers(fake).length === 2);
    const ufrags = offers(fake).map(({ sdp }) => /a=ice-ufrag:(\S+)/.exec(sdp)?.[1]);
    assert.notEqual(ufrags[0], ufrags[1]);
  });
});

test('muting, layers, messages and goodbyes are the messages of the protocol', async () => {
  /** @type {Handle} */
  const handle = (message, send) => message.type === 'join' && (send(joined('demo', [{ client: 'other', metadata: {} }], [track('x', 'audio')])), true);
  await withFake(handle, { media: 'test' }, async (tab, fake) => {
    await tab.waitForFunction(() => window.moonring.published.mic && window.moonring.received.has('x'));
    const mic = await tab.evaluate(() => window.moonring.published.mic.id);
    await tab.getByRole('button', { name: 'Mute' }).click();
    await tab.getByRole('button', { name: 'Messages' }).click();
    await tab.getByLabel('Message', { exact: true }).fill('hello');
    await tab.getByRole('button', { name: 'Send' }).click();
    await tab.evaluate(() => window.moonring.client.setLayer('x', 1));
    await keepScreenshot(tab, 'chat');
    await tab.getByRole('button', { name: 'Leave' }).click();
    await until('leave arrived', () => fake.log.at(-1).type === 'leave');
    assert.deepEqual(fake.log.slice(-4), [
      { type: 'mute', track: mic, muted: true },
      { type: 'message', value: { type: 'chat', text: 'hello' } },
      { type: 'layer', track: 'x', layer: 1 },
      { type: 'leave' },
    ]);
  });
});

test('what the room does to an own track is told apart from what we do ourselves', async () => {
  /** @type {import('./fake.mjs').Send} */ let say = () => {};
  /** @type {Handle} */
  const handle = (message, send) => {
    say = send;
    if (message.type !== 'mute') return false;
    // As the server does: everybody hears of it, the publisher too.
    send({ type: 'track_changed', track: { ...track(message.track, 'audio', 'me'), muted: message.muted } });
    return true;
  };
  await withFake(handle, { media: 'test' }, async (tab) => {
    await tab.waitForFunction(() => window.moonring.published.mic && window.moonring.published.camera);
    await tab.evaluate(() => {
      window.heard = [];
      window.moonring.client.addEventListener('muted_by_room', (/** @type {any} */ { detail }) => window.heard.push({ track: detail.publication.id, muted: detail.muted }));
    });
    const [mic, camera] = await tab.evaluate(() => [window.moonring.published.mic.id, window.moonring.published.camera.id]);
    const noted = (/** @type {string | RegExp} */ text) => tab.locator('.tile.mine .note', { hasText: text }).waitFor();
    const unnoted = () => until('the note is gone', async () => (await tab.textContent('.tile.mine .note')) === '');
    const changed = (/** @type {string} */ id, /** @type {string} */ kind, /** @type {boolean} */ muted) =>
      say({ type: 'track_changed', track: { ...track(id, kind, 'me'), muted } });

    await tab.getByRole('button', { name: 'Mute', exact: true }).click();
    await noted(/^muted$/);
    await tab.getByRole('button', { name: 'Unmute' }).click();
    await tab.getByRole('button', { name: 'Mute', exact: true }).click();
    await tab.getByRole('button', { name: 'Unmute' }).click();
    await sleep(600);
    assert.deepEqual(await tab.evaluate(() => window.heard), []);
    await unnoted();

    changed(mic, 'audio', true);
    await noted(/^sound muted by the room$/);
    changed(camera, 'video', true);
    await noted('sound muted by the room, video muted by the room');
    assert.match(String(await tab.getAttribute('.tile.mine', 'class')), /\bdark\b/);
    changed(camera, 'video', false);
    changed(mic, 'audio', false);
    await unnoted();
    await until('both are told', () => tab.evaluate(() => window.heard.length === 4));
    assert.deepEqual(await tab.evaluate(() => window.heard), [
      { track: mic, muted: true },
      { track: camera, muted: true },
      { track: camera, muted: false },
      { track: mic, muted: false },
    ]);

    say({ type: 'track_unpublished', track: camera });
    await noted('video ended by the room');
    await tab.getByRole('button', { name: 'Start video' }).click();
    await until('it is published again', () => tab.evaluate((id) => (window.moonring.published.camera?.id ?? id) !== id, camera));
    await unnoted();
  });
});
