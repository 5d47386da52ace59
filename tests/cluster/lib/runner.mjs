// Runs scenarios, each with namespaces, NATS and nodes of its own, some of them at the same time.
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { rows } from './found.mjs';
import { NODES, createNet } from './net.mjs';
import { Servers } from './servers.mjs';

const RUN = fileURLToPath(new URL('../run.mjs', import.meta.url));
/** Scenarios that run at the same time, those with media counting as two: they mostly wait, for what is noticed late. */
const PLACES = 4;
const IN_TURN = '--in-turn';
const INSIDE = '--inside';

/**
 * Does what the command line asks for; the exit code. `scenarios` are functions of the servers and their net's id by name, `settingsOf`
 * says with which settings the nodes of one start, `placesOf` how many of the places it takes; the `longest` begin first, and those `byName`
 * only run when they are named.
 */
export async function run(all) {
  const args = process.argv.slice(2);
  if (args[0] === INSIDE) return inside(all, Number(args[1]), args[2]);
  const places = args.includes(IN_TURN) ? 1 : PLACES;
  const wanted = args.filter((arg) => arg !== IN_TURN);
  const unknown = wanted.filter((name) => !(name in all.scenarios));
  if (unknown.length > 0) {
    console.error(`there is no scenario ${unknown}; there are: ${Object.keys(all.scenarios)}; ${IN_TURN} runs one after the other`);
    return 1;
  }
  if (process.getuid() !== 0) {
    console.log('NOT TESTED: three nodes in network namespaces need root: run this as root or with sudo');
    return 0;
  }
  const usual = Object.keys(all.scenarios).filter((name) => !all.byName.includes(name));
  return outside(all, wanted.length > 0 ? wanted : usual, places);
}

/** Runs them, and those that have failed beside others once more alone: what fails then has failed. */
async function outside({ placesOf, longest }, names, places) {
  const running = new Map();
  const all = { placesOf, longest, running, ended: false, number: 0 };
  for (const signal of ['SIGINT', 'SIGTERM']) {
    process.on(signal, () => {
      all.ended = true;
      for (const { stop } of running.values()) stop();
    });
  }
  const results = await runAll(all, names, places);
  const doubted = results.filter(({ code }) => code !== 0);
  const again = places > 1 ? await runAll(all, doubted.map(({ name }) => name), 1) : doubted;
  const failed = again.filter(({ code }) => code !== 0);
  console.table([...results, ...again].filter(({ code }) => code === 0).flatMap((result) => result.rows));
  // Behind everything else: of a long log often only the end is kept.
  for (const { name, why } of doubted) {
    const passed = again.some((other) => other.name === name && other.code === 0);
    if (passed) console.error(`passed alone, failed beside others: ${name}: ${why}`);
  }
  for (const { name, why } of failed) console.error(`failed: ${name}: ${why}`);
  return failed.length > 0 || all.ended ? 1 : 0;
}

/** Runs scenarios as places become free, the longest first, then those that take most places; what came of each. */
async function runAll(all, names, places) {
  const { placesOf, longest, running } = all;
  const costOf = (name) => Math.min(placesOf(name), places);
  const isLong = (name) => Number(longest.includes(name));
  const waiting = names.toSorted((a, b) => isLong(b) - isLong(a) || costOf(b) - costOf(a));
  const results = [];
  while (!all.ended && (waiting.length > 0 || running.size > 0)) {
    const free = places - [...running.keys()].reduce((sum, name) => sum + costOf(name), 0);
    const next = waiting.findIndex((name) => costOf(name) <= free);
    if (next < 0) {
      await Promise.race([...running.values()].map(({ done }) => done));
      continue;
    }
    const [name] = waiting.splice(next, 1);
    const { stop, result } = start(process.pid * 100 + all.number++, name);
    const done = result.then((found) => {
      running.delete(name);
      results.push(found);
      console.log(found.code === 0 ? found.output.trimEnd() : `-- ${name} FAILED\n${found.output}-- end of ${name}`);
    });
    running.set(name, { stop, done });
  }
  await Promise.all([...running.values()].map(({ done }) => done));
  return results;
}

/** Makes the namespaces of one scenario and runs it in their hub, with what it says kept apart. */
function start(id, name) {
  const net = createNet(id);
  const args = ['netns', 'exec', net.hub, process.execPath, RUN, INSIDE, String(id), name];
  const hub = spawn('ip', args, { stdio: ['ignore', 'pipe', 'pipe', 'ipc'] });
  let output = '';
  for (const stream of [hub.stdout, hub.stderr]) stream.on('data', (text) => (output += text));
  let found = { rows: [], why: 'it ended before it said anything' };
  hub.on('message', (message) => (found = message));
  const result = new Promise((done) => hub.on('close', done)).then((code) => {
    net.remove();
    return { name, code: code ?? 1, output, ...found };
  });
  return { stop: () => hub.kill('SIGTERM'), result };
}

/** Tells the runner outside what was found. */
const tell = (found) => new Promise((done) => process.send(found, done));

async function inside({ scenarios, settingsOf }, id, name) {
  const servers = new Servers(id, settingsOf(name));
  const began = performance.now();
  try {
    await servers.start('nats');
    await Promise.all(NODES.map((node) => servers.start(node)));
    await servers.settled();
    await scenarios[name](servers, id);
    console.log(`${name}: ok, ${((performance.now() - began) / 1000).toFixed(1)} s`);
    await tell({ rows });
    return 0;
  } catch (error) {
    for (const [place, log] of servers.logs) console.error(`-- ${place}\n${log.split('\n').slice(-60).join('\n')}`);
    console.error(`\n${error.stack}`);
    await tell({ rows, why: error.message });
    return 1;
  } finally {
    servers.stop();
  }
}
