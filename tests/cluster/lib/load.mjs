// A load with media, from the hub: one publisher, and viewers who come through all nodes in turn.
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('../../..', import.meta.url));
const BINARY = process.env.MOONRING_LOADTEST_BIN ?? join(ROOT, 'target/debug/moonring-loadtest');

/** Runs a webinar; its report. `urls` are the nodes' WebSockets, `seconds` how long is measured. */
export function webinar({ urls, room, viewers, seconds, args = [] }) {
  return run(['webinar', '--subscribers', String(viewers)], { urls, room, seconds, args });
}

/** Runs meetings, likewise. */
export function meetings({ urls, room, rooms, clients, seconds, args = [] }) {
  return run(['rooms', '--rooms', String(rooms), '--clients', String(clients)], { urls, room, seconds, args });
}

function run(scenario, { urls, room, seconds, args }) {
  const folder = mkdtempSync(join(tmpdir(), 'load-'));
  const json = join(folder, 'report.json');
  const all = ['run', ...scenario, '--url', urls.join(), '--room', room, '--bitrate-kbps', '500',
    '--duration-s', String(seconds), '--joins-per-s', '20', '--json', json, ...args];
  const child = spawn(BINARY, all, { stdio: ['ignore', 'pipe', 'pipe'] });
  let log = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (text) => (log += text));
  const report = new Promise((done, failed) =>
    child.on('exit', (code) => {
      try {
        done(JSON.parse(readFileSync(json, 'utf8')));
      } catch {
        failed(new Error(`the load test ended with ${code}: ${log.slice(-2000)}`));
      }
      rmSync(folder, { recursive: true, force: true });
    }),
  );
  // Whoever waits for it later hears of its end then.
  report.catch(() => {});
  return { report, stop: () => child.kill('SIGKILL') };
}
