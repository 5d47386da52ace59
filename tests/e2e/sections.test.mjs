// @ts-check
// What becomes of the sections of what is sent and received no more: a description has 256 of them at most, and a stay is long.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { TOKEN, flows, shared } from './lib.mjs';

const all = shared({});

/** How many sections a tab's description has. @param {import('./lib.mjs').Tab} tab @returns {Promise<number>} */
const sections = (tab) => tab.evaluate(() => window.moonring.client.peerConnection.localDescription.sdp.match(/^m=/gm).length);

test('a picture in layers that is published and ended again and again goes through the same section', async () => {
  await all.withTabs('sections', ['Ada', 'Grace'], async ([ada, grace]) => {
    await flows(grace, { videos: 1, audios: 1 });
    const [sent, received] = [await sections(ada), await sections(grace)];
    const layers = await ada.evaluate(async () => {
      const { client } = window.moonring;
      const canvas = Object.assign(document.createElement('canvas'), { width: 1280, height: 720 });
      const pen = /** @type {CanvasRenderingContext2D} */ (canvas.getContext('2d'));
      setInterval(() => pen.fillRect(0, 0, Math.random() * 640, Math.random() * 360), 50);
      const picture = canvas.captureStream().getVideoTracks()[0];
      const isSettled = () => client.peerConnection.getTransceivers().every((/** @type {any} */ t) => t.direction === t.currentDirection);
      const layers = [];
      for (let round = 1; ; round++) {
        const publication = await client.publish(picture.clone(), { source: 'other', simulcast: true });
        layers.push(publication.sender.getParameters().encodings.length);
        if (round === 6) return layers;
        publication.unpublish();
        while (!isSettled()) await new Promise((done) => setTimeout(done, 20));
      }
    });
    await flows(grace, { videos: 2, audios: 1 });
    assert.deepEqual(layers, Array(6).fill(3));
    assert.equal(await sections(ada) - sent, 1);
    // The next one may begin before the answer has freed the section of the one before.
    assert.ok(await sections(grace) - received <= 2, `${await sections(grace)} sections`);
  }, { token: TOKEN });
});

test('a client of its own gives the section of a stopped transceiver to the next one, under another MID', async () => {
  await all.withTabs('stopped', ['Grace', 'Ada'], async ([grace, ada]) => {
    const seen = await ada.evaluate(async (token) => {
      /** @type {Record<string, (message: any) => void>} */ const waiting = {};
      const next = (/** @type {string} */ type) => new Promise((done) => (waiting[type] = done));
      const socket = new WebSocket(`${location.origin.replace('http', 'ws')}/ws`);
      socket.onmessage = ({ data }) => waiting[JSON.parse(data).type]?.(JSON.parse(data));
      const say = (/** @type {any} */ message) => socket.send(JSON.stringify(message));
      socket.onopen = () => say({ type: 'join', room: 'stopped', token, protocol: 1, metadata: { name: 'Own' } });
      await next('joined');
      const pc = new RTCPeerConnection({ bundlePolicy: 'max-bundle' });
      const publish = async (/** @type {MediaStreamTrack} */ media, /** @type {any} */ sendEncodings) => {
        const transceiver = pc.addTransceiver(media, { direction: 'sendonly', sendEncodings });
        await pc.setLocalDescription();
        const { sdp = '' } = pc.localDescription ?? {};
        say({ type: 'offer', request: 1, sdp, publish: [{ mid: transceiver.mid, source: 'other' }], subscribe: [] });
        const answer = await next('answer');
        await pc.setRemoteDescription({ type: 'answer', sdp: answer.sdp });
        return { transceiver, seen: [transceiver.mid, answer.sections[0].reason ?? 'published', sdp.match(/^m=/gm)?.length].join(' ') };
      };
      const canvas = Object.assign(document.createElement('canvas'), { width: 1280, height: 720 });
      const pen = /** @type {CanvasRenderingContext2D} */ (canvas.getContext('2d'));
      setInterval(() => pen.fillRect(0, 0, Math.random() * 640, Math.random() * 360), 50);
      const picture = canvas.captureStream().getVideoTracks()[0];
      const seen = [(await publish(new AudioContext().createMediaStreamDestination().stream.getAudioTracks()[0], [{}])).seen];
      for (let round = 1; ; round++) {
        const layers = [{ rid: 'q', scaleResolutionDownBy: 4 }, { rid: 'h', scaleResolutionDownBy: 2 }, { rid: 'f' }];
        const camera = await publish(picture.clone(), layers);
        seen.push(camera.seen);
        if (round === 4) return seen;
        camera.transceiver.stop();
      }
    }, TOKEN);
    assert.deepEqual(seen, ['0 published 1', '1 published 2', '2 published 3', '3 published 3', '4 published 3']);
    await flows(grace, { videos: 2, audios: 1 });
  }, { token: TOKEN });
});
