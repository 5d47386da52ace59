// @ts-check
// A server that speaks the protocol but forwards nothing: it serves web/ and answers offers with a well-formed
// description. So that tests can make it refuse, fail and batch at will, without the binary.
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { WebSocketServer } from 'ws';
import { ROOT, openTab } from './lib.mjs';

/** What the page needs, and no more: no inline scripts or styles, nothing from elsewhere; a worker for the test picture. */
const POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; media-src blob:; connect-src 'self'; worker-src blob:; base-uri 'none'; form-action 'self'";
/** @type {Record<string, string>} */
const TYPES = { html: 'text/html', js: 'text/javascript', css: 'text/css' };

/** @typedef {any} Message */
/** @typedef {Awaited<ReturnType<typeof startFake>>} Fake */
/** @typedef {(message: Message) => void} Send */
/** Sees every message of a client; what it returns true for is not answered here.
 *  @typedef {(message: Message, send: Send, socket: import('ws').WebSocket) => boolean | number | void} Handle */

/** @param {Handle} [handle] */
export async function startFake(handle = () => false) {
  const http = createServer((request, response) => {
    const path = new URL(request.url ?? '/', 'http://x').pathname;
    const name = path === '/' ? 'index.html' : path.slice(1);
    response.setHeader('content-type', TYPES[name.split('.').pop() ?? ''] ?? 'text/plain');
    response.setHeader('content-security-policy', POLICY);
    response.end(readFileSync(join(ROOT, 'web', name)));
  });
  /** @type {Message[]} */ const log = [];
  let isOpen = true;
  new WebSocketServer({ server: http, path: '/ws' }).on('connection', (socket) => {
    if (!isOpen) return socket.terminate();
    const send = (/** @type {Message} */ message) => socket.send(JSON.stringify(message));
    socket.on('message', (data) => {
      const message = JSON.parse(data.toString());
      log.push(message);
      if (handle(message, send, socket)) return;
      if (message.type === 'join') send(joined(message.room));
      if (message.type === 'resume') send({ ...joined('demo'), resumed: true });
      if (message.type === 'offer') send(answer(message));
    });
  });
  await new Promise((done) => http.listen(0, '127.0.0.1', () => done(undefined)));
  const { port } = /** @type {import('node:net').AddressInfo} */ (http.address());
  return {
    url: `http://127.0.0.1:${port}`,
    log,
    /** The messages of a type, in order. @param {string} type */
    of: (type) => log.filter((message) => message.type === type),
    /** Lets new connections in, or not. @param {boolean} open */
    letIn(open) {
      isOpen = open;
    },
    stop() {
      http.closeAllConnections();
      http.close();
    },
  };
}

/** Runs `body` with a fake server and a tab that has joined there, unless `query` says `outside`.
 *  @param {{browser: import('./lib.mjs').Browser}} all @param {Handle | undefined} handle
 *  @param {import('./lib.mjs').Query} query
 *  @param {(tab: import('./lib.mjs').Tab, fake: Fake) => Promise<unknown>} body
 *  @param {Parameters<typeof openTab>[3]} [options] */
export async function withFakeIn(all, handle, { outside, ...query }, body, options = {}) {
  const fake = await startFake(handle);
  const address = { media: 'none', room: 'demo', name: 'Ada', ...query };
  const tab = await openTab(all.browser, fake, address, { wait: !outside, ...options });
  try {
    await body(tab, fake);
  } finally {
    await tab.context().close();
    fake.stop();
  }
}

/** Of a page that stays in its lobby, for a client of the test's own. */
export const outside = { outside: 1, autojoin: 0 };

/** Puts into the page: `enter(options, before)`, a client of its own in a room, which `before` sees first, `picture()`,
 * `sound()` and `end(promise)`. @param {import('./lib.mjs').Tab} tab */
export async function embed(tab) {
  await tab.evaluate(async () => {
    const { Client } = await import(/** @type {any} */ ('/client.js'));
    window.picture = () => document.createElement('canvas').captureStream().getVideoTracks()[0];
    window.sound = () => new AudioContext().createMediaStreamDestination().stream.getAudioTracks()[0];
    window.enter = async (/** @type {any} */ options, /** @type {any} */ before) => {
      window.client = new Client();
      before?.(window.client);
      window.heard = [];
      window.client.on('media', (/** @type {any} */ { track: { id } }) => window.heard.push(id));
      window.client.on('browser_error', (/** @type {any} */ { error }) => window.heard.push(error.code));
      await window.client.join({ url: `${location.origin.replace('http', 'ws')}/ws`, room: 'demo', ...options });
    };
    /** What becomes of a promise. */
    window.end = (/** @type {Promise<any>} */ promise) => promise.then(() => 'done', (error) => error.code ?? error.name);
  });
}

let tickets = 0;

/** @param {string} room @param {any[]} [clients] @param {any[]} [tracks] @param {any[]} [own] */
export function joined(room, clients = [], tracks = [], own = []) {
  const ticket = `ticket-${++tickets}`;
  return { type: 'joined', client: 'me', room, clients, tracks, protocol: 1, ticket, resume_s: 15, resumed: false, own };
}

export function track(/** @type {string} */ id, kind = 'video', client = 'other') {
  const [source, codec] = kind === 'video' ? ['camera', 'vp8'] : ['microphone', 'opus'];
  return { id, client, kind, source, codec, layers: 1, temporal_layers: 1, muted: false };
}

let answers = 0;

/** An answer that agrees to everything but the mids in `refused` (mid to reason).
 *  @param {Message} offer @param {Record<string, string>} [refused] */
export function answer({ request, sdp, publish, subscribe }, refused = {}) {
  const sections = [];
  answers++;
  for (const { mid, source } of publish) {
    const kind = new RegExp(`m=(\\w+)(?:(?!\\r\\nm=)[^])*a=mid:${mid}\\r`).exec(sdp)?.[1];
    const own = { ...track(`own-${mid}-${answers}`, kind, 'me'), source };
    sections.push(refused[mid] ? { mid, reason: refused[mid] } : { mid, track: own });
  }
  for (const { mid, track: id } of subscribe) {
    sections.push(refused[mid] ? { mid, reason: refused[mid] } : { mid, track: track(id) });
  }
  return { type: 'answer', request, sdp: describe(sdp, refused), sections };
}

/** @param {string} offer @param {Record<string, string>} refused */
function describe(offer, refused) {
  const [head, ...parts] = offer.split(/(?=^m=)/m);
  const group = /^a=group:.*\r\n/m.exec(head)?.[0] ?? '';
  const print = Array(32).fill('AB').join(':');
  const session = `v=0\r\no=- 1 ${Date.now()} IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n${group}a=ice-lite\r\n`;
  /** @type {Record<string, string>} */
  const flip = { sendonly: 'recvonly', recvonly: 'sendonly', sendrecv: 'sendrecv', inactive: 'inactive' };
  const media = parts.map((part) => {
    const mid = /^a=mid:(\S+)/m.exec(part)?.[1] ?? '';
    const direction = /^a=(sendonly|recvonly|sendrecv|inactive)/m.exec(part)?.[1] ?? '';
    const keep = part.split('\r\n').filter((line) => /^(m=|c=|a=(mid|rtpmap|fmtp|rtcp-fb|rtcp-mux|extmap):?)/.test(line));
    const layers = /^a=simulcast:send (\S+)/m.exec(part)?.[1];
    for (const rid of layers?.replaceAll('~', '').split(';') ?? []) keep.push(`a=rid:${rid} recv`);
    if (layers) keep.push(`a=simulcast:recv ${layers}`);
    const own = [`a=${refused[mid] ? 'inactive' : flip[direction]}`, 'a=setup:passive', `a=fingerprint:sha-256 ${print}`];
    own.push('a=ice-ufrag:fake', 'a=ice-pwd:fakefakefakefakefakefake');
    return [...keep, ...own].join('\r\n') + '\r\n';
  });
  return session + media.join('');
}
