// @ts-check
// client.js for other pages: the npm package with its declarations, and the example of docs/client.md as it stands there.
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { flows, HERE, openTab, ROOT, shared, TOKEN } from './lib.mjs';

const all = shared({});

test('the package has all it needs, and its types catch mistakes', () => {
  const folder = mkdtempSync(join(tmpdir(), 'moonring-package-'));
  try {
    const packed = execFileSync('npm', ['pack', '--silent', '--pack-destination', folder], { cwd: join(ROOT, 'web'), encoding: 'utf8' });
    const home = join(folder, 'node_modules/moonring-client');
    mkdirSync(home, { recursive: true });
    execFileSync('tar', ['xzf', join(folder, packed.trim().split('\n').at(-1) ?? ''), '-C', home, '--strip-components', '1']);
    // Every import of the package stays within it.
    const { status, stderr } = spawnSync('node', ['--input-type=module', '--eval', "const { Client, ClientError } = await import('moonring-client'); if (!Client || !ClientError) process.exit(1)"], { cwd: folder, encoding: 'utf8' });
    assert.equal(status, 0, stderr);

    const rightUse = `
      import { Client, ClientError, type Publication } from 'moonring-client';
      const client = new Client();
      const off: () => void = client.on('media', ({ track, media }) => {
        const kind: 'audio' | 'video' = track.kind;
        client.watch(track.id, document.createElement(kind));
        new MediaStream([media]);
      });
      client.addEventListener('client_left', ({ detail }) => detail.client.length);
      const { tracks } = await client.join({ url: '', room: '', autoSubscribe: (track) => track.source === 'screen' });
      const camera: Publication = await client.publish(tracks as unknown as MediaStreamTrack, { source: 'camera', simulcast: true });
      camera.setMuted(!camera.mutedByRoom);
      const quality: number | undefined = client.quality.get(client.id);
      export { off, quality, ClientError };
    `;
    const mistakes = [
      ["client.on('medai', () => {});", 'medai'],
      ["client.on('media', ({ stream }) => stream);", 'stream'],
      ["client.on('moved', () => {});", 'moved'], // these are between the server and the client
      ["client.on('resume', () => {});", 'resume'],
      ["client.on('roster', () => {});", 'roster'],
      ["client.on('restart_ice', () => {});", 'restart_ice'],
      ["client.publish(new MediaStream().getTracks()[0], { source: 'webcam' });", 'webcam'],
      ["if (client.state === 'connected') client.leave();", 'connected'],
    ];
    const found = check(folder, [rightUse, ...mistakes.map(([line]) => `import { Client } from 'moonring-client';\nconst client = new Client();\n${line}`)]);
    assert.equal(found[0], '');
    for (const [nth, [, words]] of mistakes.entries()) assert.match(found[nth + 1], new RegExp(words));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

/** What `tsc` says of each of the programs, which use the package: one run, as it takes seconds to begin.
 *  @param {string} folder @param {string[]} programs */
function check(folder, programs) {
  const names = programs.map((_, nth) => `program${nth}.ts`);
  for (const [nth, name] of names.entries()) writeFileSync(join(folder, name), programs[nth]);
  const options = ['--strict', '--noEmit', '--target', 'es2022', '--module', 'nodenext', '--moduleResolution', 'nodenext'];
  writeFileSync(join(folder, 'package.json'), '{"type": "module"}');
  const { stdout } = spawnSync(join(HERE, 'node_modules/.bin/tsc'), [...options, ...names], { cwd: folder, encoding: 'utf8' });
  const lines = stdout.split('\n');
  return names.map((name) => lines.filter((line) => line.startsWith(`${name}(`)).join('\n'));
}

test('the example of docs/client.md is a call', async () => {
  const [, example] = /```html\n(<!doctype html>[^]*?)```/.exec(readFileSync(join(ROOT, 'docs/client.md'), 'utf8')) ?? [];
  const page = String(example).replace('sfu.example.com:8080', `127.0.0.1:${all.server.port}`).replace("'let-me-in'", `'${TOKEN}'`);
  const ada = await openTab(all.browser, all.server, { room: 'standup', name: 'Grace' });
  try {
    const tab = await ada.context().newPage();
    tab.on('pageerror', (error) => console.error(`the example: ${error}`));
    await tab.route('**/example.html', (route) => route.fulfill({ contentType: 'text/html', body: page }));
    await tab.goto(`${all.server.url}/example.html`);
    await flows(ada, { videos: 1, audios: 1 });
    await tab.waitForFunction(() => [...document.querySelectorAll('video')].some(({ videoWidth }) => videoWidth > 0));
    assert.equal(await tab.locator('audio').count(), 1);
  } finally {
    await ada.context().close();
  }
});
