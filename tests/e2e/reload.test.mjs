// A call goes on while its script changes every second, every third version broken.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { flows, openTab, report, sleep, startBrowser, startServer, stats, until } from './lib.mjs';

const SECONDS = 30;
/** Counts messages, over all versions; answers each with the count and the version that counted. */
const script = (/** @type {number} */ version) => `
STATE_VERSION = ${version}
local count = 0
function on_client_connect() return true end
function on_publish_request() return true end
function on_message(client, message)
  count = count + 1
  client:send({ type = "count", count = count, version = STATE_VERSION })
end
function on_unload() return { count = count } end
function on_load(state, old) count = state.count end
`;
/** One version in three: does not compile, or fails when it takes over. */
const broken = (/** @type {number} */ version) =>
  version % 2 ? `${script(version)}\nfunction on_load() error("cannot take over") end` : `${script(version)}\nfunction (`;

test('a call and its policy’s state outlive a script that changes every second', async () => {
  const scripts = mkdtempSync(join(tmpdir(), 'moonring-scripts-'));
  const file = join(scripts, 'default_room.lua');
  writeFileSync(file, script(0));
  const server = await startServer({ scripts });
  const browser = await startBrowser();
  try {
    const ada = await openTab(browser, server, { room: 'reload', name: 'Ada' });
    const grace = await openTab(browser, server, { room: 'reload', name: 'Grace', media: 'none' });
    await flows(grace, { videos: 1, audios: 1 });
    const before = video(await stats(grace));
    let sent = 0;
    let good = 0;
    for (let version = 1; version <= SECONDS; version++) {
      const isBroken = version % 3 === 0;
      writeFileSync(file, isBroken ? broken(version) : script(version));
      if (!isBroken) good = version;
      for (let n = 0; n < 5; n++) {
        await ada.evaluate(() => window.moonring.client.send({ type: 'count' }));
        sent++;
        await sleep(200);
      }
    }
    const last = await until('every message is counted', async () => {
      const answers = await ada.evaluate(() => window.moonring.messages.filter((/** @type {any} */ m) => m?.type === 'count'));
      return answers.length === sent ? answers.at(-1) : undefined;
    });
    assert.equal(last.count, sent, 'the count has crossed every reload');
    assert.ok(last.version <= SECONDS && last.version >= good - 3, `version ${last.version} counted last`);
    await until('the newest good version runs', async () => {
      await ada.evaluate(() => window.moonring.client.send({ type: 'count' }));
      return ada.evaluate((v) => window.moonring.messages.at(-1)?.version === v, good);
    });
    const after = video(await stats(grace));
    const frames = after.framesDecoded - before.framesDecoded;
    const freezes = after.freezeCount - before.freezeCount;
    report(`${SECONDS} versions in ${SECONDS} s: ${frames} frames decoded, ${freezes} freezes, ${after.packetsLost} packets lost, ${sent} events counted`);
    assert.equal(after.packetsLost, 0, 'no packet is lost over a reload');
    assert.match(server.log(), /cannot take over/, 'a version that fails when it takes over is reported');
    assert.match(server.log(), /default_room\.lua:\d+: .*near/, 'a version that does not compile is reported with its line');
    for (const tab of [ada, grace]) await tab.context().close();
  } finally {
    await browser.close();
    await server.stop();
    rmSync(scripts, { recursive: true, force: true });
  }
});

/** @param {{inbound: Record<string, any>}} stats */
function video({ inbound }) {
  return Object.values(inbound).find((stream) => stream.kind === 'video');
}
