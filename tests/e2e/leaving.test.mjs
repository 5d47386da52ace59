// @ts-check
// A stay that ends, or goes on, at an awkward moment: pages that leave while they are told of something, and what a page is
// told after a lost connection. Against a server that answers as each test wants.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { answer, joined, track, withFakeIn } from './fake.mjs';
import { shared, sleep, until } from './lib.mjs';

/** @typedef {import('./fake.mjs').Handle} Handle */
/** @typedef {import('./fake.mjs').Message} Message */
/** @typedef {import('./fake.mjs').Send} Send */
/** @typedef {import('./lib.mjs').Tab} Tab */

const all = shared();
const people = [{ client: 'other', metadata: { name: 'Grace' } }];
const ALL = ['camera', 'microphone', 'screen', 'screen_audio', 'other'];

/** A room with Grace and her picture; `back` is what a resume or a second join is answered. @param {(message: Message) => Message} back */
function room(back) {
  /** @type {{send: Send, socket: import('ws').WebSocket | undefined, joins: number}} */
  const wire = { send: () => {}, socket: undefined, joins: 0 };
  /** @type {Handle} */
  const handle = (message, send, socket) => {
    Object.assign(wire, { send, socket });
    const isBack = message.type === 'resume' || (message.type === 'join' && wire.joins++ > 0);
    if (isBack) return send(back(message)), true;
    return message.type === 'join' && (send(joined('demo', people, [track('a')])), true);
  };
  return { wire, handle };
}

/** Notes every event of the page's client, and leaves at the first one that is `when`. @param {Tab} tab @param {string} [when] */
function note(tab, when) {
  return tab.evaluate((leaves) => {
    const { client } = window.moonring;
    window.heard = [];
    const names = ['state', 'joined', 'closed', 'client_joined', 'client_left', 'client_changed', 'rights', 'track_published', 'track_unpublished', 'media', 'subscription_failed', 'publication_ended', 'restarting'];
    for (const name of names) {
      client.on(name, (/** @type {any} */ detail) => {
        window.heard.push(name === 'state' ? detail.state : name);
        if (window.heard.at(-1) === leaves) client.leave();
      });
    }
  }, when);
}
const heard = (/** @type {Tab} */ tab) => tab.evaluate(() => window.heard);
const received = (/** @type {Tab} */ tab, /** @type {string} */ id) => tab.waitForFunction((name) => window.moonring.received.has(name), id);

test('a page that leaves while it is told of something has left, and hears nothing more', async () => {
  const gone = () => ({ ...joined('demo', [], [track('b')]), resumed: true });
  const anew = () => joined('demo', [...people, { client: 'new', metadata: {} }], [track('a'), track('b')]);
  for (const [when, back, events] of /** @type {[string, () => Message, string[]][]} */ ([
    ['client_left', gone, ['reconnecting', 'track_unpublished', 'client_left', 'closed', 'closed']],
    ['reconnecting', gone, ['reconnecting', 'closed', 'closed']],
    ['joined', gone, ['reconnecting', 'track_unpublished', 'client_left', 'joined', 'closed', 'closed']],
    ['client_joined', anew, ['restarting', 'reconnecting', 'joined', 'joined', 'client_joined', 'closed', 'closed']],
    ['restarting', anew, ['restarting', 'closed', 'closed']],
  ])) {
    const { wire, handle } = room(back);
    await withFakeIn(all, handle, {}, async (tab) => {
      await received(tab, 'a');
      await note(tab, when);
      if (back === anew) wire.send({ type: 'restarting', reason: 'a new version' });
      else wire.socket?.terminate();
      await until(`it has left at ${when}`, async () => (await heard(tab)).includes('closed'));
      await sleep(400);
      assert.deepEqual(await heard(tab), events, when);
      assert.equal(await tab.evaluate(() => window.moonring.client.state), 'closed', when);
    });
  }
});

test('rights and attributes that changed while the connection was lost are told, and used', async () => {
  const rights = (/** @type {string[]} */ publish, /** @type {boolean} */ subscribe) => ({ publish, subscribe, message: true });
  /** @type {import('ws').WebSocket} */ let wire;
  /** @type {Handle} */
  const handle = (message, send, socket) => {
    wire = socket;
    if (message.type === 'join') return send({ ...joined('demo', people, [track('a')]), rights: rights(ALL, false), attributes: {} }), true;
    if (message.type === 'resume') {
      return send({ ...joined('demo', people, [track('a')]), resumed: true, rights: rights(['microphone'], true), attributes: { role: 'guest' } }), true;
    }
    if (message.type !== 'offer' || message.subscribe.length === 0) return false;
    const mayNot = tries++ === 0 ? { [message.subscribe[0].mid]: 'You may not receive' } : {};
    return send(answer(message, mayNot)), true;
  };
  let tries = 0;
  await withFakeIn(all, handle, {}, async (tab) => {
    await until('it was refused', () => tab.evaluate(() => window.moonring.notices.length === 1));
    await note(tab);
    wire.terminate();
    await received(tab, 'a');
    assert.deepEqual(await heard(tab), ['reconnecting', 'joined', 'joined', 'client_changed', 'rights', 'media']);
    assert.deepEqual(await tab.evaluate(() => [window.moonring.client.rights.publish, window.moonring.client.attributes]), [['microphone'], { role: 'guest' }]);
    wire.terminate(); // and now nothing has changed
    await until('it is back', async () => (await heard(tab)).filter((/** @type {string} */ name) => name === 'reconnecting').length === 2);
    await tab.waitForFunction(() => window.moonring.client.joined);
    await sleep(200);
    assert.deepEqual((await heard(tab)).slice(6), ['reconnecting', 'joined', 'joined']);
  });
});

test('a track that was paused and let go is not paused when it is received again', async () => {
  const { wire, handle } = room((message) => message);
  await withFakeIn(all, handle, {}, async (tab) => {
    await received(tab, 'a');
    const paused = () => tab.evaluate(() => [...window.moonring.client.paused.keys()]);
    wire.send({ type: 'track_paused', track: 'a', reason: 'hidden' });
    await until('it is paused', async () => (await paused()).length === 1);
    await tab.evaluate(() => window.moonring.client.unsubscribe('a'));
    assert.deepEqual(await paused(), []);
    wire.send({ type: 'track_paused', track: 'a', reason: 'bandwidth' }); // it was under way
    wire.send({ type: 'message', value: 'and this after it' });
    await until('it has come', () => tab.evaluate(() => window.moonring.messages.length === 1));
    assert.deepEqual(await paused(), []);
    await tab.evaluate(() => window.moonring.client.subscribe('a'));
    assert.deepEqual(await paused(), []);
    wire.send({ type: 'track_paused', track: 'a', reason: 'bandwidth' });
    await until('it is paused', async () => (await paused()).length === 1);
  });
});

test('who comes when the page is looked at again is sent, though everybody else left while it was hidden', async () => {
  const { wire, handle } = room((message) => message);
  const look = (/** @type {Tab} */ tab, /** @type {string} */ state) =>
    tab.evaluate((now) => {
      Object.defineProperty(document, 'visibilityState', { configurable: true, value: now });
      document.dispatchEvent(new Event('visibilitychange'));
    }, state);
  await withFakeIn(all, handle, {}, async (tab, fake) => {
    const last = (/** @type {string} */ id) => fake.of('view').filter((view) => view.track === id).at(-1);
    await until('it is shown', () => last('a')?.width > 0);
    await look(tab, 'hidden');
    await until('it is hidden', () => last('a')?.width === 0);
    wire.send({ type: 'track_unpublished', track: 'a' });
    wire.send({ type: 'client_left', client: 'other' });
    await tab.waitForFunction(() => window.moonring.tiles.size === 1);
    await look(tab, 'visible');
    wire.send({ type: 'client_joined', client: 'new', metadata: { name: 'Linus' } });
    wire.send({ type: 'track_published', track: track('b', 'video', 'new') });
    await until('it is told', () => last('b'));
    assert.ok(last('b').width > 0, 'it is shown');
  });
});

test('a track that the page has let go stays away until the page asks for it', async () => {
  /** @type {{send: Send, socket: import('ws').WebSocket | undefined}} */ const wire = { send: () => {}, socket: undefined };
  /** @type {Handle} */
  const handle = (message, send, socket) => {
    Object.assign(wire, { send, socket });
    if (message.type === 'join') return send(joined('demo', people, ['a', 'b', 'c'].map((id) => track(id)))), true;
    if (message.type === 'resume') return send({ type: 'error', code: 'ticket', message: 'expired' }), true;
    if (message.type !== 'offer') return false;
    const refused = message.subscribe.filter((/** @type {Message} */ { track: id }) => id === 'c');
    return send(answer(message, Object.fromEntries(refused.map((/** @type {Message} */ { mid }) => [mid, 'Not c'])))), true;
  };
  await withFakeIn(all, handle, {}, async (tab, fake) => {
    await received(tab, 'b');
    const asked = () => fake.of('offer').flatMap(({ subscribe }) => subscribe.map((/** @type {Message} */ { track: id }) => id));
    const rights = async (/** @type {boolean} */ subscribe) => {
      const count = await tab.evaluate(() => window.moonring.messages.length);
      wire.send({ type: 'rights', publish: ALL, subscribe, message: true });
      wire.send({ type: 'message', value: 'after it' });
      await tab.waitForFunction((n) => window.moonring.messages.length > n, count);
      await sleep(200);
    };
    await tab.evaluate(() => window.moonring.client.unsubscribe('a'));
    await rights(true);
    assert.deepEqual(asked(), ['a', 'b', 'c'], 'nothing was taken away, so nothing is given back');
    await rights(false);
    await rights(true);
    assert.deepEqual(asked().slice(3), ['c']);
    wire.socket?.terminate();
    await until('it joined anew', () => asked().length === 6);
    assert.deepEqual(asked().slice(4).sort(), ['b', 'c']);
    await tab.evaluate(() => window.moonring.client.subscribe('a'));
    wire.socket?.terminate();
    await until('it joined anew', () => asked().length === 10);
    assert.deepEqual(asked().slice(7).sort(), ['a', 'b', 'c']);
  });
});
