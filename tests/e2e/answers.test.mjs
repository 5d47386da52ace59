// @ts-check
// What client.js makes of an answer while more is said of the same tracks: by the room before the answer is used, by the page
// while it is awaited. Against a server that answers as each test wants.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { answer, joined, track, withFakeIn } from './fake.mjs';
import { shared, sleep, until } from './lib.mjs';

/** @typedef {import('./fake.mjs').Handle} Handle */
/** @typedef {import('./fake.mjs').Message} Message */
/** @typedef {import('./lib.mjs').Tab} Tab */

const all = shared();

/** The track that an answer brings for a section of a kind. @param {Message} decision @param {string} kind */
const own = (decision, kind) => decision.sections.map((/** @type {Message} */ section) => section.track).find((/** @type {Message} */ t) => t.kind === kind);
const noted = (/** @type {Tab} */ tab, /** @type {string} */ text) => tab.locator('.tile.mine .note', { hasText: text }).waitFor();

test('what the room says of an own track before its answer is used counts', async () => {
  /** @type {Handle} */
  const handle = (message, send) => {
    if (message.type !== 'offer') return false;
    const decision = answer(message);
    const [camera, mic] = [own(decision, 'video'), own(decision, 'audio')];
    send({ type: 'track_changed', track: { ...mic, muted: true } }); // as a script may do at once
    send(decision);
    send({ type: 'wanted_layers', track: camera.id, layers: [] });
    return true;
  };
  await withFakeIn(all, handle, { media: 'test' }, async (tab) => {
    await noted(tab, 'sound muted by the room');
    await until('nobody is sent the picture', () => tab.evaluate(() => !window.moonring.published.camera.sender.getParameters().encodings[0].active));
    assert.equal(await tab.evaluate(() => window.moonring.published.camera.mutedByRoom), false);
  });
});

test('an own track that the room ends before its answer is used was not published', async () => {
  /** @type {Handle} */
  const handle = (message, send) => {
    if (message.type !== 'offer' || message.publish.length === 0) return false;
    const decision = answer(message);
    send({ type: 'track_unpublished', track: own(decision, 'video').id, reason: 'Sound only' });
    send(decision);
    return true;
  };
  await withFakeIn(all, handle, { media: 'test' }, async (tab, fake) => {
    await noted(tab, 'video refused');
    await tab.getByText('Your video was refused: Sound only').first().waitFor();
    await until('its section is offered inactive', () => /^a=inactive/m.test(fake.of('offer').at(-1).sdp));
    assert.equal(await tab.evaluate(() => Boolean(window.moonring.published.mic && !window.moonring.published.camera)), true);
  });
});

test('of tracks whose answer was kept over a lost connection, what the room has done to them since counts', async () => {
  /** @type {Message} */ let decision;
  /** @type {Handle} */
  const handle = (message, send, socket) => {
    if (message.type === 'offer' && !decision) {
      decision = answer(message);
      return socket.terminate(), true;
    }
    // The camera has ended: its section is not in use any more.
    const { mid } = decision?.sections.find((/** @type {Message} */ section) => section.track.kind === 'video') ?? {};
    if (message.type === 'offer') return send(answer(message, { [mid]: 'ended' })), true;
    if (message.type !== 'resume') return false;
    send({ ...joined('demo', [], [], [{ ...own(decision, 'audio'), muted: true }]), resumed: true });
    send(decision);
    return true;
  };
  await withFakeIn(all, handle, { media: 'test' }, async (tab, fake) => {
    await noted(tab, 'sound muted by the room, video refused');
    assert.equal(await tab.evaluate(() => window.moonring.published.mic.id), own(decision, 'audio').id);
    assert.deepEqual(fake.of('unpublish'), []);
  });
});

test('a track that is let go and taken again while its answer is on the way is received', async () => {
  /** @type {Set<string>} */ const received = new Set();
  /** @type {(() => void)[]} */ const held = [];
  /** As the server does: a track is received once. @type {Handle} */
  const handle = (message, send) => {
    if (message.type === 'join') return send(joined('demo', [{ client: 'other', metadata: {} }])), true;
    if (message.type === 'unsubscribe') received.delete(message.track);
    if (message.type !== 'offer') return false;
    held.push(() => {
      const twice = message.subscribe.filter((/** @type {Message} */ { track: id }) => received.has(id) || !received.add(id));
      send(answer(message, Object.fromEntries(twice.map((/** @type {Message} */ { mid }) => [mid, 'it is received already']))));
    });
    return true;
  };
  await withFakeIn(all, handle, {}, async (tab, fake) => {
    await tab.evaluate((info) => {
      const { client } = window.moonring;
      client.tracks.set('a', info);
      const again = () => {
        client.unsubscribe('a');
        window.media = client.subscribe('a').then((/** @type {MediaStreamTrack} */ { readyState }) => readyState, String);
      };
      client.subscribe('a').catch(() => {});
      again(); // before it is offered, and, below, after that
      window.again = again;
    }, track('a'));
    await until('it is offered', () => held.length === 1);
    assert.equal(fake.of('offer')[0].subscribe.length, 1);
    await tab.evaluate(() => window.again());
    await until('the server was told', () => fake.of('unsubscribe').length === 2);
    held[0]();
    await until('it is offered again', () => held.length === 2);
    held[1]();
    assert.equal(await tab.evaluate(() => window.media), 'live');
    assert.deepEqual([...received], ['a']);
    const direction = await tab.evaluate(() => window.moonring.client.peerConnection.getTransceivers().map((/** @type {any} */ t) => t.currentDirection));
    assert.deepEqual(direction, ['inactive', 'recvonly']);
    assert.equal(await tab.evaluate(() => window.moonring.client.receiver('a').track.readyState), 'live');
  });
});

test('nothing is said any more of a track that the page ends while its answer is used', async () => {
  const slowly = () => {
    const { prototype } = RTCRtpSender;
    const replace = prototype.replaceTrack;
    prototype.replaceTrack = async function (media) {
      if (media) await new Promise((done) => setTimeout(done, 300));
      return replace.call(this, media);
    };
  };
  await withFakeIn(all, undefined, {}, async (tab, fake) => {
    await tab.evaluate(async () => {
      const { client } = window.moonring;
      const picture = () => document.createElement('canvas').captureStream().getVideoTracks()[0];
      const published = client.publish(picture(), { muted: true }).catch(() => {});
      const [publication] = client.publications;
      publication.replace(picture()); // once the answer is there
      while (!publication.id) await new Promise((done) => setTimeout(done, 10));
      publication.unpublish();
      await published;
    });
    await until('the server knows', () => fake.of('unpublish').length === 1);
    await sleep(500);
    assert.deepEqual(fake.of('mute'), []);
  }, { init: slowly });
});
