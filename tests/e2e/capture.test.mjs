// @ts-check
// What the page captures is either what it shows and sends, or off: also what comes late, when something else was chosen or
// the call is over.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { answer, outside, withFakeIn } from './fake.mjs';
import { shared, sleep, until } from './lib.mjs';

/** @typedef {import('./fake.mjs').Handle} Handle */
/** @typedef {import('./lib.mjs').Tab} Tab */

const all = shared();

/** Captures wait in `window.asked` while `window.holds`; `window.captured` has every track that came, `window.contexts` every
 *  AudioContext. */
function hold() {
  window.asked = [];
  window.captured = [];
  window.contexts = [];
  /** @param {() => Promise<MediaStream>} get */
  const later = async (get) => {
    if (window.holds) await new Promise((done) => window.asked.push(done));
    const stream = await get();
    window.captured.push(...stream.getTracks());
    return stream;
  };
  const devices = MediaDevices.prototype;
  const { getUserMedia } = devices;
  devices.getUserMedia = function (wanted) {
    return later(() => getUserMedia.call(this, wanted));
  };
  devices.getDisplayMedia = () => later(async () => document.createElement('canvas').captureStream());
  window.AudioContext = class extends AudioContext {
    constructor() {
      super();
      window.contexts.push(this);
    }
  };
  Object.defineProperty(Permissions.prototype, 'query', { value: async () => ({ state: 'prompt' }) });
}

/** @param {import('./lib.mjs').Query} query @param {(tab: Tab, fake: import('./fake.mjs').Fake) => Promise<unknown>} body @param {Handle} [handle] */
const withHeld = (query, body, handle) => withFakeIn(all, handle, { media: 'camera', ...query }, body, { init: hold });
const button = (/** @type {Tab} */ tab, /** @type {string} */ name) => tab.getByRole('button', { name, exact: true });
const published = (/** @type {Tab} */ tab) => tab.waitForFunction(() => window.moonring.published.camera && window.moonring.published.mic);
/** From now on captures wait, until there are `count` of them or more. @param {Tab} tab @param {() => Promise<unknown>} action */
async function held(tab, action, count = 1) {
  await tab.evaluate(() => (window.holds = true));
  await action();
  await tab.waitForFunction((n) => window.asked.length >= n, count);
}
/** Lets them come, the last one first, and those that follow. @param {Tab} tab */
async function letCome(tab) {
  await tab.evaluate(async () => {
    window.holds = false;
    for (const come of window.asked.splice(0).reverse()) {
      come();
      await new Promise((done) => setTimeout(done, 100));
    }
  });
  await sleep(500);
}
/** Chooses another device, twice. @param {Tab} tab @param {string} where @param {string} kind */
const choose = (tab, where, kind) =>
  tab.evaluate(([id, device]) => {
    const select = document.querySelector(`#${id} select[data-device=${device}]`);
    for (let times = 0; times < 2; times++) select?.dispatchEvent(new Event('change', { bubbles: true }));
  }, [where, kind]);
/** The tracks that are on, and whether the page has each of them. @param {Tab} tab */
const on = (tab) =>
  tab.evaluate(() => {
    const had = Object.values(window.moonring.media);
    return window.captured.filter((/** @type {any} */ t) => t.readyState === 'live').map((/** @type {any} */ t) => [t.kind, had.includes(t)].join());
  });
const listening = (/** @type {Tab} */ tab) => tab.evaluate(() => window.contexts.filter((/** @type {any} */ { state }) => state !== 'closed').length);
const both = ['audio,true', 'video,true'];

test('of two choices in the preview the second one is on, and nothing after the preview', async () => {
  await withHeld(outside, async (tab) => {
    await button(tab, 'Preview').click();
    await tab.waitForFunction(() => window.moonring.media.camera);
    await held(tab, () => choose(tab, 'lobby', 'videoinput'));
    await letCome(tab);
    assert.deepEqual((await on(tab)).sort(), both);
    assert.equal(await listening(tab), 1);
    // Off and on again before the first one came.
    await button(tab, 'Stop the preview').click();
    await held(tab, async () => {
      for (const name of ['Preview', 'Stop the preview', 'Preview']) await button(tab, name).click();
    });
    await letCome(tab);
    assert.deepEqual((await on(tab)).sort(), both);
    assert.equal(await listening(tab), 1);
    await button(tab, 'Stop the preview').click();
    assert.deepEqual(await on(tab), []);
    await until('nobody listens', async () => (await listening(tab)) === 0);
    assert.deepEqual(await tab.evaluate(() => window.moonring.media), {});
  });
});

test('who joins while the preview is awaited, and asks for another one meanwhile, sends what is on', async () => {
  await withHeld(outside, async (tab) => {
    await held(tab, async () => {
      await button(tab, 'Preview').click();
      await button(tab, 'Join').click();
      await button(tab, 'Preview').click();
    });
    await letCome(tab);
    await published(tab);
    assert.deepEqual((await on(tab)).sort(), both);
    assert.equal(await listening(tab), 0);
    await button(tab, 'Leave').click();
    assert.deepEqual(await on(tab), []);
  });
});

test('of two choices in the call the second one is on and sent, and nothing that comes after it', async () => {
  await withHeld({}, async (tab) => {
    await published(tab);
    await held(tab, () => choose(tab, 'settings', 'videoinput'));
    await letCome(tab);
    assert.deepEqual((await on(tab)).sort(), both);
    const sent = await tab.evaluate(() => {
      const { media, published: { camera } } = window.moonring;
      return camera.media === media.camera && camera.sender.track === media.camera;
    });
    assert.ok(sent);
    for (const kind of ['videoinput', 'audioinput']) {
      await held(tab, () => choose(tab, 'settings', kind));
    }
    await button(tab, 'Leave').click();
    await letCome(tab);
    assert.deepEqual(await on(tab), []);
    assert.deepEqual(await tab.evaluate(() => window.moonring.media), {});
  });
});

test('a device that is chosen while the room decides on the one before is sent', async () => {
  /** @type {(() => void)[]} */ const decisions = [];
  /** @type {Handle} */
  const handle = (message, send) => message.type === 'offer' && decisions.push(() => send(answer(message)));
  await withHeld({}, async (tab) => {
    await until('it is offered', () => decisions.length === 1);
    await choose(tab, 'settings', 'videoinput');
    await sleep(500);
    decisions[0]();
    await published(tab);
    await until('it is sent', () => tab.evaluate(() => window.moonring.published.camera.sender.track === window.moonring.media.camera));
    assert.deepEqual((await on(tab)).sort(), both);
  }, handle);
});

test('a screen that comes late is off, and one that is shared no more is not published', async () => {
  /** @type {(() => void)[]} */ const decisions = [];
  /** @type {Handle} */
  const handle = (message, send) => message.type === 'offer' && decisions.push(() => send(answer(message)));
  await withHeld({ media: 'none' }, async (tab, fake) => {
    const share = () => button(tab, 'Share screen').click();
    // Chosen twice.
    await held(tab, async () => {
      await share();
      await share();
    }, 2);
    await letCome(tab);
    assert.deepEqual(await on(tab), ['video,true']);
    // Stopped and shared again while the room decides.
    await until('it is offered', () => decisions.length === 1);
    await button(tab, 'Stop sharing').click();
    assert.deepEqual(await on(tab), []);
    await share();
    decisions[0]();
    await until('it is offered again', () => decisions.length === 2);
    decisions[1]();
    await tab.waitForFunction(() => window.moonring.published.screen);
    assert.equal(fake.of('unpublish').length, 1);
    assert.notEqual(fake.of('unpublish')[0].track, await tab.evaluate(() => window.moonring.published.screen.id));
    assert.equal(await tab.evaluate(() => window.moonring.client.publications.size), 1);
    await button(tab, 'Stop sharing').click();
    // Still being chosen when the call ends.
    await held(tab, share);
    await button(tab, 'Leave').click();
    await letCome(tab);
    assert.deepEqual(await on(tab), []);
    assert.deepEqual(await tab.evaluate(() => window.moonring.media), {});
  }, handle);
});

test('a click while the room decides on “Start video” publishes nothing twice', async () => {
  let refuses = true;
  /** @type {(() => void)[]} */ const decisions = [];
  /** @type {Handle} */
  const handle = (message, send) => {
    if (message.type !== 'offer' || message.publish.length === 0) return false;
    const video = message.publish.find((/** @type {any} */ { source }) => source === 'camera');
    const refused = refuses && video ? { [video.mid]: 'Not now' } : {};
    if (refuses) return send(answer(message, refused)), true;
    return decisions.push(() => send(answer(message)));
  };
  await withHeld({ media: 'test' }, async (tab, fake) => {
    await button(tab, 'Start video').waitFor();
    refuses = false;
    await button(tab, 'Start video').click();
    await until('it is offered', () => decisions.length === 1);
    await button(tab, 'Stop video').click();
    await button(tab, 'Start video').click();
    await sleep(300);
    decisions.forEach((decide) => decide());
    await published(tab);
    assert.equal(await tab.evaluate(() => window.moonring.client.publications.size), 2);
    assert.equal(await tab.evaluate(() => window.moonring.media.camera.enabled), true);
    assert.equal(decisions.length, 1);
    assert.deepEqual(fake.of('unpublish'), []);
  }, handle);
});

test('a device that is unplugged is told, others see that nothing comes, and another one takes its place', async () => {
  await withHeld({}, async (tab, fake) => {
    await published(tab);
    const mic = await tab.evaluate(() => window.moonring.published.mic.id);
    /** The browser has no microphone from now on, or has one again. @param {boolean} isThere */
    const plug = (isThere) =>
      tab.evaluate((there) => {
        window.unplugged ??= MediaDevices.prototype.getUserMedia;
        MediaDevices.prototype.getUserMedia = there ? window.unplugged : () => Promise.reject(new DOMException('Requested device not found', 'NotFoundError'));
        const { mic: track } = window.moonring.media;
        if (!there) {
          track.stop();
          track.dispatchEvent(new Event('ended'));
        }
        navigator.mediaDevices.dispatchEvent(new Event('devicechange'));
      }, isThere);
    await plug(false);
    await tab.getByText('Your microphone has stopped').first().waitFor();
    await tab.locator('.tile.mine .note', { hasText: 'no microphone' }).waitFor();
    const mutes = () => fake.of('mute').map(({ track, muted }) => [track, muted]);
    await until('others see it', () => mutes().length > 0);
    assert.deepEqual(mutes(), [[mic, true]]);
    await button(tab, 'Mute').click();
    await button(tab, 'Unmute').click();
    assert.ok(mutes().every(([, muted]) => muted), 'there is nothing to unmute');
    await plug(true);
    await until('it is sent again', async () => mutes().at(-1)?.[1] === false);
    await until('the note is gone', async () => (await tab.textContent('.tile.mine .note')) === '');
    const sent = await tab.evaluate(() => {
      const { media, published: { mic: publication } } = window.moonring;
      return [publication.media === media.mic, publication.sender.track === media.mic, media.mic.readyState, media.mic.enabled];
    });
    assert.deepEqual(sent, [true, true, 'live', true]);
    assert.deepEqual((await on(tab)).sort(), both);
    // With another one at hand nothing is missed but the time in between.
    await tab.evaluate(() => {
      const { camera } = window.moonring.media;
      camera.stop();
      camera.dispatchEvent(new Event('ended'));
    });
    await until('another camera is sent', () => tab.evaluate(() => window.moonring.published.camera.sender.track?.readyState === 'live'));
    await until('others see it', () => mutes().at(-1)?.[1] === false);
    assert.deepEqual((await on(tab)).sort(), both);
  });
});

test('a test picture and its tone are made for as long as they are shown or sent', async () => {
  const count = () => {
    window.workers = new Set();
    window.contexts = [];
    const noted = (/** @type {any} */ made, /** @type {(one: any) => void} */ note) =>
      new Proxy(made, {
        construct(target, args) {
          const one = new target(...args);
          note(one);
          return one;
        },
      });
    const { prototype } = Worker;
    const { terminate } = prototype;
    prototype.terminate = function () {
      window.workers.delete(this);
      terminate.call(this);
    };
    window.Worker = noted(Worker, (worker) => window.workers.add(worker));
    window.AudioContext = noted(AudioContext, (context) => window.contexts.push(context));
  };
  const running = (/** @type {Tab} */ tab) =>
    tab.evaluate(() => [window.workers.size, window.contexts.filter((/** @type {AudioContext} */ { state }) => state !== 'closed').length]);
  const are = (/** @type {Tab} */ tab, /** @type {number} */ workers, /** @type {number} */ contexts) =>
    until(`${workers} timers and ${contexts} contexts run`, async () => String(await running(tab)) === String([workers, contexts]));
  await withFakeIn(all, undefined, { ...outside, media: 'test' }, async (tab) => {
    for (let n = 0; n < 3; n++) {
      await button(tab, 'Preview').click();
      await are(tab, 2, 2); // the second context shows how loud it is
      await button(tab, 'Stop the preview').click();
      await are(tab, 0, 0);
    }
    await button(tab, 'Preview').click();
    await are(tab, 2, 2);
    await button(tab, 'Join').click();
    await published(tab);
    await are(tab, 2, 1);
    await button(tab, 'Leave').click();
    await are(tab, 0, 0);
  }, { init: count });
});

test('who has a microphone and no camera is heard, and who has a camera and no microphone is seen', async () => {
  /** The browser has only the devices in `window.there`, and says so as Chromium does. */
  const some = () => {
    const devices = MediaDevices.prototype;
    const { getUserMedia } = devices;
    const there = new URLSearchParams(location.search).get('there') ?? '';
    window.asked = [];
    devices.getUserMedia = function (wanted = {}) {
      const kinds = ['audio', 'video'].filter((kind) => wanted[/** @type {'audio'|'video'} */ (kind)]);
      window.asked.push(kinds.join());
      const [missing] = kinds.filter((kind) => !there.includes(kind));
      if (there === 'refused') return Promise.reject(new DOMException('Permission denied', 'NotAllowedError'));
      if (there === 'busy audio' && missing) return Promise.reject(new DOMException('Could not start video source', 'NotReadableError'));
      return missing ? Promise.reject(new DOMException('Requested device not found', 'NotFoundError')) : getUserMedia.call(this, wanted);
    };
  };
  for (const [there, captured, asked, notice] of /** @type {[string, string[], string[], string][]} */ ([
    ['audio', ['mic'], ['audio,video', 'audio'], 'No camera: Requested device not found.'],
    ['busy audio', ['mic'], ['audio,video', 'audio'], 'No camera: Could not start video source.'],
    ['video', ['camera'], ['audio,video', 'audio', 'video'], 'No microphone: Requested device not found.'],
    ['', [], ['audio,video', 'audio', 'video'], 'No camera or microphone: Requested device not found. You only watch.'],
    ['refused', [], ['audio,video'], 'No camera or microphone: Permission denied. You only watch.'],
  ])) {
    await withFakeIn(all, undefined, { media: 'camera', there }, async (tab) => {
      await tab.waitForFunction((wanted) => Object.keys(window.moonring.published).sort().join() === wanted, captured.join());
      assert.deepEqual(await tab.evaluate(() => [Object.keys(window.moonring.media), window.asked]), [captured, asked], there);
      assert.deepEqual(await tab.evaluate(() => window.moonring.notices), [notice], there);
    }, { init: some });
  }
});

test('who joins with a preview whose camera has gone sends another one, not the one that is gone', async () => {
  await withHeld(outside, async (tab) => {
    await button(tab, 'Preview').click();
    await tab.waitForFunction(() => window.moonring.media.camera);
    await tab.evaluate(() => window.moonring.media.camera.stop());
    await button(tab, 'Join').click();
    await published(tab);
    const states = await tab.evaluate(() => [window.moonring.published.camera, window.moonring.published.mic].map((/** @type {any} */ { media }) => media.readyState));
    assert.deepEqual(states, ['live', 'live']);
    assert.equal(await tab.evaluate(() => window.captured.filter((/** @type {MediaStreamTrack} */ { readyState }) => readyState === 'live').length), 2);
  });
});
