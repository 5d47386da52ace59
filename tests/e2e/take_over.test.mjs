// @ts-check
// A call goes on while the server's process is replaced by another one, and by another one again.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { BINARY, ROOT, TOKEN, flows, report, shared, sleep, startServer, stats, until, watchGaps } from './lib.mjs';

/** @typedef {import('./lib.mjs').Tab} Tab */

const LOADTEST = process.env.MOONRING_LOADTEST ?? join(ROOT, 'target/debug/moonring-loadtest');
/** Of the load; for figures of a larger one. */
const ROOMS = Number(process.env.MOONRING_ROOMS ?? 10);
const folder = mkdtempSync(join(tmpdir(), 'moonring-take-over-'));
writeFileSync(
  join(folder, 'default_room.lua'),
  `local count, starts = 0, 0
  function on_init() starts = starts + 1 end
  function on_client_connect(client, token) return token == "${TOKEN}" end
  function on_publish_request() return true end
  function on_message(client, message)
    count = count + 1
    sfu.broadcast({ count = count, starts = starts, said = message, from = client:get_id() })
  end
  function on_unload() return { count = count } end
  function on_load(state) count = state.count end`,
);
const all = shared({ scripts: folder, flags: ['--shards', '1', '--take-over', join(folder, 'socket')] });

/** What is received of the picture. @param {Tab} tab */
async function figures(tab) {
  const inbound = Object.values((await stats(tab)).inbound);
  const video = inbound.find(({ kind }) => kind === 'video');
  const lost = inbound.reduce((sum, { packetsLost }) => sum + packetsLost, 0);
  return { frames: video.framesDecoded, lost, freezes: video.freezeCount };
}

/** Notes what the client tells its page. @param {Tab} tab */
async function note(tab) {
  await tab.evaluate(() => {
    window.told = [];
    for (const name of ['client_left', 'client_joined', 'track_unpublished', 'closed']) {
      window.moonring.client.on(name, () => window.told.push(name));
    }
    window.said = [];
    window.moonring.client.on('message', (/** @type {any} */ { value }) => window.said.push(value));
  });
  await watchGaps(tab);
}

/** Says something to the room's script; its answer to everybody. @param {Tab} tab @param {string} text */
async function say(tab, text) {
  await tab.evaluate((value) => window.moonring.client.send(value), text);
  return until('the script answers', () => tab.evaluate((value) => window.said.find((/** @type {any} */ said) => said.said === value), text));
}

test('a call, its script and its clients go on in another process, twice', async () => {
  await all.withTabs('replaced', ['Ada', 'Grace'], async ([ada, grace]) => {
    for (const tab of [ada, grace]) await flows(tab, { videos: 1, audios: 1 });
    for (const tab of [ada, grace]) await note(tab);
    const ids = await Promise.all([ada, grace].map((tab) => tab.evaluate(() => window.moonring.client.id)));
    assert.equal((await say(ada, 'first')).count, 1);
    const before = await Promise.all([ada, grace].map(figures));
    for (let n = 1; n <= 2; n++) {
      const code = await all.server.replace();
      assert.equal(code, 0, all.server.log());
      for (const tab of [ada, grace]) await tab.waitForFunction(() => window.moonring.client.joined);
      const { count, starts } = await say(grace, `after ${n}`);
      assert.deepEqual({ count, starts }, { count: n + 1, starts: 1 });
      for (const tab of [ada, grace]) await flows(tab, { videos: 1, audios: 1 });
    }
    await sleep(1000);
    const after = await Promise.all([ada, grace].map(figures));
    for (const [n, tab] of [ada, grace].entries()) {
      const change = (/** @type {'frames'|'lost'|'freezes'} */ of) => after[n][of] - before[n][of];
      const longest = await tab.evaluate(() => Math.round(window.longest));
      report(`two take-overs: ${change('frames')} frames, ${change('lost')} packets lost, ${change('freezes')} freezes, longest time between two frames ${longest} ms`);
      assert.equal(change('lost'), 0);
      assert.deepEqual(await tab.evaluate(() => window.told), []);
      assert.equal(await tab.evaluate(() => window.moonring.client.id), ids[n], 'the same stay');
    }
    await ada.getByRole('button', { name: 'Mute', exact: true }).click();
    await grace.locator('.tile:not(.mine) .note', { hasText: 'muted' }).waitFor();
  });
});

test('a new process that is killed while it takes over leaves the running one serving', async (t) => {
  await all.withTabs('killed', ['Ada', 'Grace'], async ([ada, grace]) => {
    for (const tab of [ada, grace]) await flows(tab, { videos: 1, audios: 1 });
    for (const tab of [ada, grace]) await note(tab);
    const { count } = await say(ada, 'before');
    for (let n = 0; n < 5; n++) {
      const child = all.server.beside();
      const exited = new Promise((done) => child.on('exit', done));
      child.stderr?.on('data', (text) => {
        if (String(text).includes('takes over from a running process')) child.kill('SIGKILL');
      });
      await exited;
      if (/another process has taken over/.test(all.server.log())) return t.skip('it was killed too late, with the calls');
      for (const tab of [ada, grace]) await flows(tab, { videos: 1, audios: 1 });
    }
    assert.equal((await say(ada, 'after')).count, count + 1);
    for (const tab of [ada, grace]) assert.deepEqual(await tab.evaluate(() => window.told), []);
  });
});

test('rooms of four under load lose no packet while the process is replaced, twice', async (t) => {
  if (!existsSync(LOADTEST)) return t.skip(`${LOADTEST} is missing: run "cargo build --workspace"`);
  const server = await startServer({ flags: ['--shards', '1', '--take-over', join(folder, 'load')] });
  try {
    const found = join(folder, 'load.json');
    const [rooms, clients] = [ROOMS, 4];
    const load = ['run', 'rooms', '--rooms', `${rooms}`, '--clients', `${clients}`, '--with-audio', '--bitrate-kbps', '100', '--fps', '10'];
    const how = ['--token', TOKEN, '--duration-s', '10', '--warm-up-s', '1', '--json', found];
    const child = spawn(LOADTEST, [...load, ...how, '--url', `${server.url.replace('https', 'wss')}/ws`], { stdio: 'ignore' });
    const ended = new Promise((done) => child.on('exit', done));
    const all = rooms * clients;
    await until('everybody is in', async () => (await server.metrics()).match(/^moonring_clients(?:\{[^}]*\})? (\d+)$/m)?.[1] === `${all}`);
    await sleep(3000);
    for (let n = 0; n < 2; n++) {
      assert.equal(await server.replace(), 0, server.log());
      await sleep(1000);
    }
    // It ends with 1 when something was lost: what, is said below.
    const code = await ended;
    const { lost, latency, resume, longest_gap_ms: gap, failures } = JSON.parse(readFileSync(found, 'utf8'));
    report(`${all} clients, two take-overs: ${lost} packets lost, longest way of a packet ${Math.round(latency.max_ms)} ms, longest gap of a stream ${Math.round(gap)} ms, ${resume.count} resumes in ${Math.round(resume.max_ms)} ms at most`);
    assert.deepEqual({ lost, failures, resumed: resume.count }, { lost: 0, failures: {}, resumed: 2 * all });
    assert.equal(code, 0);
  } finally {
    await server.stop();
  }
});

test('a new process that is stopped for a moment still waits for the running one', async () => {
  const silent = createServer((socket) => socket.resume());
  await new Promise((done) => silent.listen(join(folder, 'silent'), () => done(undefined)));
  const asked = new Promise((done) => silent.once('connection', done));
  const flags = ['--data-dir', join(folder, 'data'), '--scripts-dir', folder, '--take-over', join(folder, 'silent')];
  const child = spawn(BINARY, flags, { stdio: ['ignore', 'ignore', 'pipe'] });
  let log = '';
  child.stderr?.on('data', (text) => (log += text));
  const exited = new Promise((done) => child.on('exit', done));
  await Promise.race([asked, exited]);
  await sleep(500);
  for (const signal of /** @type {const} */ (['SIGSTOP', 'SIGCONT'])) child.kill(signal);
  const code = await exited;
  silent.close();
  assert.equal(code, 1, log);
  assert.match(log, /the running process goes on: the other process does not answer/);
});

test('a process with other settings is refused with both values', async () => {
  const child = all.server.beside(['--insecure-http']);
  let log = '';
  child.stderr?.on('data', (text) => (log += text));
  const code = await new Promise((done) => child.on('exit', done));
  assert.equal(code, 1);
  assert.match(log, /insecure_http is false in the running process and true in the new one/);
  assert.ok((await fetch(`${all.server.url}/healthz`)).ok);
});
