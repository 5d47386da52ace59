// NATS and the nodes, each in its namespace.
import { execFile, spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { ADDRESSES, NODES, namespaceOf } from './net.mjs';

const ROOT = fileURLToPath(new URL('../../..', import.meta.url));
const NATS = join(ROOT, 'target/nats/bin/nats-server');
const BINARY = process.env.MOONRING_BIN ?? join(ROOT, 'target/debug/moonring');
const START_MS = 30_000;
/** The cluster's secret, unless a scenario changes it. */
export const SECRET = 'the secret of the test cluster';
export const ONE_SHARD = ['--shards', '1'];
const run = promisify(execFile);

/** The address of a node's WebSockets. */
export const socketOf = (node) => `ws://${ADDRESSES[node]}:8080/ws`;

export class Servers {
  #id;
  #folder = mkdtempSync(join(tmpdir(), 'cluster-'));
  #running = new Map();
  /** The log of each. */ logs = new Map();
  #extra;

  /** `extra` are further settings of the nodes. */
  constructor(id, extra) {
    this.#id = id;
    this.#extra = extra;
    this.setSecrets([SECRET]);
  }

  async start(place) {
    const folder = join(this.#folder, place);
    const command = place === 'nats' ? [NATS, '-a', ADDRESSES.nats, '-js', '-sd', folder] : [BINARY, ...this.#settings(place, folder)];
    const child = spawn('ip', ['netns', 'exec', namespaceOf(this.#id, place), ...command], { stdio: ['ignore', 'pipe', 'pipe'] });
    this.#running.set(place, child);
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (text) => this.logs.set(place, (this.logs.get(place) ?? '') + text));
    child.exited = new Promise((done) => child.on('exit', done));
    if (place !== 'nats') await until(`${place} takes part`, () => this.nodes(place).then((nodes) => nodes.length > 0));
  }

  /** The secrets of nodes that are started from now on, of which the first one seals. */
  setSecrets(secrets) {
    writeFileSync(join(this.#folder, 'secret'), secrets.map((secret) => `${secret}\n`).join(''));
  }

  /** Sends a signal; after SIGKILL the process is gone. */
  async signal(place, signal) {
    const child = this.#running.get(place);
    process.kill(child.pid, signal);
    if (signal === 'SIGKILL') await child.exited;
  }

  /** Waits until a process has ended. */
  exited(place) {
    return this.#running.get(place).exited;
  }

  /** The nodes as one of them sees them. */
  async nodes(place) {
    return this.#ask(place, 'nodes');
  }

  /** The rooms of one node, by name. */
  async rooms(place) {
    return (await this.#ask(place, 'rooms?limit=2000')).rooms ?? [];
  }

  /** A folder for what a scenario writes. */
  folder(name) {
    const folder = join(this.#folder, name);
    mkdirSync(folder, { recursive: true });
    return folder;
  }

  /** What a node's operator does: `moonring WORDS...`; the exit code, and what was said. */
  async command(place, ...words) {
    const args = ['netns', 'exec', namespaceOf(this.#id, place), BINARY, ...words];
    const said = await run('ip', args).catch((error) => error);
    return { code: said.code ?? 0, output: `${said.stdout}${said.stderr}` };
  }

  /** An order at the admin pages of one node; the status. */
  async order(place, path, body = {}) {
    const given = ['-X', 'POST', '-H', 'content-type: application/json', '-d', JSON.stringify(body), '-o', '/dev/null', '-w', '%{http_code}'];
    return Number(await this.#get(place, path, given));
  }

  /** A metric of one node, all its labels together. */
  async metric(place, name) {
    const page = await this.#get(place, 'metrics');
    const lines = page.split('\n').filter((line) => line.startsWith(name));
    return lines.reduce((sum, line) => sum + Number(line.split(' ').at(-1)), 0);
  }

  /** All nodes see all others alive. */
  async settled(nodes = NODES) {
    await until('all nodes see each other', async () => {
      const views = await Promise.all(nodes.map((node) => this.nodes(node)));
      return views.every((view) => view.filter(({ verdict }) => verdict === 'alive').length === nodes.length - 1);
    });
  }

  stop() {
    for (const child of this.#running.values()) child.kill('SIGKILL');
    rmSync(this.#folder, { recursive: true, force: true, maxRetries: 5 });
  }

  #settings(place, folder) {
    const address = ADDRESSES[place];
    return [
      ...['--cluster', `nats://${ADDRESSES.nats}:4222`, '--cluster-secret-file', join(this.#folder, 'secret'), '--node', place],
      ...['--advertised-url', `http://${address}:8080/`, '--listen', `${address}:8080`, '--insecure-http', '--data-dir', folder],
      ...['--media-ip', address, '--scripts-dir', join(ROOT, 'scripts'), '--shutdown-grace-s', '1'],
      ...['--connections-per-address', '0', '--clients-per-address', '0', '--rooms-per-address', '0'],
      ...this.#extra,
    ];
  }

  async #ask(place, path) {
    return JSON.parse((await this.#get(place, path)) || '{}');
  }

  async #get(place, path, more = []) {
    const args = ['netns', 'exec', namespaceOf(this.#id, place), 'curl', '-s', '--max-time', '3', ...more, `http://127.0.0.1:8081/${path}`];
    return (await run('ip', args, { maxBuffer: 1 << 26 }).catch(() => ({ stdout: '' }))).stdout;
  }
}

/** Waits until something is so. */
export async function until(what, isSo, patience = START_MS) {
  const end = performance.now() + patience;
  while (performance.now() < end) {
    if (await isSo()) return;
    await sleep(50);
  }
  throw new Error(`not within ${patience / 1000} s: ${what}`);
}
