// @ts-check
// A publisher of several layers that begins anew when the server needs key frames.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { joined, track, withFakeIn } from './fake.mjs';
import { report, shared, sleep, until } from './lib.mjs';

/** @typedef {import('./fake.mjs').Handle} Handle */
/** @typedef {import('./lib.mjs').Tab} Tab */

const all = shared({});
const CAMERA = { media: 'test', width: 640, height: 480, simulcast: 1 }; // 640 wide: two layers

/** Notes from now on which layers each call switches on, and that what they may take together is another, if it is. @param {Tab} tab */
const watchParameters = (tab) =>
  tab.evaluate(() => {
    window.heard = [];
    const { setParameters } = RTCRtpSender.prototype;
    const of = (/** @type {RTCRtpSendParameters} */ { encodings }) => encodings.filter((layer) => layer.active).reduce((sum, layer) => sum + (layer.maxBitrate ?? 0), 0);
    let total = of(window.moonring.published.camera.sender.getParameters());
    RTCRtpSender.prototype.setParameters = function (/** @type {RTCRtpSendParameters} */ parameters) {
      const [before, now] = [total, of(parameters)];
      total = now;
      window.heard.push(parameters.encodings.map((layer) => (layer.active ? 1 : 0)).join('') + (now === before ? '' : '!'));
      return setParameters.call(this, parameters);
    };
  });
const heard = (/** @type {Tab} */ tab) => tab.evaluate(() => window.heard.splice(0).join(' '));

test('who publishes several layers of a camera says that it makes key frames, to a server that knows of it', async () => {
  for (const [knows, simulcast, expected] of /** @type {[boolean, number, (boolean | undefined)[]][]} */ ([
    [true, 1, [true, undefined]],
    [true, 0, [undefined, undefined]],
    [false, 1, [undefined, undefined]],
  ])) {
    /** @type {Handle} */
    const handle = (message, send) => message.type === 'join' && (send({ ...joined('demo'), ...(knows ? { key_frames: true } : {}) }), true);
    await withFakeIn(all, handle, { ...CAMERA, simulcast }, async (tab, fake) => {
      await tab.waitForFunction(() => window.moonring.published.camera);
      await tab.evaluate(() => window.moonring.client.publish(window.moonring.media.camera.clone(), { source: 'screen', simulcast: true }));
      const published = fake.of('offer').flatMap(({ publish }) => publish);
      const flags = ['camera', 'screen'].map((source) => published.find((one) => one.source === source)?.key_frames);
      assert.deepEqual(flags, expected, JSON.stringify(published));
    });
  }
});

test('the lowest layer that is wanted is switched off and on again, once for all that is told meanwhile', async () => {
  /** @type {(message: object) => void} */ let tell = () => {};
  /** @type {Handle} */
  const handle = (message, send) => {
    tell = send;
    return message.type === 'join' && (send({ ...joined('demo', [], [track('a')]), key_frames: true }), true);
  };
  await withFakeIn(all, handle, CAMERA, async (tab) => {
    await tab.waitForFunction(() => window.moonring.published.camera);
    const own = await tab.evaluate(() => window.moonring.published.camera.id);
    await watchParameters(tab);
    for (const [messages, expected] of /** @type {[object[], string][]} */ ([
      [[{ type: 'key_frame' }], '01 11'],
      [[{ type: 'wanted_layers', layers: [0] }], '10!'],
      [[{ type: 'key_frame' }], '00! 10!'],
      [[{ type: 'key_frame' }, { type: 'wanted_layers', layers: [0, 1] }, { type: 'key_frame' }, { type: 'key_frame' }], '00! 11! 01 11'],
      [[{ type: 'wanted_layers', layers: [] }], '00!'],
      [[{ type: 'key_frame' }], ''],
    ])) {
      for (const message of messages) tell({ ...message, track: own });
      await sleep(500);
      assert.equal(await heard(tab), expected, JSON.stringify(messages));
    }
    tell({ type: 'key_frame', track: 'of-somebody-else' });
    await sleep(300);
    assert.equal(await heard(tab), '', 'somebody else’s track is not ours');
  });
});

test('a receiver that goes over to another layer has it from a key frame that its publisher was told to make', async () => {
  await all.withTabs('anew', ['publisher', 'receiver', 'other receiver, for whom all layers are sent'], async ([from, to]) => {
    const isShown = () => to.evaluate(() => document.querySelectorAll('.tile:not(.mine) video').length > 1);
    await until('all are shown', isShown);
    const id = await from.evaluate(() => window.moonring.published.camera.id);
    const height = () => to.evaluate(async (track) => {
      const { mid } = window.moonring.client.peerConnection.getTransceivers().find((/** @type {RTCRtpTransceiver} */ t) => t.receiver.track === window.moonring.received.get(track)) ?? {};
      const all = [...(await window.moonring.client.peerConnection.getStats()).values()];
      return all.find((one) => one.type === 'inbound-rtp' && one.mid === mid)?.frameHeight;
    }, id);
    const choose = (/** @type {number} */ layer) => to.evaluate(([track, n]) => window.moonring.client.setLayer(track, Number(n)), /** @type {[string, number]} */ ([id, layer]));
    await choose(0);
    await until('the small one comes', async () => (await height()) === 240);
    await sleep(2500); // both layers go on: the key frames of the beginning are too old
    await watchParameters(from);
    await choose(1);
    await until('the large one comes', async () => (await height()) === 480);
    const said = await heard(from);
    assert.match(said, /^01 11/, said);
    const made = await from.evaluate(async () => {
      const all = [...(await window.moonring.published.camera.sender.getStats()).values()];
      return all.filter(({ type }) => type === 'outbound-rtp').map((one) => [one.rid, one.keyFramesEncoded, one.pliCount]);
    });
    report(`rid, key frames made, PLI received: ${JSON.stringify(made)}`);
  }, CAMERA);
});
