// At what size tracks are shown, without a browser: elements in, words to the server out.
import assert from 'node:assert/strict';
import { test } from 'node:test';

const nothing = () => {};
let now = 0;
/** @type {{then: () => void, at: number}[]} */ const timers = [];
class Observer {
  observe() {}
  unobserve() {}
  disconnect() {}
}
Object.assign(globalThis, {
  ResizeObserver: Observer,
  IntersectionObserver: Observer,
  window: { devicePixelRatio: 1 },
  document: { visibilityState: 'visible', addEventListener: nothing, removeEventListener: nothing },
  setTimeout: (/** @type {() => void} */ then, /** @type {number} */ time) => timers.push({ then, at: now + time }),
  clearTimeout: nothing,
});

// By a text, as the types of these tests are node's and those of web/ a browser's.
const { Views } = await import(/** @type {string} */ ('../../web/views.js'));

/** @param {number} width */
const element = (width) => /** @type {any} */ ({ clientWidth: width, clientHeight: width, addEventListener: nothing, removeEventListener: nothing });

/** Lets time pass. @param {number} time */
function pass(time) {
  const end = now + time;
  for (;;) {
    timers.sort((a, b) => a.at - b.at);
    if (timers.length === 0 || timers[0].at > end) break;
    const { then, at } = /** @type {typeof timers[0]} */ (timers.shift());
    now = at;
    then();
  }
  now = end;
}

test('the sizes of many tracks are told in portions that the server takes, each of them once', () => {
  /** @type {[string, number][]} */ const told = [];
  const views = new Views((/** @type {string} */ track, /** @type {{width: number}} */ { width }) => Boolean(told.push([track, width])));
  const tracks = [...Array(230)].map((_, n) => `t${n}`);
  for (const track of tracks) views.watch(track, element(320));
  /** What a server lets through: 200 at once, and 20 more each second. */
  let tokens = 200;
  for (let second = 0; second < 30; second++) {
    const before = told.length;
    pass(1000);
    tokens = Math.min(200, tokens + 20) - (told.length - before);
    assert.ok(tokens >= 80, `${tokens} left after ${second} s: others have something to say, too`);
  }
  assert.deepEqual(told, tracks.map((track) => [track, 320]));
});

test('a track that was watched and is shown nowhere is paused again when the server has forgotten it', () => {
  /** @type {string[]} */ const told = [];
  let isReceived = true;
  const views = new Views((/** @type {string} */ track, /** @type {{width: number}} */ { width }) => isReceived && Boolean(told.push(`${track} ${width}`)));
  const [shown, left] = [element(320), element(320)];
  views.watch('shown', shown);
  views.watch('left', left);
  views.watch('ended', element(320));
  pass(10_000);
  views.unwatch(left);
  views.forget('ended');
  pass(10_000);
  assert.deepEqual(told.splice(0), ['shown 320', 'left 320', 'ended 320', 'left 0']);
  isReceived = false; // joined anew: the tracks are being asked for
  views.repeat();
  pass(10_000);
  isReceived = true;
  views.refresh();
  pass(10_000);
  assert.deepEqual(told.splice(0).sort(), ['left 0', 'shown 320']);
});
