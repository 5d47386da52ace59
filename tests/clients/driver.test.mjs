// The driver's own parts that need no client.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ivfFrame, ivfFrames, ivfHeader } from './lib/ivf.mjs';
import { passes, table } from './lib/matrix.mjs';
import { quiet } from './lib/measure.mjs';
import { cells, measurements } from './lib/plan.mjs';
import { packetizer } from './lib/rtp.mjs';

const names = (list) => list.map(({ client, codec, direction }) => `${client.name}:${codec}:${direction}`);

test('words choose clients, codecs and directions, each cell once', () => {
  assert.deepEqual(names(cells(['ffmpeg'])), ['ffmpeg:h264:publish', 'ffmpeg:opus:publish']);
  assert.deepEqual(names(cells(['aiortc:vp8', 'aiortc:vp8:receive'])), ['aiortc:vp8:publish', 'aiortc:vp8:receive']);
  assert.throws(() => cells(['netscape']), /there is no client "netscape"/);
  assert.throws(() => cells(['ffmpeg:vp9']), /ffmpeg has no vp9/);
});

test('the partner with itself fills both directions, and sound goes with the first codec', () => {
  const runs = measurements(cells(['chromium:vp8', 'chromium:opus', 'chromium:av1']));
  const seen = runs.map(({ video, audio, fills }) => [video, audio, fills.length]);
  assert.deepEqual(seen, [['vp8', true, 4], ['av1', false, 2]]);
});

test('another partner is possible, and cells of codecs it lacks are left out', () => {
  const runs = measurements(cells(['werift:vp9', 'werift:vp8:publish']), 'aiortc');
  assert.deepEqual(runs.map(({ publisher, receiver, video }) => [publisher.name, receiver.name, video]), [['werift', 'aiortc', 'vp8']]);
});

test('a cell passes from 95 % on, and not with too few frames or an error', () => {
  const table = [[100, 95, true], [100, 94, false], [9, 9, false], [0, 0, false]];
  for (const [sent, decoded, expected] of table) assert.equal(passes({ sent, decoded }), expected, `${decoded}/${sent}`);
  assert.equal(passes({ sent: 100, decoded: 100, error: 'x' }), false);
});

test('the table has a row per client and direction, and says what failed', () => {
  const rows = table([
    { client: 'a', codec: 'vp8', direction: 'publish', sent: 100, decoded: 99, tries: 2 },
    { client: 'a', codec: 'opus', direction: 'publish', sent: 100, decoded: 9 },
    { client: 'a', codec: 'vp8', direction: 'receive', error: 'no connection' },
  ]);
  assert.match(rows, /^a +publish +99\/100 \(2nd try\) +- +- +- +9\/100 FAILED\na +receive +FAILED/m);
});

test('a file gives the frames back that were written, without one that is cut off', () => {
  const frames = ['one', 'three'].map((text, number) => ivfFrame(Buffer.from(text), number));
  const bytes = Buffer.concat([ivfHeader('vp8', { width: 1, height: 1, fps: 1 }), ...frames]);
  assert.deepEqual(ivfFrames(bytes).map(String), ['one', 'three']);
  assert.deepEqual(ivfFrames(bytes.subarray(0, -1)).map(String), ['one']);
});

test('a long NAL unit goes as FU-A, a short one as it is, and a delimiter is left out', () => {
  const nal = (type, length) => Buffer.concat([Buffer.from([0, 0, 0, 1, 0x60 | type]), Buffer.alloc(length - 1, 7)]);
  const packets = packetizer({ kind: 'video', codec: 'h264', payloadType: 96, ssrc: 1 })(
    Buffer.concat([nal(9, 2), nal(7, 10), nal(5, 1_500)]),
    0,
  );
  const types = packets.map((packet) => [packet[12] & 0x1f, packet.length - 12, packet[1] >> 7]);
  assert.deepEqual(types, [[7, 10, 0], [28, 1_102, 0], [28, 401, 1]]);
});

test('a still picture each second does not keep a client moving that reports every 300 ms', async () => {
  const peer = { label: 'slow', reports: 0, counts: { video: 0 } };
  const report = () => (peer.counts.video = Math.floor((peer.reports += 1) * 0.3));
  const timer = setInterval(report, 300);
  await quiet([peer], ['video']).finally(() => clearInterval(timer));
});
