// At what pace messages go to the server, without a browser: messages in, texts out, against a server that takes what
// src/server/src/signal/session/bucket.rs does.
import assert from 'node:assert/strict';
import { test } from 'node:test';

let now = 0;
/** @type {{then: () => void, at: number}[]} */ let timers = [];
Object.assign(globalThis, {
  performance: { now: () => now },
  setTimeout: (/** @type {() => void} */ then, /** @type {number} */ time) => {
    const timer = { then, at: now + time };
    timers.push(timer);
    return timer;
  },
  clearTimeout: (/** @type {any} */ timer) => (timers = timers.filter((other) => other !== timer)),
});

// By a text, as the types of these tests are node's and those of web/ a browser's.
const { Pace } = await import(/** @type {string} */ ('../../web/pace.js'));

/** Lets time pass; timers are `late` by as much. @param {number} time */
function pass(time, late = 0) {
  const end = now + time;
  for (;;) {
    timers.sort((a, b) => a.at - b.at);
    if (timers.length === 0 || timers[0].at + late > end) break;
    const { then, at } = /** @type {typeof timers[0]} */ (timers.shift());
    now = Math.max(now, at + late);
    then();
  }
  now = end;
}

/** A connection to such a server; `refused` counts what it does not take. */
function connect(perS = 20) {
  const most = perS * 10;
  const server = { tokens: most, at: now, refused: 0, heard: /** @type {any[]} */ ([]) };
  const pace = new Pace((/** @type {string} */ text) => {
    server.tokens = Math.min(most, server.tokens + ((now - server.at) * perS) / 1000);
    server.at = now;
    if (server.tokens < 1) return void server.refused++;
    server.tokens -= 1 + Math.floor(text.length / 16384);
    server.heard.push(JSON.parse(text));
  }, perS);
  return { server, pace, of: (/** @type {string} */ type) => server.heard.filter((message) => message.type === type) };
}

const tracks = [...Array(240)].map((_, n) => `t${n}`);

test('of a crowd of messages none is refused, and there is always room for a goodbye', () => {
  for (const [late, perS] of [[0, 20], [1000, 20], [60_000, 20], [0, 2], [0, 100]]) {
    const { server, pace, of } = connect(perS);
    for (const track of tracks) pace.say({ type: 'layer', track, layer: 0 });
    for (const track of tracks) pace.say({ type: 'unsubscribe', track });
    for (let n = 0; n < 240; n++) pace.say({ type: 'message', value: n });
    for (let second = 0; second < 400; second++) {
      pass(1000, late);
      assert.ok(server.tokens > 1, `${second} s`);
    }
    assert.equal(server.refused, 0, String(late));
    assert.deepEqual(of('unsubscribe').map(({ track }) => track).sort(), [...tracks].sort());
    assert.deepEqual(of('message').map(({ value }) => value), [...Array(240).keys()]);
  }
});

test('of what waits about a track the last word counts, and nothing that its end makes pointless', () => {
  const { pace, of } = connect();
  for (let n = 0; n < 100; n++) pace.say({ type: 'message', value: n });
  for (const layer of [0, 1, 2]) for (const track of ['a', 'b']) pace.say({ type: 'layer', track, layer });
  for (const muted of [true, false, true]) pace.say({ type: 'mute', track: 'own', muted });
  pace.say({ type: 'mute', track: 'ends', muted: true });
  pace.say({ type: 'view', track: 'a', width: 1, height: 1 });
  pace.say({ type: 'unsubscribe', track: 'a' });
  pace.say({ type: 'unpublish', track: 'ends' });
  pass(10_000);
  assert.deepEqual(of('layer'), [{ type: 'layer', track: 'b', layer: 2 }]);
  assert.deepEqual(of('mute'), [{ type: 'mute', track: 'own', muted: true }]);
  assert.deepEqual([of('view'), of('unsubscribe').length, of('unpublish').length], [[], 1, 1]);
});

test('an offer goes at once, behind what lets the tracks go that it asks for, and a mute before the crowd', () => {
  const { server, pace } = connect();
  for (const track of tracks) pace.say({ type: 'unsubscribe', track });
  pace.say({ type: 'mute', track: 'own', muted: true });
  pace.say({ type: 'offer', request: 1, sdp: 'x'.repeat(100_000), publish: [], subscribe: [{ mid: '1', track: 't200' }] });
  assert.deepEqual(server.heard.slice(100).map(({ type, track }) => track ?? type), ['t200', 'offer']);
  pass(60_000);
  assert.deepEqual(server.heard.slice(102).map(({ type, track }) => track ?? type), ['own', ...tracks.slice(100).filter((track) => track !== 't200')]);
  assert.equal(server.refused, 0);
});

test('a page that never stops talking is told that it is not heard, and nothing is said after the end', () => {
  const { server, pace } = connect();
  const value = { n: 1 };
  const taken = [...Array(2000)].map(() => pace.say({ type: 'message', value }));
  value.n = 2; // what is said is what it was
  assert.equal(taken.lastIndexOf(true), 1099);
  assert.equal(taken.indexOf(false), 1100);
  assert.ok(pace.say({ type: 'mute', track: 'own', muted: true }));
  assert.throws(() => pace.say({ type: 'message', value: 1n }), TypeError);
  pass(1000);
  pace.stop();
  const said = server.heard.length;
  assert.ok(said > 110 && said < 125, String(said));
  assert.ok(server.heard.every((message) => message.type !== 'message' || message.value.n === 1));
  pass(60_000);
  assert.equal(server.heard.length, said);
});
