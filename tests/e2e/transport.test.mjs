// The secure path: each SRTP profile, and IPv6.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { flows, openTab, report, startBrowser, startServer, stats } from './lib.mjs';

let browser;
before(async () => (browser = await startBrowser()));
after(() => browser.close());

/** Two tabs on a server of their own; returns what one of them negotiated. */
async function negotiated(options, query = {}) {
  const server = await startServer(options);
  const tabs = [];
  try {
    for (const name of ['Ada', 'Grace']) tabs.push(await openTab(browser, server, { room: 'transport', name, ...query }));
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
  assert.match(srtpCipher, /^AEAD_AES_(128|256)_GCM$/);
});

for (const [profile, cipher] of [
  ['aes-128-cm-sha1-80', 'AES_CM_128_HMAC_SHA1_80'],
  ['aes-128-gcm', 'AEAD_AES_128_GCM'],
]) {
  test(`media flows with ${profile} alone`, async () => {
    const { srtpCipher } = await negotiated({ flags: ['--srtp-profiles', profile] });
    assert.equal(srtpCipher, cipher);
  });
}

test('media flows over IPv6', async () => {
  // Chromium offers its IPv6 loopback address to pages that have asked for a camera.
  const { candidates } = await negotiated({ mediaIp: '::1' }, { media: 'camera' });
  assert.ok(candidates.length > 0 && candidates.every((line) => line.includes(' ::1 ')), candidates.join('\n'));
});
