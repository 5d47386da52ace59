// What a video is sent as when somebody, or nobody, receives its layers: no browser is needed for that.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { adapt } from '../../web/layers.js';

test('upper spatial layers that nobody receives are not made, and come back', () => {
  for (const [scalabilityMode, told, wanted, expected] of /** @type {[string, number, number[] | null, [boolean, string, number]][]} */ ([
    ['L3T3_KEY', 0, null, [true, 'L3T3_KEY', 1]],
    ['L3T3_KEY', 3, [0, 1, 2], [true, 'L3T3_KEY', 1]],
    ['L3T3_KEY', 3, [0, 1], [true, 'L2T3_KEY', 2]],
    ['L3T3_KEY', 3, [0], [true, 'L1T3', 4]],
    ['L3T3_KEY', 3, [], [false, 'L3T3_KEY', 1]],
    ['L3T3_KEY', 2, [0], [true, 'L2T3_KEY', 2]], // the browser makes fewer of a small picture
    ['L2T1h', 2, [0], [true, 'L1T1', 1.5]],
    ['L1T3', 1, [0], [true, 'L1T3', 1]],
  ])) {
    for (const before of [{}, { scalabilityMode: 'L2T3_KEY', scaleResolutionDownBy: 2 }]) {
      if (before.scalabilityMode && !scalabilityMode.startsWith('L3')) continue;
      /** @type {import('../../web/layers.js').Encoding[]} */ const layers = [{ scalabilityMode, ...before }];
      adapt(layers, { wanted, told, scalabilityMode });
      const [{ active, scalabilityMode: mode, scaleResolutionDownBy = 1 }] = layers;
      assert.deepEqual([active, mode, scaleResolutionDownBy], expected, `${scalabilityMode} ${told} ${wanted}`);
      assert.equal(adapt(layers, { wanted, told, scalabilityMode }), false, 'nothing is left to change');
    }
  }
});
