// The secure path: each SRTP profile, and IPv6.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { flows, openTab, report, shared, startServer, stats } from './lib.mjs';

const all = shared();

/** Two tabs on a server of their own; returns what one of them negotiated.
 *  @param {import('./lib.mjs').ServerOptions} options @param {import('./lib.mjs').Query} [query] @param {() => void} [init] */
async function negotiated(options, query = {}, init) {
  const server = await startServer(options);
  const tabs = [];
  try {
    for (const name of ['Ada', 'Grace']) tabs.push(await openTab(all.browser, server, { room: 'transport', name, ...query }, { init }));
    for (const tab of tabs) await flows(tab, { videos: 1, audios: 1 });
    const { transport } = await stats(tabs[0]);
    const sdp = await tabs[0].evaluate(() => window.moonring.client.peerConnection.remoteDescription.sdp);
    return { ...transport, candidates: sdp.match(/^a=candidate:.*$/gm) ?? [] };
  } finally {
    await Promise.all(tabs.map((tab) => tab.context().close()));
    await server.stop();
  }
}

test('AES-GCM is what a browser gets when nothing is forced', async () => {
  const { srtpCipher, tlsVersion } = await negotiated({});
  report(`Chromium negotiated ${srtpCipher}, DTLS version ${tlsVersion}`);
  assert.match(srtpCipher, /AEAD_AES_(128|256)_GCM$/);
});

// Neither side can be told which profile to take: dimpl, as the server, prefers GCM. Chromium, as the server, prefers
// AES-CM, and it becomes the DTLS server when its offer says so.
test('media flows with AES-CM, the browser being the DTLS server', async () => {
  const passive = () => {
    const { send } = WebSocket.prototype;
    WebSocket.prototype.send = function (/** @type {any} */ text) {
      send.call(this, text.replaceAll('a=setup:actpass', 'a=setup:passive'));
    };
  };
  const { srtpCipher, tlsVersion } = await negotiated({}, {}, passive);
  report(`Chromium, as the DTLS server, chose ${srtpCipher}, DTLS version ${tlsVersion}`);
  assert.match(srtpCipher, /AES(_CM_128|128_CM)_(HMAC_)?SHA1_80$/);
});

test('media flows over IPv6', async () => {
  // Chromium offers its IPv6 loopback address to pages that have asked for a camera.
  const { candidates } = await negotiated({ mediaIp: '::1' }, { media: 'camera' });
  assert.ok(candidates.length > 0 && candidates.every((/** @type {string} */ line) => line.includes(' ::1 ')), candidates.join('\n'));
});

test('media flows to another address of the machine than the one it would answer from', async () => {
  for (const io of ['mmsg', 'uring']) {
    const flags = ['--announced-ip', '127.0.0.2', '--io', io];
    const { candidates } = await negotiated({ mediaIp: '0.0.0.0', flags }, { media: 'camera' });
    assert.ok(candidates.length > 0 && candidates.every((/** @type {string} */ line) => line.includes(' 127.0.0.2 ')), candidates.join('\n'));
  }
});
