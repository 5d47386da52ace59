// @ts-check
// The server in the hub of the star, and what it knows of the paths.
import { execFile, spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { BINARY, HERE as E2E, until } from '../../e2e/lib.mjs';
import { SERVER_ADDRESS } from './net.mjs';

const PORT = 18_300;
const ADMIN = 18_301;
const run = promisify(execFile);

/** @typedef {Awaited<ReturnType<typeof startServer>>} Server */
/** @typedef {{client: string, estimate: number | null, target: number | null, paused: number, rtt: number | null, loss: number, resends: number}} Path */

/** @param {string} hub the namespace @param {string[]} [flags] */
export async function startServer(hub, flags = []) {
  const data = mkdtempSync(join(tmpdir(), 'net-server-'));
  const args = ['--listen', `${SERVER_ADDRESS}:${PORT}`, '--admin-listen', `127.0.0.1:${ADMIN}`, '--media-ip', SERVER_ADDRESS];
  if (process.env.NETWORKS_LOG) args.push('--log-filter', 'info,moonring_core=debug');
  args.push('--media-ports', '18310-18319', '--scripts-dir', join(E2E, 'scripts'), '--data-dir', data, '--shards', '1', ...flags);
  const child = spawn('ip', ['netns', 'exec', hub, 'nice', '-n', process.env.NETWORKS_NICE ?? '0', BINARY, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  let log = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (text) => (log += text));
  if (process.env.NETWORKS_LOG) child.on('exit', () => process.stdout.write(log));
  const exited = new Promise((done) => child.on('exit', done));
  const get = async (/** @type {string} */ url) => (await run('ip', ['netns', 'exec', hub, 'curl', '-sk', '--max-time', '2', url])).stdout;
  const url = `https://${SERVER_ADDRESS}:${PORT}`;
  try {
    await until('the server is healthy', async () => {
      if (child.exitCode !== null) throw new Error(`the server ended:\n${log}`);
      return (await get(`${url}/healthz`).catch(() => '')).length > 0;
    });
  } catch (error) {
    child.kill();
    throw error;
  }
  return {
    url,
    log: () => log,
    /** The paths to the clients of all rooms. @returns {Promise<Path[]>} */
    async paths() {
      const page = JSON.parse(await get(`http://127.0.0.1:${ADMIN}/rooms`).catch(() => '{}') || '{}');
      return (page.rooms ?? []).flatMap((/** @type {any} */ room) => room.paths ?? []);
    },
    /** How many key frames publishers were asked for, by what they were needed for. @returns {Promise<Record<string, number>>} */
    async keyFrames() {
      const page = await get(`http://127.0.0.1:${ADMIN}/metrics`);
      const lines = [...page.matchAll(/^moonring_key_frame_requests_total\{.*need="(\w+)"\} (\d+)$/gm)];
      return Object.fromEntries(lines.map(([, need, count]) => [need, Number(count)]));
    },
    async stop() {
      child.kill('SIGTERM');
      await exited;
      rmSync(data, { recursive: true, force: true });
    },
  };
}
