// What client.js knows of a room, without a browser: messages in, knowledge and events out.
import assert from 'node:assert/strict';
import { test } from 'node:test';

// By a text, as the types of these tests are node's and those of web/ a browser's.
const { Room } = await import(/** @type {string} */ ('../../web/room.js'));

/** A room, and what it asks of its owner. */
function room() {
  const stopped = /** @type {string[]} */ ([]);
  const received = /** @type {{track: string, isWanted: () => boolean}[]} */ ([]);
  const media = /** @type {any} */ ({
    receive: async (/** @type {any} */ wish) => (received.push(wish), wish),
    stop: (/** @type {string} */ _kind, /** @type {string} */ track) => stopped.push(track),
  });
  const events = /** @type {string[]} */ ([]);
  const owner = { emit: (/** @type {string} */ name) => void events.push(name), media: () => media, tell: () => {} };
  const made = new Room(/** @type {any} */ (owner));
  const hear = (/** @type {any} */ message) => (made.hear(message, 'me'), made.heard(message, 'me'));
  return { room: made, hear, stopped, received, events };
}

/** @type {(id: string, client?: string) => any} */
const track = (id, client = 'ada') => ({ id, client, kind: 'audio', source: 'microphone', codec: 'opus', muted: false });

test('attributes are an empty object until the room says something', () => {
  const { room: known, hear } = room();
  hear({ type: 'client_joined', client: 'ada', metadata: 1 });
  assert.deepEqual(known.clients.get('ada'), { client: 'ada', metadata: 1, attributes: {} });
  hear({ type: 'client_changed', client: 'ada', attributes: { role: 'host' } });
  hear({ type: 'client_changed', client: 'nobody', attributes: {} });
  assert.deepEqual([...known.clients.values()], [{ client: 'ada', metadata: 1, attributes: { role: 'host' } }]);
});

test('a snapshot says of whom something else is said', () => {
  const { room: known } = room();
  const joined = (/** @type {any} */ attributes) =>
    /** @type {any} */ ({ client: 'me', clients: [{ client: 'ada', metadata: 1, attributes }], tracks: [] });
  known.update(joined(undefined));
  assert.deepEqual(known.update(joined({})).fresh, []);
  assert.deepEqual(known.update(joined({ role: 'host' })).fresh, [
    { type: 'client_changed', client: 'ada', attributes: { role: 'host' } },
  ]);
});

test('a subscription that the room ends is stopped, and taken up again when the right is given back', async () => {
  const { room: known, hear, stopped, received } = room();
  known.autoSubscribe = () => true;
  hear({ type: 'track_published', track: track('a') });
  await known.subscribe('a');
  hear({ type: 'unsubscribed', track: 'a', reason: 'Time is over' });
  const wishes = () => received.map((wish) => [wish.track, wish.isWanted()].join());
  assert.deepEqual([stopped, wishes()], [['a'], ['a,false']]);
  hear({ type: 'rights', publish: [], subscribe: false, message: true });
  assert.deepEqual(wishes(), ['a,false']);
  hear({ type: 'rights', publish: [], subscribe: true, message: true });
  assert.deepEqual(wishes(), ['a,false', 'a,true'], 'the former wish is over for good');
});

test('whoever waits for a subscription that the room ends hears why', async () => {
  const { room: known, hear } = room();
  hear({ type: 'track_published', track: track('a') });
  const promise = known.subscribe('a');
  hear({ type: 'unsubscribed', track: 'a', reason: 'Not for you' });
  await assert.rejects(promise, { code: 'refused', message: 'Not for you' });
});
