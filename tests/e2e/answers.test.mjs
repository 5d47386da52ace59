// @ts-check
// What client.js makes of an answer while more is said of the same tracks: by the room before the answer is used, by the page
// while it is awaited. Against a server that answers as each test wants.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { answer, joined, withFakeIn } from './fake.mjs';
import { shared, until } from './lib.mjs';

/** @typedef {import('./fake.mjs').Handle} Handle */
/** @typedef {import('./fake.mjs').Message} Message */
/** @typedef {import('./lib.mjs').Tab} Tab */

const all = shared();

/** The track that an answer brings for a section of a kind. @param {Message} decision @param {string} kind */
const own = (decision, kind) => decision.sections.map((/** @type {Message} */ section) => section.track).find((/** @type {Message} */ t) => t.kind === kind);
const noted = (/** @type {Tab} */ tab, /** @type {string} */ text) => tab.locator('.tile.mine .note', { hasText: text }).waitFor();

test('what the room says of an own track before its answer is used counts', async () => {
  /** @type {Handle} */
  const handle = (message, send) => {
    if (message.type !== 'offer') return false;
    const decision = answer(message);
    const [camera, mic] = [own(decision, 'video'), own(decision, 'audio')];
    send({ type: 'track_changed', track: { ...mic, muted: true } }); // as a script may do at once
    send(decision);
    send({ type: 'wanted_layers', track: camera.id, layers: [] });
    return true;
  };
  await withFakeIn(all, handle, { media: 'test' }, async (tab) => {
    await noted(tab, 'sound muted by the room');
    await until('nobody is sent the picture', () => tab.evaluate(() => !window.moonring.published.camera.sender.getParameters().encodings[0].active));
    assert.equal(await tab.evaluate(() => window.moonring.published.camera.mutedByRoom), false);
  });
});

test('an own track that the room ends before its answer is used was not published', async () => {
  /** @type {Handle} */
  const handle = (message, send) => {
    if (message.type !== 'offer' || message.publish.length === 0) return false;
    const decision = answer(message);
    send({ type: 'track_unpublished', track: own(decision, 'video').id, reason: 'Sound only' });
    send(decision);
    return true;
  };
  await withFakeIn(all, handle, { media: 'test' }, async (tab, fake) => {
    await noted(tab, 'video refused');
    await tab.getByText('Your video was refused: Sound only').first().waitFor();
    await until('its section is offered inactive', () => /^a=inactive/m.test(fake.of('offer').at(-1).sdp));
    assert.equal(await tab.evaluate(() => Boolean(window.moonring.published.mic && !window.moonring.published.camera)), true);
  });
});

test('of tracks whose answer was kept over a lost connection, what the room has done to them since counts', async () => {
  /** @type {Message} */ let decision;
  /** @type {Handle} */
  const handle = (message, send, socket) => {
    if (message.type === 'offer' && !decision) {
      decision = answer(message);
      return socket.terminate(), true;
    }
    // The camera has ended: its section is not in use any more.
    const { mid } = decision?.sections.find((/** @type {Message} */ section) => section.track.kind === 'video') ?? {};
    if (message.type === 'offer') return send(answer(message, { [mid]: 'ended' })), true;
    if (message.type !== 'resume') return false;
    send({ ...joined('demo', [], [], [{ ...own(decision, 'audio'), muted: true }]), resumed: true });
    send(decision);
    return true;
  };
  await withFakeIn(all, handle, { media: 'test' }, async (tab, fake) => {
    await noted(tab, 'sound muted by the room, video refused');
    assert.equal(await tab.evaluate(() => window.moonring.published.mic.id), own(decision, 'audio').id);
    assert.deepEqual(fake.of('unpublish'), []);
  });
});
