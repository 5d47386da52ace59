#!/usr/bin/env node
// Foreign clients against the server: node run.mjs [all|fast|client[:codec[:direction]]]... (README.md)
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { CLIENTS, PARTNER } from './clients/index.mjs';
import { install, progress } from './lib/install.mjs';
import { failures, passes, table } from './lib/matrix.mjs';
import { measure } from './lib/measure.mjs';
import { createNamespace } from './lib/netns.mjs';
import { ARTIFACTS, ROOT } from './lib/paths.mjs';
import { cells, measurements, needed } from './lib/plan.mjs';
import { startServer } from './lib/server.mjs';

/** Bound of a measurement, should everything else fail to end it. */
const MEASUREMENT_MS = 300_000;

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    bin: { type: 'string', default: process.env.MOONRING_BIN ?? join(ROOT, 'target/debug/moonring') },
    seconds: { type: 'string', default: '5' },
    jobs: { type: 'string', default: '2' },
    partner: { type: 'string', default: PARTNER },
    retries: { type: 'string', default: '1' },
    picture: { type: 'string' },
    'over-tcp': { type: 'boolean', default: false },
    list: { type: 'boolean', default: false },
  },
});

async function main() {
  if (options.list) return list();
  if (options['over-tcp']) process.env.CLIENTS_OVER_TCP = '1';
  const runs = measurements(cells(positionals), options.partner);
  if (runs.length === 0) throw new Error(`${options.partner} has none of these codecs`);
  install(needed(runs));
  mkdirSync(ARTIFACTS, { recursive: true });
  const namespace = createNamespace();
  const scratch = mkdtempSync(join(tmpdir(), 'moonring-clients-'));
  let server;
  const cleanUp = async () => {
    await server?.stop(join(ARTIFACTS, 'clients-server.log'));
    namespace.remove();
    rmSync(scratch, { recursive: true, force: true, maxRetries: 5 });
  };
  for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => cleanUp().finally(() => process.exit(130)));
  let results = [];
  const started = Date.now();
  try {
    server = await startServer(options.bin, namespace.server, options['over-tcp'] ? ['--media-tcp'] : []);
    const where = { server, namespace: namespace.name, scratch };
    progress(`${runs.length} measurements of ${options.seconds} s, ${options.jobs} at a time`);
    const queue = runs.map((run, index) => ({ ...run, room: `clients-${index}` }));
    const failed = [];
    const worker = async () => {
      for (let run = queue.shift(); run; run = queue.shift()) {
        const mine = await one(run, where);
        if (!mine.every(passes)) failed.push(run);
        results.push(...mine);
      }
    };
    await Promise.all(Array.from({ length: Number(options.jobs) }, worker));
    // A busy machine fails some: those again, one at a time. The table says which needed it.
    for (const run of Number(options.retries) > 0 ? failed : []) {
      const again = await one({ ...run, room: `${run.room}-again` }, where);
      results = [...results.filter(({ room }) => room !== run.room), ...again.map((r) => ({ ...r, tries: 2 }))];
    }
  } finally {
    await cleanUp();
  }
  return report(results, (Date.now() - started) / 1_000);
}

/** A measurement, as results of the cells it fills. */
async function one(run, where) {
  const { server } = where;
  const { publisher, receiver, video, audio, room, fills } = run;
  const title = `${publisher.name} -> ${receiver.name}, ${video}${audio ? ' and opus' : ''}`;
  const logged = server.log().length;
  const setting = { ...run, ...where, seconds: Number(options.seconds), picture: picture() };
  const result = server.alive() ? await bounded(measure(setting)) : { error: 'the server has ended' };
  const height = result.video?.lowest ? `, never less than ${result.video.lowest} lines` : '';
  const figure = (kind) => (result[kind] ? ` ${kind} ${result[kind].decoded}/${result[kind].sent}` : '');
  const outcome = result.error ?? `decoded of sent:${figure('video')}${figure('audio')}${height}`;
  progress(`${title}: ${outcome}`);
  const server_log = server.log().slice(logged).split('\n').filter((line) => line.includes(room));
  return fills.map(({ client, codec, direction }) => ({
    client: client.name,
    version: result.versions?.[direction],
    codec,
    direction,
    partner: (direction === 'publish' ? receiver : publisher).name,
    ...result[codec === 'opus' ? 'audio' : 'video'],
    error: result.error,
    room,
    logs: result.logs,
    server_log,
  }));
}

/** `--picture 1280x720@20`, for browsers, whose pictures are of any size. */
function picture() {
  if (options.picture === undefined) return undefined;
  const [, width, height, fps] = /^(\d+)x(\d+)@(\d+)$/.exec(options.picture)?.map(Number) ?? [];
  if (!fps) throw new Error(`--picture ${options.picture}: WIDTHxHEIGHT@FPS is meant, for example 1280x720@20`);
  return { width, height, fps };
}

function bounded(promise) {
  let late;
  const bound = new Promise((done) => {
    late = setTimeout(() => done({ error: `not over within ${MEASUREMENT_MS / 1_000} s` }), MEASUREMENT_MS);
  });
  const contained = promise.catch((error) => ({ error: `the driver failed: ${error.stack}` }));
  return Promise.race([contained, bound]).finally(() => clearTimeout(late));
}

function report(results, seconds) {
  const names = CLIENTS.map(({ name }) => name);
  results.sort((a, b) => names.indexOf(a.client) - names.indexOf(b.client));
  const cellsOfJson = results.map(({ logs, server_log, room, ...cell }) => {
    const passed = passes(cell);
    return passed ? { ...cell, passed } : { ...cell, passed, logs, server_log };
  });
  const file = join(ARTIFACTS, 'clients.json');
  writeFileSync(file, `${JSON.stringify({ seconds: Math.round(seconds), cells: cellsOfJson }, undefined, 2)}\n`);
  console.log(`\nFrames decoded of frames sent (opus: packets of 20 ms)\n\n${table(results)}\n`);
  const failed = results.filter((result) => !passes(result)).length;
  if (failed > 0) console.log(`${failures(results)}\n`);
  console.log(`${Math.round(seconds)} s; also in ${file}, the server's log in artifacts/clients-server.log`);
  console.log(`${results.length - failed} passed, ${failed} failed`);
  return failed > 0 ? 1 : 0;
}

function list() {
  for (const { name, what, publish, receive, fast } of CLIENTS) {
    const codecs = (list) => list.join(', ') || 'nothing';
    console.log(`${name}${fast ? ' (fast)' : ''}: ${what}\n    publishes ${codecs(publish)}; receives ${codecs(receive)}`);
  }
  return 0;
}

process.exit(
  await main().catch((error) => {
    console.error(`\n${error.message}`);
    return 1;
  }),
);
