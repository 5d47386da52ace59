// @ts-check
// What a page gets wrong, or a browser cannot do, ends with a word to the page, and nothing else ends with it.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { withFakeIn } from './fake.mjs';
import { flows, shared, sleep, TOKEN } from './lib.mjs';

/** @typedef {import('./fake.mjs').Handle} Handle */
/** @typedef {import('./lib.mjs').Tab} Tab */

const all = shared({});
const outside = { outside: 1, autojoin: 0 };

/** Puts into the page: `enter(options)`, a client of its own in a room, `picture()` and `sound()`. @param {Tab} tab */
async function embed(tab) {
  await tab.evaluate(async () => {
    const { Client } = await import(/** @type {any} */ ('/client.js'));
    window.picture = () => document.createElement('canvas').captureStream().getVideoTracks()[0];
    window.sound = () => new AudioContext().createMediaStreamDestination().stream.getAudioTracks()[0];
    window.enter = async (/** @type {any} */ options) => {
      window.client = new Client();
      window.heard = [];
      window.client.on('media', (/** @type {any} */ { track: { id } }) => window.heard.push(id));
      window.client.on('browser_error', (/** @type {any} */ { error }) => window.heard.push(error.code));
      await window.client.join({ url: `${location.origin.replace('http', 'ws')}/ws`, room: 'demo', ...options });
    };
    /** What becomes of a promise. */
    window.end = (/** @type {Promise<any>} */ promise) => promise.then(() => 'done', (error) => error.code ?? error.name);
  });
}

test('an offer that meets a limit of the server is made again', async () => {
  let limits = 2;
  /** @type {Handle} */
  const handle = (message, send) => {
    if (message.type !== 'offer' || limits-- <= 0) return false;
    return send({ type: 'error', code: 'limit', message: 'more than 20 messages per second', request: message.request }), true;
  };
  await withFakeIn(all, handle, outside, async (tab, fake) => {
    await embed(tab);
    const end = await tab.evaluate(async () => {
      await window.enter({});
      return window.end(window.client.publish(window.sound()));
    });
    assert.equal(end, 'done');
    assert.equal(fake.of('offer').length, 3);
  });
});

test('a publication that the real server cannot read is refused at once, and the call goes on', async () => {
  await all.withTabs('mistakes', ['Ada', 'Grace'], async ([ada, grace]) => {
    await flows(grace, { videos: 1, audios: 1 });
    await ada.evaluate(() => (window.states = []));
    const code = await ada.evaluate(async () => {
      const { client, media } = window.moonring;
      client.on('state', (/** @type {any} */ { state }) => window.states.push(state));
      return client.publish(media.camera.clone(), { source: 'webcam' }).then(() => 'done', (/** @type {any} */ error) => error.code);
    });
    assert.equal(code, 'bad_message');
    const second = await ada.evaluate(async () => {
      const { client, media } = window.moonring;
      return (await client.publish(media.camera.clone(), { source: 'other' })).id;
    });
    assert.ok(second);
    await flows(grace, { videos: 2, audios: 1 });
    await sleep(200);
    assert.deepEqual(await ada.evaluate(() => window.states), []);
  }, { token: TOKEN });
});
