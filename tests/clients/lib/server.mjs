// The server under test, as a process of its own on the namespace's outer address.
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { ROOT } from './paths.mjs';

export const TOKEN = 'clients';
const PORT = 18_200;
const START_MS = 20_000;
const STOP_MS = 8_000;
/** `room_spread` of the server, over two shards; empty: one shard. */
const SPREAD = process.env.MOONRING_SPREAD ?? '';

/** Starts `binary` on `address`, with more `flags`. `certificate` is the PEM file that clients have to trust. */
export async function startServer(binary, address, flags = []) {
  if (!existsSync(binary)) throw new Error(`${binary} is missing: run "cargo build --bin moonring", or give --bin`);
  const data = mkdtempSync(join(tmpdir(), 'moonring-clients-'));
  const args = ['--listen', `${address}:${PORT}`, '--admin-listen', `127.0.0.1:${PORT + 1}`, '--media-ip', address];
  args.push('--announced-ip', address, '--media-ports', `${PORT + 10}-${PORT + 19}`, '--data-dir', data);
  args.push(...(SPREAD ? ['--shards', '2', '--room-spread', SPREAD] : ['--shards', '1']));
  args.push('--scripts-dir', join(ROOT, 'scripts'), '--secret', TOKEN, '--log-filter', process.env.CLIENTS_LOG ?? 'info', ...flags);
  const env = { ...process.env, NO_COLOR: '1' };
  const child = spawn(binary, args, { stdio: ['ignore', 'pipe', 'pipe'], detached: true, env });
  let log = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (text) => (log += text));
  const exited = new Promise((done) => child.on('exit', done));
  const server = {
    url: `https://${address}:${PORT}`,
    certificate: join(data, 'self-signed.crt'),
    alive: () => child.exitCode === null && child.signalCode === null,
    log: () => log,
    /** Stops it; the whole log goes to `file`. */
    async stop(file) {
      child.kill('SIGTERM');
      const late = setTimeout(() => child.kill('SIGKILL'), STOP_MS);
      await exited;
      clearTimeout(late);
      if (file) writeFileSync(file, log);
      rmSync(data, { recursive: true, force: true });
    },
  };
  for (const end = Date.now() + START_MS; ; await sleep(100)) {
    if ((await fetch(`http://127.0.0.1:${PORT + 1}/healthz`).catch(() => undefined))?.ok) return server;
    if (server.alive() && Date.now() < end) continue;
    await server.stop();
    throw new Error(`${binary} does not start:\n${log.slice(-2_000)}`);
  }
}
