// The signalling connection without a browser: texts from a socket in, messages out.
import assert from 'node:assert/strict';
import { test } from 'node:test';

/** @type {any[]} */ const sockets = [];
const nothing = () => {};
Object.assign(globalThis, {
  WebSocket: class {
    static OPEN = 1;
    readyState = 1;
    /** @type {any[]} */ sent = [];
    /** @param {string} url */
    constructor(url) {
      this.url = url;
      sockets.push(this);
    }
    /** @param {string} text */
    send(text) {
      this.sent.push(JSON.parse(text));
    }
    close() {}
  },
  document: { visibilityState: 'visible', addEventListener: nothing, removeEventListener: nothing },
  addEventListener: nothing,
  removeEventListener: nothing,
});
// Older versions of node have none, in newer ones it cannot be replaced.
if (!('navigator' in globalThis)) Object.assign(globalThis, { navigator: {} });

// By a text, as the types of these tests are node's and those of web/ a browser's.
const { Signal } = await import(/** @type {string} */ ('../../web/signal.js'));

/** What is heard of these messages. @param {any[]} messages */
function heard(messages) {
  const received = /** @type {any[]} */ ([]);
  const host = { receive: (/** @type {any} */ message) => received.push(message), reconnecting: nothing, ended: nothing };
  const signal = new Signal('ws://x', /** @type {any} */ ({ type: 'join', room: 'demo' }), host);
  const socket = sockets[sockets.length - 1];
  for (const message of messages) socket.onmessage({ data: JSON.stringify(message) });
  signal.close?.();
  return received;
}

const joined = { type: 'joined', client: 'me', clients: [{ client: 'a' }], tracks: [{ id: 't' }], own: [], ticket: 'x' };

const HOME = { type: 'join', room: 'demo' };

test('a roster that comes in pages is heard as one joined, before anything else', () => {
  const pages = [
    { ...joined, more: true },
    { type: 'roster', clients: [{ client: 'b' }], tracks: [], more: true },
    { type: 'roster', clients: [{ client: 'c' }], tracks: [{ id: 'u' }] },
    { type: 'client_left', client: 'a' },
  ];
  const clients = [{ client: 'a' }, { client: 'b' }, { client: 'c' }];
  assert.deepEqual(heard(pages), [{ ...joined, clients, tracks: [{ id: 't' }, { id: 'u' }] }, pages[3]]);
});

test('a joined with everybody in it is heard at once, and a page of nothing not at all', () => {
  assert.deepEqual(heard([joined]), [joined]);
  assert.deepEqual(heard([{ type: 'roster', clients: [], tracks: [] }]), []);
});

test('who leaves before the answer to the first message has come says so over the same connection', async () => {
  const joining = connect('ws://a/ws');
  const first = await joining.socket(0);
  joining.close();
  assert.deepEqual(first.sent, [HOME, { type: 'leave' }]);
  const resuming = connect('ws://a/ws');
  const before = await resuming.socket(0);
  before.say(joined);
  before.cut();
  const after = await resuming.socket(1);
  const count = sockets.length;
  resuming.close();
  assert.deepEqual(after.sent, [{ type: 'resume', ticket: 'x' }, { type: 'leave' }]);
  assert.equal(sockets.length, count, 'no other one is opened for it');
});

test('a roster that is cut off between its pages is taken up with its own ticket', async () => {
  const client = connect('ws://a/ws');
  (await client.socket(0)).say(joined);
  (await client.socket(0)).cut();
  const cut = await client.socket(1);
  cut.say({ ...joined, ticket: 'y', resumed: true, more: true });
  cut.cut();
  assert.deepEqual((await client.socket(2)).first, { type: 'resume', ticket: 'y' });
  client.close();
});

test('a connection that closes takes no messages', async () => {
  const client = connect('ws://a/ws');
  const socket = await client.socket(0);
  socket.say(joined);
  assert.equal(client.signal.up, true);
  sockets[sockets.length - 1].readyState = 2; // nobody has told us yet
  assert.equal(client.signal.up, false);
  client.close();
});

test('a server that lets in and cuts off again is not asked without a pause', async () => {
  /** @type {number[]} */ const pauses = [];
  const { setTimeout: former } = globalThis;
  const client = connect('ws://a/ws');
  try {
    for (let n = 0; n < 8; n++) {
      const socket = await client.socket(n);
      socket.say(joined);
      Object.assign(globalThis, { setTimeout: (/** @type {() => void} */ then, /** @type {number} */ time) => former(then, pauses.push(time) && 0) });
      socket.cut();
      Object.assign(globalThis, { setTimeout: former });
    }
    assert.equal(pauses[0], 0, 'the first time it is tried at once');
    for (const [n, pause] of pauses.entries()) {
      const most = n === 0 ? 0 : 250 * 1.5 ** (n - 1);
      assert.ok(pause >= most / 2 && pause <= most, `${n}: ${pause} ms`);
    }
    assert.equal(client.states.length, 8);
  } finally {
    Object.assign(globalThis, { setTimeout: former });
    client.close();
  }
});

// ---- clusters ----

const tryAgain = { type: 'error', code: 'try_again', message: 'its home does not answer' };

/** A connection that is opened at these addresses, and what becomes of it. @param {string | string[]} url */
function connect(url) {
  const from = sockets.length;
  /** @type {string[]} */ const ends = [];
  /** @type {string[]} */ const states = [];
  const host = {
    receive: nothing,
    reconnecting: (/** @type {string} */ reason) => states.push(reason),
    ended: (/** @type {string} */ code) => ends.push(code),
  };
  const signal = new Signal(url, /** @type {any} */ (HOME), host);
  return {
    signal,
    ends,
    states,
    close: () => signal.close(),
    /** The nth socket, once it was made and opened. @param {number} n */
    async socket(n) {
      while (sockets.length <= from + n) await new Promise((done) => setTimeout(done, 1));
      const socket = sockets[from + n];
      socket.onopen?.();
      return {
        url: socket.url,
        first: socket.sent[0],
        sent: socket.sent,
        say: (/** @type {any} */ message) => socket.onmessage({ data: JSON.stringify(message) }),
        cut: () => socket.onclose({ code: 1006, reason: '' }),
      };
    },
  };
}

test('a join that is sent on goes to the other server as it is, and the ticket to where the stay is', async () => {
  const client = connect('ws://a/ws');
  (await client.socket(0)).say({ type: 'moved', url: 'ws://b/ws' });
  const there = await client.socket(1);
  assert.deepEqual([there.url, there.first], ['ws://b/ws', HOME]);
  there.say(joined);
  there.cut();
  const again = await client.socket(2);
  assert.deepEqual([again.url, again.first], ['ws://b/ws', { type: 'resume', ticket: 'x' }]);
  again.say({ type: 'moved', url: 'ws://c/ws' });
  const third = await client.socket(3);
  assert.deepEqual([third.url, third.first], ['ws://c/ws', { type: 'resume', ticket: 'x' }]);
  assert.deepEqual([client.states.length, client.ends], [1, []]);
  third.say(joined);
  client.close();
});

test('who leaves while the connection is lost says so where its stay is', async () => {
  const client = connect('ws://a/ws');
  const lost = await client.socket(0);
  lost.say(joined);
  lost.cut();
  client.close();
  for (const [n, [url, answer]] of [['a', { type: 'moved', url: 'ws://b/ws' }], ['b', { type: 'resume' }], ['b', joined]].entries()) {
    const socket = await client.socket(n + 1);
    assert.deepEqual([socket.url, socket.sent], [`ws://${url}/ws`, [{ type: 'resume', ticket: 'x' }]]);
    socket.say(answer);
    assert.deepEqual(socket.sent.slice(1), answer === joined ? [{ type: 'leave' }] : []);
  }
});

test('a client whose room has another home joins there without its ticket', async () => {
  const client = connect('ws://a/ws');
  const here = await client.socket(0);
  here.say(joined);
  here.say({ type: 'moved', url: 'ws://b/ws' });
  const there = await client.socket(1);
  assert.deepEqual([there.url, there.first], ['ws://b/ws', HOME]);
  assert.deepEqual(client.states, ['The room is on another server']);
  there.say(joined);
  client.close();
});

test('servers that send a client round in a circle are left after three hops', async () => {
  const client = connect('ws://a/ws');
  for (const [n, next] of ['b', 'c', 'b', 'c'].entries()) (await client.socket(n)).say({ type: 'moved', url: `ws://${next}/ws` });
  const urls = await Promise.all([0, 1, 2, 3, 4].map(async (n) => (await client.socket(n)).url));
  assert.deepEqual(urls, ['a', 'b', 'c', 'b', 'a'].map((name) => `ws://${name}/ws`));
  assert.deepEqual(client.ends, []);
  client.close();
});

test('when the server of the room is gone, the addresses that the page has given are tried in turn', async () => {
  const client = connect(['ws://a/ws', 'ws://b/ws']);
  (await client.socket(0)).say({ type: 'moved', url: 'ws://c/ws' });
  (await client.socket(1)).say(joined);
  (await client.socket(1)).cut();
  const urls = [];
  for (const n of [2, 3, 4, 5]) {
    const socket = await client.socket(n);
    urls.push(socket.url);
    socket.cut();
  }
  assert.deepEqual(urls, ['c', 'a', 'b', 'c'].map((name) => `ws://${name}/ws`));
  const last = await client.socket(6);
  last.say({ type: 'error', code: 'ticket', message: 'of a server that is gone' });
  const anew = await client.socket(7);
  assert.deepEqual(anew.first, HOME);
  client.close();
});

test('a first join tries another server, and again, where there is one; a single one that is gone ends it', async () => {
  const alone = connect('ws://a/ws');
  (await alone.socket(0)).cut();
  assert.deepEqual(alone.ends, ['lost']);
  const client = connect(['ws://a/ws', 'ws://b/ws']);
  (await client.socket(0)).cut();
  const second = await client.socket(1);
  assert.equal(second.url, 'ws://b/ws');
  second.say(tryAgain);
  const third = await client.socket(2);
  assert.deepEqual([third.url, third.first, client.ends], ['ws://b/ws', HOME, []]);
  client.close();
});

test('`try_again` is tried again at a single server, too', async () => {
  const client = connect('ws://a/ws');
  for (const n of [0, 1, 2]) (await client.socket(n)).say(tryAgain);
  const last = await client.socket(3);
  last.say(joined);
  assert.deepEqual([last.url, client.ends], ['ws://a/ws', []]);
  client.close();
});

test('who is told to try again does so after a pause, at the first try, too', async () => {
  const { setTimeout: former } = globalThis;
  /** @type {number[]} */ const pauses = [];
  const client = connect('ws://a/ws');
  const socket = await client.socket(0);
  Object.assign(globalThis, { setTimeout: (/** @type {() => void} */ then, /** @type {number} */ time) => former(then, pauses.push(time) && 0) });
  socket.say(tryAgain);
  Object.assign(globalThis, { setTimeout: former });
  assert.ok(pauses.length === 1 && pauses[0] >= 125, String(pauses));
  assert.deepEqual((await client.socket(1)).first, HOME);
  client.close();
});
