// @ts-check
// What a page does from inside of its listeners, while the client enters a room or comes back to it. Against a server that, like
// the real one, takes a track once and gives it once.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { answer, embed, joined, outside, track, withFakeIn } from './fake.mjs';
import { shared, until } from './lib.mjs';

/** @typedef {import('./fake.mjs').Handle} Handle */
/** @typedef {import('./fake.mjs').Message} Message */

const all = shared();
const people = [{ client: 'other', metadata: { name: 'Grace' } }];

/** A room where the nth who joins finds the nth tracks. A resume finds nobody. @param {Message[][]} tracks */
function room(...tracks) {
  /** @type {{socket: import('ws').WebSocket | undefined, joins: number}} */ const wire = { socket: undefined, joins: 0 };
  /** @type {Set<string>} */ let received = new Set();
  /** @type {Handle} */
  const handle = (message, send, socket) => {
    wire.socket = socket;
    if (message.type === 'resume') return send({ type: 'error', code: 'ticket', message: 'expired' }), true;
    if (message.type === 'join') {
      received = new Set();
      return send(joined('demo', people, tracks[wire.joins++])), true;
    }
    if (message.type === 'unsubscribe') received.delete(message.track);
    if (message.type !== 'offer') return false;
    const twice = message.subscribe.filter((/** @type {Message} */ { track: id }) => received.has(id) || !received.add(id));
    return send(answer(message, Object.fromEntries(twice.map((/** @type {Message} */ { mid }) => [mid, 'it is received already'])))), true;
  };
  return { wire, handle };
}

/** What was asked for in all offers since the nth. @param {import('./fake.mjs').Fake} fake @param {'publish'|'subscribe'} what @param {number} [from] */
const asked = (fake, what, from = 0) => fake.of('offer').slice(from).flatMap((offer) => offer[what].map((/** @type {Message} */ one) => one.track ?? one.source));

test('what a page publishes and asks for as soon as it hears that it is in the room is published and asked for once', async () => {
  for (const [event, state] of [['state', 'joined'], ['joined', undefined]]) {
    const { handle } = room([track('a'), track('b')]);
    await withFakeIn(all, handle, outside, async (tab, fake) => {
      await embed(tab);
      const ends = await tab.evaluate(async ([name, wanted]) => {
        /** @type {Promise<any>[]} */ const ended = [];
        await window.enter({}, (/** @type {any} */ client) => {
          client.on(name, (/** @type {any} */ detail) => {
            if (detail.state !== wanted) return;
            ended.push(window.end(client.publish(window.sound(), { source: 'microphone' })));
            for (const id of client.tracks.keys()) ended.push(window.end(client.subscribe(id)));
          });
        });
        return Promise.all(ended);
      }, [event, state]);
      assert.deepEqual(ends, ['done', 'done', 'done'], event);
      await tab.evaluate(() => window.end(window.client.publish(window.picture(), { source: 'camera' }))); // whatever came of it came before
      assert.deepEqual([asked(fake, 'publish'), asked(fake, 'subscribe')], [['microphone', 'camera'], ['a', 'b']], event);
      assert.equal(await tab.evaluate(() => ['a', 'b'].filter((id) => window.client.receiver(id)).length), 2, event);
    });
  }
});

test('what a page publishes and asks for when it hears what is new after joining anew is published and asked for once', async () => {
  const { wire, handle } = room([track('a')], [track('a'), track('b')]);
  await withFakeIn(all, handle, outside, async (tab, fake) => {
    await embed(tab);
    await tab.evaluate(async () => {
      await window.enter({});
      const { client } = window;
      await Promise.all([client.subscribe('a'), client.publish(window.sound(), { source: 'microphone' })]);
      window.ends = [];
      client.on('track_published', (/** @type {any} */ { track: { id } }) => {
        window.ends.push(window.end(client.subscribe(id)), window.end(client.publish(window.picture(), { source: 'screen' })));
      });
    });
    const before = fake.of('offer').length;
    wire.socket?.terminate();
    await until('it has joined anew', () => wire.joins === 2);
    await tab.waitForFunction(() => window.ends.length === 2);
    assert.deepEqual(await tab.evaluate(() => Promise.all(window.ends)), ['done', 'done']);
    await tab.evaluate(() => window.end(window.client.publish(window.picture(), { source: 'camera' })));
    assert.deepEqual(asked(fake, 'publish', before).sort(), ['camera', 'microphone', 'screen']);
    assert.deepEqual(asked(fake, 'subscribe', before).sort(), ['a', 'b']);
    assert.equal(await tab.evaluate(() => ['a', 'b'].filter((id) => window.client.receiver(id)).length), 2);
  });
});

test('what a page lets go while it is told that it has joined anew is not asked for again', async () => {
  const { wire, handle } = room([track('a')], [track('a')]);
  await withFakeIn(all, handle, outside, async (tab, fake) => {
    await embed(tab);
    await tab.evaluate(async () => {
      await window.enter({});
      const { client } = window;
      await client.subscribe('a');
      const sound = await client.publish(window.sound(), { source: 'microphone' });
      client.on('joined', () => {
        client.unsubscribe('a');
        sound.unpublish();
      });
    });
    const before = fake.of('offer').length;
    wire.socket?.terminate();
    await until('it has joined anew', () => wire.joins === 2);
    await tab.waitForFunction(() => window.client.joined);
    await tab.evaluate(() => window.end(window.client.publish(window.picture(), { source: 'camera' })));
    assert.deepEqual([asked(fake, 'publish', before), asked(fake, 'subscribe', before)], [['camera'], []]);
  });
});

test('a page that leaves as soon as it hears that it joins is not in the room', async () => {
  await withFakeIn(all, undefined, outside, async (tab, fake) => {
    await embed(tab);
    const end = await tab.evaluate(() =>
      window.end(window.enter({}, (/** @type {any} */ client) => client.on('state', (/** @type {any} */ { state }) => state === 'joining' && client.leave()))));
    assert.equal(end, 'left');
    await tab.evaluate(() => window.enter({})); // what the one before says, it says first
    assert.equal(fake.of('join').length, 1);
    assert.equal(await tab.evaluate(() => window.client.state), 'joined');
  });
});
