// The signalling connection without a browser: texts from a socket in, messages out.
import assert from 'node:assert/strict';
import { test } from 'node:test';

/** @type {any[]} */ const sockets = [];
const nothing = () => {};
Object.assign(globalThis, {
  WebSocket: class {
    constructor() {
      sockets.push(this);
    }
    send() {}
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
