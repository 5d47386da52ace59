// @ts-check
// What a page gets wrong, or a browser cannot do, ends with a word to the page, and nothing else ends with it.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { embed, joined, outside, track, withFakeIn } from './fake.mjs';
import { flows, shared, sleep, TOKEN, until } from './lib.mjs';

/** @typedef {import('./fake.mjs').Handle} Handle */
/** @typedef {import('./lib.mjs').Tab} Tab */

const all = shared({});
const people = [{ client: 'other', metadata: { name: 'Grace' } }];

test('what the browser cannot publish fails alone, and nothing is sent of it', async () => {
  /** @type {Handle} */
  const handle = (message, send) => message.type === 'join' && (send(joined('demo', people, [track('a')])), true);
  for (const when of ['made', 'prepared']) {
    await withFakeIn(all, handle, outside, async (tab, fake) => {
      await embed(tab);
      const ends = await tab.evaluate(async (moment) => {
        const { prototype } = RTCRtpSender;
        const set = prototype.setParameters;
        // A mode that no codec has is refused at once, one that the codec does not have when it is set.
        if (moment === 'prepared') {
          prototype.setParameters = function (/** @type {any} */ parameters) {
            const isBad = parameters.encodings[0].scalabilityMode;
            return isBad ? Promise.reject(new DOMException('Not this mode', 'OperationError')) : set.call(this, parameters);
          };
        }
        await window.enter({ autoSubscribe: true });
        const { client } = window;
        const scalabilityMode = moment === 'made' ? 'L9T9' : 'L1T2';
        window.bad = window.picture();
        const result = [client.publish(window.sound(), { source: 'microphone' }), client.publish(window.bad, { scalabilityMode })];
        const ended = await Promise.all(result.map(window.end));
        prototype.setParameters = set;
        while (!window.heard.includes('a')) await new Promise((done) => setTimeout(done, 10));
        ended.push(await window.end(client.publish(window.picture(), { source: 'camera' })));
        return ended;
      }, when);
      assert.deepEqual(ends, ['done', 'browser', 'done'], when);
      assert.deepEqual(fake.of('offer').map(({ publish }) => publish.length).filter(Boolean), [1, 1], when);
      const sent = await tab.evaluate(() => window.client.peerConnection.getSenders().some((/** @type {any} */ { track: sends }) => sends === window.bad));
      assert.equal(sent, false, when);
      assert.equal(await tab.evaluate(() => window.client.publications.size), 2);
      assert.deepEqual((await tab.evaluate(() => window.heard)).sort(), ['a', 'browser'], when);
    });
  }
});

test('a choice of tracks that throws is not made, and the others are', async () => {
  let joins = 0;
  /** @type {import('ws').WebSocket} */ let wire;
  /** @type {Handle} */
  const handle = (message, send, socket) => {
    wire = socket;
    if (message.type === 'join') return joins++, send(joined('demo', people, [track('a'), track('b')])), true;
    return message.type === 'resume' && (send({ type: 'error', code: 'ticket', message: 'expired' }), true);
  };
  await withFakeIn(all, handle, outside, async (tab) => {
    await embed(tab);
    await tab.evaluate(async () => {
      window.told = [];
      addEventListener('error', (event) => {
        window.told.push(event.error?.message);
        event.preventDefault();
      });
      await window.enter({
        autoSubscribe: (/** @type {any} */ { id }) => {
          if (id === 'a') throw new Error('a mistake of the page');
          return true;
        },
      });
      await window.client.publish(window.sound());
      while (!window.heard.includes('b')) await new Promise((done) => setTimeout(done, 10));
      window.first = [...window.client.publications][0].id;
    });
    assert.deepEqual(await tab.evaluate(() => [...new Set(window.told)]), ['a mistake of the page']);
    wire.terminate();
    await until('it joined anew', () => joins === 2);
    await tab.waitForFunction(() => ![window.first, ''].includes([...window.client.publications][0]?.id));
    await tab.waitForFunction(() => window.heard.filter((/** @type {string} */ id) => id === 'b').length === 2);
  });
});

test('muting is about what is sent, also after a track that cannot take its place', async () => {
  await withFakeIn(all, undefined, outside, async (tab) => {
    await embed(tab);
    const result = await tab.evaluate(async () => {
      await window.enter({});
      const [camera, other] = [window.picture(), window.sound()];
      const publication = await window.client.publish(camera);
      const end = await window.end(publication.replace(other));
      publication.setMuted(true);
      return [end, publication.media === camera, publication.sender.track === camera, camera.enabled];
    });
    assert.deepEqual(result, ['TypeError', true, true, false]);
  });
});

test('a publication that is pending is not given a track of the other kind, and goes on', async () => {
  await withFakeIn(all, undefined, outside, async (tab, fake) => {
    await embed(tab);
    const result = await tab.evaluate(async () => {
      await window.enter({});
      const camera = window.picture();
      const published = window.client.publish(camera, { muted: true });
      const [publication] = window.client.publications;
      const sound = window.sound();
      const words = await publication.replace(sound).then(() => 'done', String);
      const end = await window.end(published);
      return [words, sound.enabled, end, publication.sender?.track === camera, publication.kind];
    });
    assert.deepEqual(result, ['TypeError: A track of video cannot be replaced by one of audio: publish that by itself', true, 'done', true, 'video']);
    assert.equal(fake.of('unpublish').length, 0);
  });
});

test('what cannot be told as JSON is refused at once, by its name, and nothing else is', async () => {
  await withFakeIn(all, undefined, outside, async (tab, fake) => {
    await embed(tab);
    const result = await tab.evaluate(async () => {
      const words = (/** @type {any} */ promise) => promise.then(() => 'done', (/** @type {any} */ error) => `${error.code}: ${error.message.slice(0, 80)}`);
      const said = (/** @type {() => any} */ what) => words(new Promise((done) => done(what())));
      /** @type {any} */ const circle = { name: 'Ada' };
      circle.self = circle;
      const seen = [];
      for (const wrong of [{ metadata: { age: 36n } }, { metadata: circle }, { metadata: () => 1 }, { token: 5n }]) seen.push(await words(window.enter(wrong)));
      seen.push(window.client.state);
      const metadata = { name: 'Ada' };
      await window.enter({ metadata });
      /** @type {any} */ (metadata).self = metadata; // it was told as it was
      const { client } = window;
      client.subscribe('v1').catch(() => {});
      const other = client.publish(window.sound());
      seen.push(await words(client.publish(window.picture(), { source: 5n })), await words(other));
      for (const value of [5n, circle, undefined]) seen.push(await said(() => client.send(value)));
      seen.push(await said(() => client.setLayer('v1', 1n)));
      client.reconnect();
      await new Promise((done) => client.on('joined', done));
      return [...seen, client.state];
    });
    const [circle, again] = [result[1], result[8]];
    assert.match(circle, /^bad_message: metadata cannot be told as JSON: .*circular/i);
    assert.match(again, /^bad_message: value cannot be told as JSON: .*circular/i);
    assert.deepEqual(result.filter((/** @type {string} */ one) => one !== circle && one !== again), [
      'bad_message: metadata cannot be told as JSON: Do not know how to serialize a BigInt',
      'bad_message: metadata cannot be told as JSON: it is a function',
      'bad_message: token cannot be told as JSON: Do not know how to serialize a BigInt',
      'new',
      'bad_message: source cannot be told as JSON: Do not know how to serialize a BigInt',
      'done',
      'bad_message: value cannot be told as JSON: Do not know how to serialize a BigInt',
      'bad_message: value cannot be told as JSON: it is undefined',
      'bad_message: layer cannot be told as JSON: Do not know how to serialize a BigInt',
      'joined',
    ]);
    assert.deepEqual(fake.of('join').map(({ metadata }) => metadata), [{ name: 'Ada' }]);
    assert.deepEqual(fake.of('message'), []);
  });
});

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

test('of more tracks than a client can receive the rest is refused, and it can still publish', async () => {
  const tracks = [...Array(300)].map((_, n) => track(`v${n}`));
  /** As the server does. @type {Handle} */
  const handle = (message, send) => {
    if (message.type === 'join') return send(joined('demo', people, tracks)), true;
    const { subscribe, sdp } = message;
    const isLong = JSON.stringify(message).length > 512 * 1024;
    const isTooLarge = message.type === 'offer' && (isLong || subscribe.length > 256 || sdp.match(/^m=/gm).length > 256);
    return isTooLarge && (send({ type: 'error', code: 'too_large', message: 'more than 256 sections', request: message.request }), true);
  };
  await withFakeIn(all, handle, outside, async (tab) => {
    await embed(tab);
    const end = await tab.evaluate(async () => {
      window.refused = [];
      const entered = window.enter({ autoSubscribe: true });
      window.client.on('subscription_failed', (/** @type {any} */ { error }) => window.refused.push(error.code));
      await entered;
      while (window.heard.length + window.refused.length < 300) await new Promise((done) => setTimeout(done, 50));
      return window.end(window.client.publish(window.picture(), { source: 'camera', simulcast: true }));
    });
    assert.equal(end, 'done');
    assert.equal(await tab.evaluate(() => window.heard.length), 240);
    assert.deepEqual(await tab.evaluate(() => window.refused), Array(60).fill('limit'));
    // One that is let go makes room for another one.
    const again = await tab.evaluate(async () => {
      const { client, heard } = window;
      client.unsubscribe(heard[0]);
      while (client.peerConnection.getTransceivers()[0].currentDirection !== 'inactive') await new Promise((done) => setTimeout(done, 50));
      await new Promise((done) => setTimeout(done, 200));
      return window.end(client.subscribe('v299'));
    });
    assert.equal(again, 'done');
  });
});

test('sections of sound that are free make room for pictures where there is none', async () => {
  const tracks = [...Array(240)].map((_, n) => track(`a${n}`, 'audio')).concat([...Array(30)].map((_, n) => track(`v${n}`)));
  /** @type {Handle} */
  const handle = (message, send) => message.type === 'join' && (send(joined('demo', people, tracks)), true);
  await withFakeIn(all, handle, outside, async (tab, fake) => {
    await embed(tab);
    const ends = await tab.evaluate(async () => {
      await window.enter({});
      const { client } = window;
      const sounds = [...Array(240)].map((_, n) => `a${n}`);
      await Promise.all(sounds.map((id) => client.subscribe(id)));
      for (const id of sounds.slice(1)) client.unsubscribe(id);
      const isUsed = (/** @type {any} */ t) => t.currentDirection !== 'inactive';
      while (client.peerConnection.getTransceivers().filter(isUsed).length > 1) await new Promise((done) => setTimeout(done, 50));
      await new Promise((done) => setTimeout(done, 200));
      return Promise.all([...Array(30)].map((_, n) => window.end(client.subscribe(`v${n}`))));
    });
    assert.deepEqual(ends, Array(30).fill('done'));
    const counts = fake.of('offer').map(({ sdp }) => sdp.match(/^m=/gm).length);
    assert.equal(Math.max(...counts), 240);
    const live = await tab.evaluate(() => [window.client.receiver('a0'), window.client.receiver('v29')].map(({ track: { kind, readyState } }) => `${kind} ${readyState}`));
    assert.deepEqual(live, ['audio live', 'video live']);
  });
});

test('a layer that is chosen before its track is received is told when the server knows of it, also after a resume', async () => {
  /** @type {import('ws').WebSocket} */ let wire;
  /** @type {Handle} */
  const handle = (message, send, socket) => {
    wire = socket;
    if (message.type === 'resume') return send({ ...joined('demo', people, [track('a'), track('b')]), resumed: true }), true;
    return message.type === 'join' && (send(joined('demo', people, [track('a'), track('b')])), true);
  };
  await withFakeIn(all, handle, outside, async (tab, fake) => {
    await embed(tab);
    await tab.evaluate(async () => {
      await window.enter({});
      for (const id of ['a', 'b', 'nobody']) window.client.setLayer(id, 1);
      await window.client.subscribe('a');
    });
    // What a page has said is on its way when a call of its has ended.
    await until('the layer of a is told', () => fake.of('layer').length === 1);
    wire.terminate();
    await until('it is back, and told again', () => fake.of('resume').length === 1 && fake.of('layer').length === 2);
    await tab.evaluate(() => window.client.subscribe('b'));
    await until('the layer of b is told', () => fake.of('layer').length === 3);
    const told = fake.log.map(({ type, track: id, subscribe }) => (type === 'layer' ? id : (subscribe?.map((/** @type {any} */ one) => one.track).join() ?? type)));
    assert.deepEqual(told, ['join', 'a', 'a', 'resume', 'a', 'b', 'b']);
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

test('what a page says faster than the real server listens is heard later, and so is its goodbye', async () => {
  await all.withTabs('talkative', ['Ada', 'Grace'], async ([ada, grace]) => {
    await flows(grace, { videos: 1, audios: 1 });
    await ada.evaluate(() => {
      const { client } = window.moonring;
      window.heard = [];
      client.on('error', (/** @type {any} */ { code }) => window.heard.push(code));
      client.on('state', (/** @type {any} */ { state }) => window.heard.push(state));
      const [track] = client.tracks.keys();
      for (let n = 0; n < 260; n++) {
        client.send({ type: 'chat', text: String(n) });
        client.setLayer(track, n % 3);
      }
    });
    const texts = () => grace.evaluate(() => window.moonring.messages.map((/** @type {any} */ { text }) => text));
    await until('all was heard', async () => (await texts()).length === 260);
    assert.deepEqual(await texts(), [...Array(260)].map((_, n) => String(n)));
    assert.deepEqual(await ada.evaluate(() => window.heard), []);
    const others = () => grace.evaluate(() => window.moonring.client.clients.size);
    assert.equal(await others(), 1);
    await ada.evaluate(() => {
      const { client } = window.moonring;
      for (let n = 0; n < 260; n++) client.send({ type: 'chat', text: String(n) });
      client.leave();
    });
    await until('she has left', async () => (await others()) === 0, 5000); // the ticket would keep her for 15 s
  }, { token: TOKEN });
});
