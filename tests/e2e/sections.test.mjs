// @ts-check
// What becomes of the sections of what is sent and received no more: a description has 256 of them at most, and a stay is long.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { TOKEN, flows, shared, sleep, until } from './lib.mjs';

const all = shared({});

/** How many sections a tab's description has. @param {import('./lib.mjs').Tab} tab @returns {Promise<number>} */
const sections = (tab) => tab.evaluate(() => window.moonring.client.peerConnection.localDescription.sdp.match(/^m=/gm).length);

test('a picture in layers that is published and ended again and again is seen each time, and takes no more sections', async () => {
  await all.withTabs('sections', ['Ada', 'Grace'], async ([ada, grace]) => {
    await flows(grace, { videos: 1, audios: 1 });
    const [sent, received] = [await sections(ada), await sections(grace)];
    await ada.evaluate(() => {
      const canvas = Object.assign(document.createElement('canvas'), { width: 1280, height: 720 });
      const pen = /** @type {CanvasRenderingContext2D} */ (canvas.getContext('2d'));
      setInterval(() => pen.fillRect(0, 0, Math.random() * 640, Math.random() * 360), 50);
      window.picture = () => canvas.captureStream().getVideoTracks()[0];
    });
    for (let round = 1; round <= 4; round++) {
      await ada.evaluate(async () => {
        window.publication = await window.moonring.client.publish(window.picture(), { source: 'other', simulcast: true });
        if (window.publication.sender.getParameters().encodings.length !== 3) throw new Error('not in three layers');
      });
      await flows(grace, { videos: 2, audios: 1 });
      // From the first report on packets do not say any more what they are of.
      const isReported = () => ada.evaluate(async () => [...(await window.publication.sender.getStats()).values()].some(({ type }) => type === 'remote-inbound-rtp'));
      await until('what is sent is reported', isReported);
      await ada.evaluate(() => window.publication.unpublish());
      const isSettled = () => ada.evaluate(() => window.moonring.client.peerConnection.getTransceivers().every((/** @type {any} */ t) => t.direction === t.currentDirection));
      await until('the next offer is answered', isSettled);
    }
    assert.equal(await sections(ada) - sent, 1);
    // The next one may begin before the answer has freed the section of the one before.
    assert.ok(await sections(grace) - received <= 3, `${await sections(grace)} sections`);
    await flows(ada, { videos: 1, audios: 1 });
  }, { token: TOKEN });
});

test('the first section of all stays where it is, and what has sent layers in it goes on in another one', async () => {
  await all.withTabs('first', ['Ada', 'Grace'], async ([ada, grace]) => {
    for (let round = 1; round <= 3; round++) {
      await ada.evaluate(async () => {
        const canvas = Object.assign(document.createElement('canvas'), { width: 1280, height: 720 });
        const pen = /** @type {CanvasRenderingContext2D} */ (canvas.getContext('2d'));
        setInterval(() => pen.fillRect(0, 0, Math.random() * 640, Math.random() * 360), 50);
        window.publication = await window.moonring.client.publish(canvas.captureStream().getVideoTracks()[0], { source: 'other', simulcast: true });
      });
      await flows(grace, { videos: 1, audios: 0 });
      await sleep(1100); // a report
      await ada.evaluate(() => window.publication.unpublish());
      await until('the others are told', () => grace.evaluate(() => window.moonring.client.tracks.size === 0));
      await sleep(1100); // the offer
    }
    assert.equal(await sections(ada), 2);
    assert.equal(await ada.evaluate(() => window.moonring.client.state), 'joined');
  }, { token: TOKEN, media: 'none' });
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
