// How good a network is, out of what a browser counts, without a browser: what Chromium reports goes in, grades come out.
import assert from 'node:assert/strict';
import { test } from 'node:test';
// By a text, as the types of these tests are node's and those of web/ a browser's.
const { Quality } = await import(/** @type {string} */ ('../../web/quality.js'));

/** @param {Record<string, any>[]} stats */
const report = (...stats) => new Map(stats.map((one) => [one.id, one]));
const transport = (/** @type {string} */ pair) => ({ type: 'transport', id: 'T', selectedCandidatePairId: pair });
const pair = (/** @type {string} */ id, /** @type {number} */ rtt, more = {}) => ({ type: 'candidate-pair', id, state: 'succeeded', nominated: true, currentRoundTripTime: rtt, ...more });
const told = (/** @type {string} */ id, /** @type {number} */ fractionLost, /** @type {number} */ timestamp) => ({ type: 'remote-inbound-rtp', id, fractionLost, timestamp });
const comes = (/** @type {string} */ id, /** @type {string} */ media, /** @type {number} */ packetsReceived, /** @type {number} */ packetsLost, /** @type {number} */ timestamp) => ({ type: 'inbound-rtp', id, trackIdentifier: media, packetsReceived, packetsLost, timestamp });

/** The grades after each of these reports. @param {Map<string, any>[]} reports @param {Record<string, string>} [publishers] */
function grades(reports, publishers = {}) {
  const quality = new Quality(() => {});
  return reports.map((one) => {
    quality.read(one, { id: 'me', publisherOf: (/** @type {string} */ media) => publishers[media], starved: new Set(), connected: true });
    return Object.fromEntries(quality.grades);
  });
}

test('a path that was left for another one, as after a change of networks, does not count any more', () => {
  const slow = report(transport('old'), pair('old', 1.8));
  const moved = report(transport('new'), pair('old', 1.8), pair('new', 0.03));
  assert.deepEqual(grades([slow, slow, moved, moved, moved]).map(({ me }) => me), [1, 1, 1, 5, 5]);
  // Firefox says of the pair itself that it is used.
  const firefox = report(pair('old', 1.8, { selected: false }), pair('new', 0.03, { selected: true }));
  assert.deepEqual(grades([firefox]), [{ me: 5 }]);
  assert.deepEqual(grades([report(pair('only', 0.5))]), [{ me: 3 }]);
});

test('the last report of a stream that has ended does not count for ever', () => {
  const looks = [1, 2, 3, 4, 5].map((n) => report(told('ended', 0.3, Math.min(n, 2)), told('lives', 0, n)));
  assert.deepEqual(grades(looks).map(({ me }) => me), [1, 1, 1, 5, 5]);
  const lossy = [1, 2, 3].map((n) => report(told('lives', 0.3, n)));
  assert.deepEqual(grades(lossy).map(({ me }) => me), [1, 1, 1]);
});

test('a stream that begins anew under the name of one that has ended, or whose counters do, begins anew', () => {
  const publishers = { m: 'Ada' };
  const before = report(comes('s', 'm', 1000, 0, 1000));
  const none = report();
  const anew = report(comes('s', 'm', 20, 5, 9000)); // who comes late has missed what was before
  const goesOn = report(comes('s', 'm', 120, 5, 11_000));
  assert.deepEqual(grades([before, none, anew, goesOn], publishers).map(({ Ada }) => Ada), [5, undefined, 5, 5]);
  assert.deepEqual(grades([before, anew, goesOn], publishers).map(({ Ada }) => Ada), [5, 5, 5]);
  const loses = report(comes('s', 'm', 1080, 20, 3000));
  assert.deepEqual(grades([before, loses], publishers).map(({ Ada }) => Ada), [5, 1]);
});
