// Clients without media: web/signal.js as browsers run it, on the sockets of node.
import { createRequire } from 'node:module';

const Sockets = createRequire(new URL('../../e2e/package.json', import.meta.url))('ws');

const nothing = () => {};
Object.assign(globalThis, {
  WebSocket: class extends Sockets {
    constructor(url) {
      super(url);
      this.on('error', nothing); // a browser tells pages of it by `close` alone
    }
  },
  document: { visibilityState: 'visible', addEventListener: nothing, removeEventListener: nothing },
  addEventListener: nothing,
  removeEventListener: nothing,
});
if (!('navigator' in globalThis)) Object.assign(globalThis, { navigator: {} });

const { Signal } = await import('../../../web/signal.js');

/** Somebody in a room, who comes back by themselves. */
export class Person {
  /** When it was last told `joined`, how often, and where. */
  joinedAt = 0;
  joins = 0;
  id = '';
  others = new Set();
  /** Why the stay has ended. */
  ended = '';
  losses = 0;

  constructor(room, urls) {
    this.room = room;
    this.began = performance.now();
    const host = {
      receive: (message) => this.#receive(message),
      reconnecting: () => this.losses++,
      ended: (code, reason) => (this.ended = `${code}: ${reason}`),
    };
    this.signal = new Signal(urls, { type: 'join', room, token: 'moonring', metadata: null }, host);
  }

  get isIn() {
    return this.signal.up && !this.ended;
  }

  leave() {
    this.signal.close();
  }

  #receive(message) {
    if (message.type === 'joined') {
      this.joinedAt = performance.now();
      this.joins++;
      this.id = message.client;
      this.others = new Set(message.clients.map(({ client }) => client));
    }
    if (message.type === 'client_joined') this.others.add(message.client);
    if (message.type === 'client_left') this.others.delete(message.client);
  }
}

/** Asks once to join a room at one server, and leaves; what the first answer is. */
export function ask(url, room) {
  return new Promise((resolve) => {
    const socket = new Sockets(url);
    const done = (answer) => {
      clearTimeout(timer);
      socket.terminate();
      resolve(answer);
    };
    const timer = setTimeout(() => done('silence'), 8000);
    socket.on('error', () => done('unreachable'));
    socket.on('open', () => socket.send(JSON.stringify({ type: 'join', room, token: 'moonring' })));
    socket.on('message', (data) => {
      const { type, code } = JSON.parse(data.toString());
      if (type === 'joined') socket.send(JSON.stringify({ type: 'leave' }));
      done(code ?? type);
    });
  });
}
