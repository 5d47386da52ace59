// @ts-check
// Real browsers behind slow links: node tests/networks/run.mjs [scene ...] [--seconds N] [--lifted N] [--call N] [--alive N] [--cut MS]. See README.md.
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ARTIFACTS } from '../e2e/lib.mjs';
import { chart } from './lib/chart.mjs';
import { behindHarm } from './lib/harm.mjs';
import { moveNetwork } from './lib/move.mjs';
import { createNet } from './lib/net.mjs';
import { outages } from './lib/outage.mjs';
import { directly, throughServer, twoParty } from './lib/scene.mjs';
import { skipped } from './lib/sample.mjs';
import { startServer } from './lib/server.mjs';

/** @typedef {import('./lib/scene.mjs').Row} Row */

const args = process.argv.slice(2);
/** @param {string} name @param {number} otherwise */
const option = (name, otherwise) => {
  const at = args.indexOf(`--${name}`);
  return at < 0 ? otherwise : Number(args.splice(at, 2)[1]);
};
const times = { limited: option('seconds', 24), lifted: option('lifted', 25) };
const call = option('call', 30);
const alive = option('alive', 30);
const cut = option('cut', 0);

/** @type {Record<string, (net: import('./lib/net.mjs').Net, server: import('./lib/server.mjs').Server) => Promise<Row[]>>} */
const SCENES = {
  room: (net, server) => throughServer(net, server, { name: 'all in one room', kbps: [3000, 600, 200], times }),
  3000: (net, server) => throughServer(net, server, { name: 'alone 3000', kbps: [3000], times }),
  600: (net, server) => throughServer(net, server, { name: 'alone 600', kbps: [600], times }),
  200: (net, server) => throughServer(net, server, { name: 'alone 200', kbps: [200], times }),
  'tcp-3000': (net, server) => throughServer(net, server, { name: 'tcp 3000', kbps: [3000], times, overTcp: true }),
  'tcp-600': (net, server) => throughServer(net, server, { name: 'tcp 600', kbps: [600], times, overTcp: true }),
  'direct-3000': (net, server) => directly(net, server, { name: 'direct 3000', kbps: 3000, times }),
  'direct-600': (net, server) => directly(net, server, { name: 'direct 600', kbps: 600, times }),
  'direct-200': (net, server) => directly(net, server, { name: 'direct 200', kbps: 200, times }),
  home: (net, server) => throughServer(net, server, { name: 'at home', kbps: [1400, 1400], times, heights: { 1400: 270 }, isHome: true }),
  call: (net, server) => twoParty(net, server, call),
  // Chromium makes two spatial layers of 960x540. Of those without, all have the whole height, and fewer pictures.
  'svc-vp9': (net, server) => withLayersInside(net, server, 'L3T3_KEY', 'vp9', { heights: { 600: 270 } }),
  'svc-av1': (net, server) => withLayersInside(net, server, 'L1T3', 'av1', { bitrate: 1_000_000, heights: { 600: 540 } }),
  'svc-vp8': (net, server) => withLayersInside(net, server, 'L1T3', 'vp8', { bitrate: 1_000_000, heights: { 600: 540 } }),
  'direct-svc-vp9': (net, server) => directly(net, server, { name: 'direct vp9 L3T3_KEY', kbps: 600, times, sending: { codec: 'vp9', svc: 'L3T3_KEY' } }),
  'direct-svc-av1': (net, server) => directly(net, server, { name: 'direct av1 L1T3', kbps: 600, times, sending: { codec: 'av1', svc: 'L1T3', bitrate: 1_000_000 } }),
  'direct-svc-vp8': (net, server) => directly(net, server, { name: 'direct vp8 L1T3', kbps: 600, times, sending: { codec: 'vp8', svc: 'L1T3', bitrate: 1_000_000 } }),
};

/** One stream with layers inside, to a receiver behind 600 kbit/s.
 *  @param {import('./lib/net.mjs').Net} net @param {import('./lib/server.mjs').Server} server @param {string} svc @param {string} codec
 *  @param {{bitrate?: number, heights: Record<string, number>}} more */
function withLayersInside(net, server, svc, codec, { bitrate = 0, heights }) {
  const sending = { svc, codec, simulcast: 0, bitrate };
  return throughServer(net, server, { name: `${codec} ${svc}`, kbps: [600], times, sending, heights });
}
/** Scenes with a line of figures of their own. @type {Record<string, (net: import('./lib/net.mjs').Net, server: import('./lib/server.mjs').Server) => Promise<void>>} */
const OTHERS = {
  move: (net, server) => moveNetwork(net, server, alive),
  outage: (net, server) => outages(net, server, { length: cut }),
  'tcp-outage': (net, server) => outages(net, server, { overTcp: true, length: cut }),
  'direct-outage': (net, server) => outages(net, server, { isDirect: true, length: cut }),
  loss: (net, server) => behindHarm(net, server, { name: 'loss', harm: { delayMs: 10, lossPercent: 5 }, goal: { frames: 0.99, concealed: 0.02, frozen: 0.01 }, seconds: call }),
  'tcp-loss': (net, server) => behindHarm(net, server, { name: 'tcp-loss', harm: { delayMs: 50, lossPercent: 3 }, goal: { frames: 0.6, concealed: 0.02, frozen: 0.1 }, seconds: call, overTcp: true }),
  jitter: (net, server) => behindHarm(net, server, { name: 'jitter', harm: { delayMs: 50, jitterMs: 30 }, goal: { frames: 0.99, concealed: 0.02, frozen: 0 }, seconds: call }),
};
const all = [...Object.keys(SCENES), ...Object.keys(OTHERS)];
const chosen = args.length > 0 ? args : all;
const unknown = chosen.filter((name) => !all.includes(name));
if (unknown.length > 0) throw new Error(`unknown: ${unknown.join()}; there are: ${all.join()}`);

/** @type {Row[]} */ const rows = [];
for (const name of chosen) {
  const net = createNet();
  try {
    const server = await startServer(net.hub, name.startsWith('tcp') ? ['--media-tcp'] : []);
    try {
      if (OTHERS[name]) await OTHERS[name](net, server);
      else rows.push(...(await SCENES[name](net, server)));
    } catch (error) {
      console.error(`${name}: ${error}\n${server.log().slice(-2000)}`);
      process.exitCode = 1;
    } finally {
      await server.stop();
    }
  } finally {
    net.remove();
  }
}

const percent = (/** @type {number} */ share) => `${(share * 100).toFixed(1)} %`;
const cells = (/** @type {Row} */ r) => [
  r.scene, r.link, r.phase, `${r.height}/${r.wanted}`, r.reached === undefined ? 'never' : `${r.reached.toFixed(1)} s`, percent(r.stays), String(r.switches),
  r.fps.toFixed(1), String(r.freezes), percent(r.frozen), encoderSkipped(r), percent(r.dropped), percent(r.resent), r.kbps.toFixed(0), keyFrames(r), missed(r).join(', ') || 'ok',
];

/** How many key frames the publisher made in the whole scene, after the first; and what
 *  the server has asked it for them for. @param {Row} row */
function keyFrames({ sending = [], asked = {} }) {
  const made = (/** @type {any} */ sent) => Math.max(0, ...(sent?.layers ?? []).map((/** @type {any} */ layer) => layer.keyFramesEncoded ?? 0));
  const needs = Object.entries(asked).filter(([, count]) => count > 0);
  const count = sending.length > 0 ? String(made(sending.at(-1)) - made(sending[0])) : '-';
  return needs.length > 0 ? `${count} (${needs.map((need) => need.join(' ')).join(', ')})` : count;
}

/** How long the publisher's encoder made no pictures of the layer: nobody could have seen any. @param {Row} row */
const encoderSkipped = (row) => (row.encoded ? percent(skipped(row.encoded, row)) : '-');

/** The goals that a row misses. A direct connection is a yardstick and misses none. @param {Row} row */
function missed({ scene, phase, reached, stays, frozen, dropped }) {
  if (scene.startsWith('direct')) return [];
  // How large the pictures of one stream are, its encoder decides by itself.
  const isOneStream = / L\dT\d/.test(scene);
  /** @type {[string, boolean][]} */
  const goals = [
    ['height in time', isOneStream || (reached !== undefined && reached <= (phase === 'limited' ? 10 : 15))],
    ['stays', isOneStream || stays >= 0.95],
    ['freezes', phase === 'lifted' || frozen < 0.01],
    ['drops', dropped <= 0.05],
  ];
  return goals.filter(([, met]) => !met).map(([goal]) => goal);
}

if (rows.length === 0) process.exit();
const head = ['SCENE', 'LINK', 'PHASE', 'HEIGHT', 'REACHED', 'STAYS', 'SWITCHES', 'FPS', 'FREEZES', 'FROZEN', 'SKIPPED', 'DROPPED', 'RESENT', 'KBIT/S', 'KEYS', 'MISSED'];
const table = [head, ...rows.map(cells)];
const widths = head.map((_, n) => Math.max(...table.map((line) => line[n].length)));
for (const line of table) console.log(line.map((cell, n) => cell.padEnd(widths[n])).join('  ').trimEnd());

mkdirSync(ARTIFACTS, { recursive: true });
writeFileSync(join(ARTIFACTS, 'networks.json'), JSON.stringify(rows, null, 1));
writeFileSync(join(ARTIFACTS, 'networks.svg'), chart(rows));
if (rows.some((row) => missed(row).length > 0)) process.exitCode = 1;
