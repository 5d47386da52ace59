// A server that speaks the protocol but forwards nothing: it serves web/ and answers offers with a well-formed
// description. So that tests can make it refuse, fail and batch at will, without the binary.
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { WebSocketServer } from 'ws';
import { ROOT } from './lib.mjs';

const TYPES = { html: 'text/html', js: 'text/javascript', css: 'text/css' };

/** `handle(message, send, socket)` sees every message of the client; what it returns true for is not answered here. */
export async function startFake(handle = () => false) {
  const http = createServer((request, response) => {
    const path = new URL(request.url, 'http://x').pathname;
    const name = path === '/' ? 'index.html' : path.slice(1);
    response.setHeader('content-type', TYPES[name.split('.').pop()] ?? 'text/plain');
    response.end(readFileSync(join(ROOT, 'web', name)));
  });
  const log = [];
  new WebSocketServer({ server: http, path: '/ws' }).on('connection', (socket) => {
    const send = (message) => socket.send(JSON.stringify(message));
    socket.on('message', (data) => {
      const message = JSON.parse(data);
      log.push(message);
      if (handle(message, send, socket)) return;
      if (message.type === 'join') send(joined(message.room));
      if (message.type === 'offer') send(answer(message));
    });
  });
  await new Promise((done) => http.listen(0, '127.0.0.1', done));
  return {
    url: `http://127.0.0.1:${http.address().port}`,
    log,
    stop() {
      http.closeAllConnections();
      http.close();
    },
  };
}

export function joined(room, clients = [], tracks = []) {
  return { type: 'joined', client: 'me', room, clients, tracks, protocol: 1 };
}

export function track(id, kind = 'video', client = 'other') {
  const [source, codec] = kind === 'video' ? ['camera', 'vp8'] : ['microphone', 'opus'];
  return { id, client, kind, source, codec, layers: 1, muted: false };
}

/** An answer that agrees to everything but the mids in `refused` (mid to reason). */
export function answer({ request, sdp, publish, subscribe }, refused = {}) {
  const sections = [];
  for (const { mid, source } of publish) {
    const kind = new RegExp(`m=(\\w+)(?:(?!\\r\\nm=)[^])*a=mid:${mid}\\r`).exec(sdp)[1];
    sections.push(refused[mid] ? { mid, reason: refused[mid] } : { mid, track: { ...track(`own-${mid}`, kind, 'me'), source } });
  }
  for (const { mid, track: id } of subscribe) {
    sections.push(refused[mid] ? { mid, reason: refused[mid] } : { mid, track: track(id) });
  }
  return { type: 'answer', request, sdp: describe(sdp, refused), sections };
}

function describe(offer, refused) {
  const [head, ...parts] = offer.split(/(?=^m=)/m);
  const group = /^a=group:.*\r\n/m.exec(head)?.[0] ?? '';
  const print = Array(32).fill('AB').join(':');
  const session = `v=0\r\no=- 1 ${Date.now()} IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n${group}a=ice-lite\r\n`;
  const flip = { sendonly: 'recvonly', recvonly: 'sendonly', sendrecv: 'sendrecv', inactive: 'inactive' };
  const media = parts.map((part) => {
    const mid = /^a=mid:(\S+)/m.exec(part)[1];
    const direction = /^a=(sendonly|recvonly|sendrecv|inactive)/m.exec(part)[1];
    const keep = part.split('\r\n').filter((line) => /^(m=|c=|a=(mid|rtpmap|fmtp|rtcp-fb|rtcp-mux|extmap):?)/.test(line));
    const own = [`a=${refused[mid] ? 'inactive' : flip[direction]}`, 'a=setup:passive', `a=fingerprint:sha-256 ${print}`];
    own.push('a=ice-ufrag:fake', 'a=ice-pwd:fakefakefakefakefakefake');
    return [...keep, ...own].join('\r\n') + '\r\n';
  });
  return session + media.join('');
}
