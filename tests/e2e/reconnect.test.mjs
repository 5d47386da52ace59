// @ts-check
// What client.js does when its connection is lost, against a server that answers as each test wants.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { answer, joined, track, withFakeIn } from './fake.mjs';
import { keepScreenshot, shared, sleep, until } from './lib.mjs';

/** @typedef {import('./fake.mjs').Handle} Handle */
/** @typedef {import('./fake.mjs').Send} Send */
/** @typedef {import('./lib.mjs').Tab} Tab */

const all = shared();
const people = [{ client: 'other', metadata: { name: 'Grace' } }];
/** @type {(tab: Tab) => Promise<string[][]>} */
const heard = (tab) => tab.evaluate(() => window.heard);

/** Keeps every socket; `last` is the newest. */
function sockets() {
  /** @type {{send: Send, socket: import('ws').WebSocket}[]} */ const list = [];
  /** @type {Handle} */
  const handle = (message, send, socket) => {
    if (list.at(-1)?.socket !== socket) list.push({ send, socket });
  };
  return { list, handle, last: () => list[list.length - 1] };
}

/** Collects the events of the page's client from now on. @param {Tab} tab @param {string[]} names */
function listen(tab, names) {
  return tab.evaluate((wanted) => {
    window.heard = [];
    for (const name of wanted) {
      window.moonring.client.on(name, (/** @type {any} */ detail) => {
        window.heard.push([name, detail.state ?? detail.track?.id ?? detail.track ?? detail.client ?? detail.reason]);
      });
    }
  }, names);
}

test('a lost socket is resumed with the ticket, and each resume with a new one', async () => {
  const wires = sockets();
  await withFakeIn(all, wires.handle, { media: 'test' }, async (tab, fake) => {
    await tab.waitForFunction(() => window.moonring.published.camera && window.moonring.published.mic);
    await tab.evaluate(() => (window.before = window.moonring.client.peerConnection));
    await listen(tab, ['state', 'closed']);
    for (const times of [1, 2]) {
      wires.last().socket.terminate();
      await until('it resumed', () => fake.of('resume').length === times);
      await tab.waitForFunction(() => window.moonring.client.joined);
    }
    assert.equal(fake.of('join').length, 1);
    const tickets = fake.of('resume').map(({ ticket }) => ticket);
    assert.equal(new Set(tickets).size, 2);
    assert.ok(await tab.evaluate(() => window.before === window.moonring.client.peerConnection), 'media goes on');
    assert.deepEqual(await heard(tab), ['reconnecting', 'joined', 'reconnecting', 'joined'].map((state) => ['state', state]));
  });
});

test('what changed while the socket was lost comes as events, own tracks too', async () => {
  const wires = sockets();
  const fresh = { client: 'new', metadata: { name: 'Linus' } };
  /** @type {string[]} */ let own = [];
  /** @type {Handle} */
  const handle = (message, send, socket) => {
    wires.handle(message, send, socket);
    if (message.type === 'join') return send(joined('demo', people, [track('a'), track('b')])), true;
    if (message.type !== 'resume') return false;
    const mine = own.map((id) => ({ ...track(id, 'audio', 'me'), muted: false }));
    send({ ...joined('demo', [fresh], [track('b'), track('c', 'video', 'new')], mine), resumed: true });
    return true;
  };
  await withFakeIn(all, handle, { media: 'test' }, async (tab, fake) => {
    await tab.waitForFunction(() => window.moonring.received.size === 2 && window.moonring.published.camera && window.moonring.published.mic);
    own = [await tab.evaluate(() => window.moonring.published.mic.id)];
    await listen(tab, ['client_joined', 'client_left', 'track_published', 'track_unpublished', 'media']);
    // Muted while nobody hears of it: said again after the resume.
    await tab.evaluate(() => {
      window.moonring.client.reconnect();
      window.moonring.published.mic.setMuted(true);
    });
    await tab.waitForFunction(() => window.moonring.received.has('c'));
    assert.deepEqual(await heard(tab), [
      ['track_unpublished', 'a'],
      ['client_left', 'other'],
      ['client_joined', 'new'],
      ['track_published', 'c'],
      ['media', 'c'],
    ]);
    assert.deepEqual(fake.of('mute'), [{ type: 'mute', track: own[0], muted: true }]);
    await tab.getByText('The room has ended your video').first().waitFor(); // the camera is not among `own`
  });
});

test('an expired ticket means joining anew: published again as muted as it was, subscribed again', async () => {
  const wires = sockets();
  let lives = 0;
  /** @type {Handle} */
  const handle = (message, send, socket) => {
    wires.handle(message, send, socket);
    if (message.type === 'join') return send({ ...joined('demo', people, [track('a')]), client: `me-${++lives}` }), true;
    if (message.type !== 'resume') return false;
    send({ type: 'error', code: 'ticket', message: 'the ticket is not known here' });
    socket.close();
    return true;
  };
  await withFakeIn(all, handle, { media: 'test' }, async (tab, fake) => {
    await tab.waitForFunction(() => window.moonring.published.camera && window.moonring.published.mic && window.moonring.received.has('a'));
    await tab.getByRole('button', { name: 'Mute', exact: true }).click();
    await until('it is muted', () => fake.of('mute').length === 1);
    const before = await tab.evaluate(() => [window.moonring.published.mic.id, window.moonring.received.get('a').id]);
    await listen(tab, ['state', 'media', 'client_left', 'track_unpublished']);
    wires.last().socket.terminate();
    await until('it joined again', () => fake.of('join').length === 2);
    await until('it is published and muted again', () => fake.of('mute').length === 2);
    await until('media is there again', async () => (await heard(tab)).some(([name]) => name === 'media'));
    const after = await tab.evaluate(() => [window.moonring.published.mic.id, window.moonring.received.get('a').id]);
    assert.ok(after[0] !== before[0] && after[1] !== before[1]);
    assert.deepEqual(fake.of('mute')[1], { type: 'mute', track: after[0], muted: true });
    assert.deepEqual(await tab.evaluate(() => [window.moonring.media.mic.enabled, window.moonring.media.camera.enabled]), [false, true]);
    await tab.getByRole('button', { name: 'Unmute' }).waitFor();
    assert.equal(await tab.evaluate(() => window.moonring.client.id), 'me-2');
    assert.deepEqual((await heard(tab)).map(([, what]) => what), ['reconnecting', 'joined', 'a']);
    assert.equal(await tab.locator('.tile').count(), 2);
  });
});

test('`resume` goes on with the ticket over another socket at once', async () => {
  const wires = sockets();
  await withFakeIn(all, wires.handle, {}, async (tab, fake) => {
    wires.last().send({ type: 'resume' });
    await until('it resumed', () => fake.of('resume').length === 1);
    await tab.waitForFunction(() => window.moonring.client.joined);
    assert.equal(fake.of('join').length, 1);
  });
});

test('`restarting` joins anew without the ticket, after a pause', async () => {
  const wires = sockets();
  await withFakeIn(all, wires.handle, {}, async (tab, fake) => {
    wires.last().send({ type: 'restarting', reason: 'a new version' });
    await until('it joined again', () => fake.of('join').length === 2);
    assert.equal(fake.of('resume').length, 0);
    await tab.waitForFunction(() => window.moonring.client.joined);
  });
});

test('after `kicked`, `closing` and `rejected` nobody comes back', async () => {
  for (const [type, words] of [['kicked', 'You were put out: Be nice'], ['closing', 'Be nice']]) {
    const wires = sockets();
    await withFakeIn(all, wires.handle, {}, async (tab, fake) => {
      wires.last().send({ type, reason: 'Be nice' });
      await tab.locator('#reason', { hasText: words }).waitFor();
      await sleep(800);
      assert.equal(fake.of('join').length + fake.of('resume').length, 1);
    });
  }
  const wires = sockets();
  let joins = 0;
  /** @type {Handle} */
  const handle = (message, send, socket) => {
    wires.handle(message, send, socket);
    if (message.type === 'resume') return send({ type: 'error', code: 'ticket', message: 'expired' }), socket.close(), true;
    return message.type === 'join' && ++joins === 2 && (send({ type: 'rejected', reason: 'The room is full' }), true);
  };
  await withFakeIn(all, handle, {}, async (tab, fake) => {
    wires.last().socket.terminate();
    await tab.locator('#reason', { hasText: 'You may not join: The room is full' }).waitFor();
    await sleep(800);
    assert.equal(fake.of('join').length, 2);
  });
});

test('while the server is away the page says so, keeps the focus, and tries again; leaving ends it', async () => {
  const wires = sockets();
  await withFakeIn(all, wires.handle, { media: 'test' }, async (tab, fake) => {
    await tab.waitForFunction(() => window.moonring.published.mic);
    await tab.getByRole('button', { name: 'Mute', exact: true }).focus();
    fake.letIn(false);
    wires.last().socket.terminate();
    await tab.getByText('Reconnecting …').first().waitFor();
    await keepScreenshot(tab, 'reconnecting');
    await sleep(1500);
    fake.letIn(true);
    await tab.waitForFunction(() => window.moonring.client.joined);
    assert.equal(await tab.locator('#banner').isVisible(), false);
    assert.equal(await tab.evaluate(() => document.activeElement?.id), 'mic');
    fake.letIn(false);
    wires.last().socket.terminate();
    await tab.getByText('Reconnecting …').first().waitFor();
    await tab.getByRole('button', { name: 'Leave' }).click();
    await tab.locator('#reason', { hasText: 'You left' }).waitFor();
  });
});

test('an offer whose answer was lost is sent again, and what it had brought about is taken back', async () => {
  const wires = sockets();
  let lost = false;
  /** @type {Handle} */
  const handle = (message, send, socket) => {
    wires.handle(message, send, socket);
    if (message.type === 'offer' && !lost) {
      lost = true;
      socket.terminate();
      return true;
    }
    if (message.type !== 'resume') return false;
    send({ ...joined('demo', people, [track('a')], [track('ghost', 'video', 'me')]), resumed: true });
    return true;
  };
  await withFakeIn(all, handle, { media: 'test' }, async (tab, fake) => {
    await tab.waitForFunction(() => window.moonring.published.camera && window.moonring.published.mic && window.moonring.received.has('a'));
    const [first, question, second] = fake.of('offer');
    assert.deepEqual(question, { ...first, request: question.request, publish: [], subscribe: [] });
    assert.deepEqual(second, { ...first, request: second.request });
    assert.equal(new Set([first, question, second].map(({ request }) => request)).size, 3);
    assert.deepEqual(fake.of('unpublish'), [{ type: 'unpublish', track: 'ghost' }]);
    const order = [question, fake.of('unpublish')[0], second].map((message) => fake.log.indexOf(message));
    assert.deepEqual(order, [...order].sort((a, b) => a - b), 'nothing is taken back before it is asked');
  });
});

test('an answer is not undone by a resume: still decided on, kept for it, or just being used', async () => {
  const slowly = () => {
    const { prototype } = /** @type {any} */ (RTCPeerConnection);
    const set = prototype.setRemoteDescription;
    prototype.setRemoteDescription = async function (/** @type {any} */ description) {
      await new Promise((done) => setTimeout(done, 500));
      return set.call(this, description);
    };
  };
  for (const is of ['undecided', 'kept', 'used']) {
    const wires = sockets();
    /** @type {any} */ let decision;
    /** @type {Handle} */
    const handle = (message, send, socket) => {
      wires.handle(message, send, socket);
      if (message.type === 'join') return send(joined('demo', people, [track('a')])), true;
      if (message.type === 'offer' && !decision) {
        decision = answer(message);
        if (is === 'used') send(decision), setTimeout(() => socket.terminate(), 100);
        else socket.terminate();
        return true;
      }
      if (message.type === 'offer' && is === 'undecided') return setTimeout(() => send(answer(message)), 600), true; // it is held
      if (message.type !== 'resume') return false;
      const own = decision.sections.map((/** @type {any} */ section) => section.track).filter((/** @type {any} */ { client }) => client === 'me');
      // One thing after the other is decided on: a part of it may be there already.
      send({ ...joined('demo', people, [track('a')], is === 'undecided' ? own.slice(0, 1) : own), resumed: true });
      if (is === 'kept') send(decision);
      if (is === 'undecided') setTimeout(() => send(decision), 300);
      return true;
    };
    await withFakeIn(all, handle, { media: 'test' }, async (tab, fake) => {
      await tab.waitForFunction(() => window.moonring.published.camera && window.moonring.published.mic && window.moonring.received.has('a'));
      assert.equal(fake.of('resume').length, 1);
      const [{ publish, subscribe }, ...others] = fake.of('offer');
      assert.deepEqual([publish.length, subscribe.length], [2, 1]);
      assert.deepEqual(others.flatMap((offer) => [...offer.publish, ...offer.subscribe]), []);
      assert.deepEqual([...fake.of('unpublish'), ...fake.of('unsubscribe')], []);
      await tab.getByRole('button', { name: 'Mute', exact: true }).click();
      await until('it is muted', () => fake.of('mute').length === 1);
      const microphone = decision.sections.find((/** @type {any} */ section) => section.track.kind === 'audio');
      assert.equal(fake.of('mute')[0].track, microphone.track.id);
    }, is === 'used' ? { init: slowly } : {});
  }
});

test('a network that comes back, and a machine that wakes, make the client resume and restart ICE', async () => {
  const wires = sockets();
  await withFakeIn(all, wires.handle, { media: 'test' }, async (tab, fake) => {
    await tab.waitForFunction(() => window.moonring.published.camera && window.moonring.published.mic);
    const ufrag = (/** @type {any} */ { sdp }) => /a=ice-ufrag:(\S+)/.exec(sdp)?.[1];
    const offers = fake.of('offer').length;
    await tab.context().setOffline(true);
    await tab.context().setOffline(false);
    await until('it resumed', () => fake.of('resume').length === 1);
    await until('it restarts ICE', () => fake.of('offer').length === offers + 1);
    assert.notEqual(ufrag(fake.of('offer')[offers]), ufrag(fake.of('offer')[0]));
    // A minute passes between two looks at the clock.
    await tab.evaluate(() => {
      const { now } = Date;
      Date.now = () => now() + 60_000;
    });
    // What the socket still has from before is not believed.
    wires.last().send({ type: 'kicked', reason: 'ICE timed out' });
    await until('it resumed again', () => fake.of('resume').length === 2);
    await tab.waitForFunction(() => window.moonring.client.joined);
  });
});

test('a closed page says goodbye at once', async () => {
  await withFakeIn(all, undefined, {}, async (tab, fake) => {
    await tab.goto('about:blank');
    await until('leave arrived', () => fake.of('leave').length === 1);
  });
});

test('the network’s quality, the pauses and the layers that are wanted reach the page and the encoder', async () => {
  const wires = sockets();
  /** @type {Handle} */
  const handle = (message, send, socket) => {
    wires.handle(message, send, socket);
    return message.type === 'join' && (send(joined('demo', people, [track('a')])), true);
  };
  await withFakeIn(all, handle, { media: 'test', width: 640, height: 480, simulcast: 1 }, async (tab, fake) => {
    await tab.waitForFunction(() => window.moonring.published.camera && window.moonring.received.has('a'));
    const { send } = wires.last();
    send({ type: 'track_paused', track: 'a', reason: 'bandwidth' });
    await tab.locator('.tile:not(.mine) .note', { hasText: 'too little bandwidth' }).waitFor();
    send({ type: 'track_resumed', track: 'a' });
    await until('the note is gone', async () => (await tab.textContent('.tile:not(.mine) .note')) === '');
    const active = () =>
      tab.evaluate(() => window.moonring.published.camera.sender.getParameters().encodings.map((/** @type {any} */ e) => e.active));
    const camera = await tab.evaluate(() => window.moonring.published.camera.id);
    assert.deepEqual(await active(), [true, true]); // 640 wide: two layers
    send({ type: 'wanted_layers', track: camera, layers: [0] });
    await until('the second is off', async () => (await active()).join() === 'true,false');
    // The next offer and answer change nothing about it.
    await tab.evaluate(() => window.moonring.client.restartIce());
    await until('it was offered', () => fake.of('offer').at(-1).sdp.includes('a=simulcast:send q;~h'));
    await sleep(300);
    assert.deepEqual(await active(), [true, false]);
    send({ type: 'wanted_layers', track: camera, layers: [] });
    await until('both are off', async () => (await active()).join() === 'false,false');
    send({ type: 'wanted_layers', track: camera, layers: [0, 1] });
    await until('both are on', async () => (await active()).join() === 'true,true');
    // What is told while parameters are being set counts as well.
    for (let n = 0; n < 10; n++) {
      for (const layers of [[], [0, 1]]) send({ type: 'wanted_layers', track: camera, layers });
      await sleep(100);
      assert.deepEqual(await active(), [true, true]);
    }
    // The fake server has no media path, which is as bad as it gets.
    await tab.locator('.tile.mine .network[data-quality="1"]').waitFor();
  });
});

test('a track’s view is the size of its element, and nothing while it is out of sight', async () => {
  /** @type {Handle} */
  const handle = (message, send) =>
    message.type === 'join' && (send(joined('demo', people, [track('a'), track('sound', 'audio')])), true);
  await withFakeIn(all, handle, {}, async (tab, fake) => {
    await tab.waitForFunction(() => window.moonring.received.has('a'));
    const box = (/** @type {string} */ selector) =>
      tab.evaluate((at) => {
        const { clientWidth: width, clientHeight: height } = /** @type {HTMLElement} */ (document.querySelector(at));
        return { width, height };
      }, selector);
    /** Waits until the size is told that the element has. */
    const isTold = () =>
      until('the size is told', async () => {
        const { type, track: id, ...size } = fake.of('view').at(-1) ?? {};
        return id === 'a' && JSON.stringify(size) === JSON.stringify(await box('.tile:not(.mine) video'));
      });
    await isTold();
    await tab.setViewportSize({ width: 500, height: 400 });
    await isTold();
    await tab.evaluate(() => (/** @type {HTMLElement} */ (document.getElementById('tiles')).style.display = 'none'));
    await until('it is told that nobody looks', () => fake.of('view').at(-1).width === 0);
    await tab.evaluate(() => (/** @type {HTMLElement} */ (document.getElementById('tiles')).style.display = ''));
    await until('it is back', () => fake.of('view').at(-1).width > 0);
    // A size that changes all the time is told at most five times a second.
    const before = fake.of('view').length;
    const seconds = await tab.evaluate(async () => {
      const { style } = /** @type {HTMLElement} */ (document.getElementById('tiles'));
      const started = performance.now();
      for (let width = 0; performance.now() - started < 2000; width++) {
        style.width = width % 2 ? '100%' : '50%';
        await new Promise(requestAnimationFrame);
        await new Promise((done) => setTimeout(done, 30));
      }
      return (performance.now() - started) / 1000;
    });
    await sleep(300);
    const changes = fake.of('view').length - before;
    assert.ok(changes > 2 && changes <= seconds * 5 + 2, `${changes} in ${seconds} s`);
    assert.ok(fake.of('view').every(({ track: id }) => id === 'a'));
  });
});

test('a busy server is asked again, and an offer’s error reaches who asked', async () => {
  let times = 0;
  /** @type {Handle} */
  const handle = (message, send) => {
    if (message.type !== 'offer') return false;
    if (++times <= 2) return send({ type: 'error', code: 'busy', message: 'the previous one first', request: message.request }), true;
    return send(answer(message)), true;
  };
  await withFakeIn(all, handle, { media: 'test' }, async (tab, fake) => {
    await tab.waitForFunction(() => window.moonring.published.camera);
    assert.equal(fake.of('offer').length, 3);
    const refused = await tab.evaluate(() => window.moonring.client.subscribe('nothing').catch((/** @type {any} */ e) => [e.name, e.code]));
    assert.deepEqual(refused, ['ClientError', 'unknown_track']);
  });
});
