// @ts-check
// A camera that is switched off and on when its SRTP rollover counter stands at two: the counter goes on with the SSRC.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { flows, openTab, report, shared, sleep, stats, until } from './lib.mjs';

/** @typedef {import('./lib.mjs').Tab} Tab */

/** Two rollovers of the sequence number and some more: a receiver that guesses tries none and one. */
const PACKETS = 140_000;
/** What is added to each encoded picture, to get there in half a minute instead of a quarter of an hour. */
const FILLING_BYTES = 500_000;
const PATIENCE_MS = 240_000;
/** Until the section of a track that was unpublished takes another one, with the same SSRC. */
const FREE_AFTER_MS = 3000;

const all = shared({});

/** Adds `window.filling` bytes to each picture that is sent, and encodes what nobody receives. Runs before the page's own scripts. */
function addFilling() {
  const Native = RTCPeerConnection;
  window.RTCPeerConnection = class extends Native {
    /** @param {RTCConfiguration} [settings] */
    constructor(settings) {
      super(/** @type {any} */ ({ ...settings, encodedInsertableStreams: true }));
    }

    /** @override @param {MediaStreamTrack | string} what @param {RTCRtpTransceiverInit} [init] */
    addTransceiver(what, init) {
      const transceiver = super.addTransceiver(what, init);
      if (init?.direction === 'recvonly') return transceiver;
      const { readable, writable } = /** @type {any} */ (transceiver.sender).createEncodedStreams();
      const filled = new TransformStream({
        transform(frame, controller) {
          if (window.filling > 0 && frame.type) {
            const data = new Uint8Array(frame.data.byteLength + window.filling);
            data.set(new Uint8Array(frame.data));
            frame.data = data.buffer;
          }
          controller.enqueue(frame);
        },
      });
      readable.pipeThrough(filled).pipeTo(writable);
      return transceiver;
    }
  };
  const { parse } = JSON;
  JSON.parse = (/** @type {string} */ text, reviver) => {
    const value = parse(text, reviver);
    return value?.type === 'wanted_layers' ? { ...value, layers: [0] } : value;
  };
}

const outbound = async (/** @type {Tab} */ tab) => (await stats(tab)).outbound.find(({ kind }) => kind === 'video');
const pictures = async (/** @type {Tab} */ tab) =>
  Object.values((await stats(tab)).inbound).find(({ kind }) => kind === 'video')?.framesDecoded ?? 0;

test('a camera is switched off and on after 140,000 packets, and its picture is there at once', async () => {
  const query = { room: 'rollover', name: 'Ada', media: 'camera', simulcast: 0 };
  const ada = await openTab(all.browser, all.server, query, { init: addFilling });
  try {
    await ada.waitForFunction(() => window.moonring.published.camera);
    const { ssrc } = await outbound(ada);
    const began = Date.now();
    await ada.evaluate((bytes) => (window.filling = bytes), FILLING_BYTES);
    await until('140,000 packets are sent', async () => (await outbound(ada)).packetsSent > PACKETS, PATIENCE_MS);
    await ada.evaluate(() => (window.filling = 0));
    const { packetsSent } = await outbound(ada);
    report(`${packetsSent} packets in ${((Date.now() - began) / 1000).toFixed(0)} s`);
    const grace = await openTab(all.browser, all.server, { room: 'rollover', name: 'Grace', media: 'none' });
    try {
      await flows(grace, { videos: 1, audios: 0 });
      await ada.evaluate(() => window.moonring.published.camera.unpublish());
      await until('no picture is there', async () => Object.values((await stats(grace)).inbound).every(({ kind }) => kind !== 'video'));
      await sleep(FREE_AFTER_MS);
      const started = Date.now();
      await ada.evaluate(async () => {
        const { client, media, published } = window.moonring;
        published.camera = await client.publish(media.camera, { source: 'camera' });
      });
      await until('the picture is back', async () => (await pictures(grace)) > 0);
      report(`camera off and on after ${packetsSent} packets: the first picture after ${Date.now() - started} ms (goal: 1000)`);
      assert.equal((await outbound(ada)).ssrc, ssrc, 'it is the same stream as before');
      await flows(grace, { videos: 1, audios: 0 });
    } finally {
      await grace.context().close();
    }
  } finally {
    await ada.context().close();
  }
});
