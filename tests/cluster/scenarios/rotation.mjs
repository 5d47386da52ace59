// The cluster's secret is changed for another one under a room that is on all nodes.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { check, row } from '../lib/found.mjs';
import { webinar } from '../lib/load.mjs';
import { NODES } from '../lib/net.mjs';
import { SECRET, socketOf, until } from '../lib/servers.mjs';

/** A policy that keeps a word for operators, and counts in Lua how often they have asked. */
const KEEPS = `
local asked = 0
function on_client_connect(client, token) return token == "moonring", "Wrong token" end
function on_publish_request() return true end
function on_admin(request)
  asked = asked + 1
  if request.word then sfu.store.set("word", request.word) end
  return { asked = asked, word = sfu.store.get("word"), clients = #sfu.clients() }
end
function on_unload() return { asked = asked } end
function on_load(state) asked = state and state.asked or 0 end
`;
const NEXT = 'another secret of the test cluster';
const ROOM = 'rotation';
const VIEWERS = 6;
const NEEDED = 'moonring_cluster_further_secrets_needed';
const ANEW = 'moonring_cluster_sealed_anew';

export const ROTATION = {
  /** Three rounds of restarts: all believe the next secret, all seal with it, and the former one is gone. */
  async drain_secret(servers) {
    const policy = join(servers.folder('policy'), 'default_room.lua');
    writeFileSync(policy, KEEPS);
    check((await servers.command('n1', 'scripts', 'push', policy)).code === 0, 'the policy is uploaded');
    const homeOf = async () => {
      const rooms = await Promise.all(NODES.map(async (node) => ((await servers.rooms(node)).some(({ room }) => room === ROOM) ? [node] : [])));
      return rooms.flat();
    };
    /** Asks the script at its home. */
    const call = async (request = {}) => {
      const [home] = await homeOf();
      const { code, output } = await servers.command(home, 'call', ROOM, JSON.stringify(request));
      check(code === 0, output);
      return JSON.parse(output);
    };
    const ofAll = (name) => Promise.all(NODES.map((node) => servers.metric(node, name)));
    const clients = async () => (await ofAll('moonring_shard_clients')).reduce((a, b) => a + b);
    const load = webinar({ urls: NODES.map(socketOf), room: ROOM, viewers: VIEWERS, seconds: 110 });
    await until('all are in', async () => (await clients()) >= VIEWERS + 1);
    check((await call({ word: 'kept' })).word === 'kept', 'a value is stored');
    const since = performance.now();
    const restartAll = async (...secrets) => {
      servers.setSecrets(secrets);
      for (const node of NODES) {
        const { code, output } = await servers.command(node, 'drain', '--deadline-s', '60', '--wait');
        check(code === 0 && output.includes('it has 0 rooms and 0 clients'), `${node} drains: ${output}`);
        await servers.signal(node, 'SIGTERM');
        await servers.exited(node);
        check((await homeOf()).length === 1, `the room has one home once ${node} is gone`);
        await servers.start(node);
        await servers.settled();
      }
    };
    await restartAll(SECRET, NEXT);
    check((await call()).word === 'kept', 'the value is there while all believe both');
    await restartAll(NEXT, SECRET);
    await until('nobody needs the former secret', async () => (await ofAll(NEEDED)).every((needed) => needed === 0));
    check(servers.logs.get(NODES.at(-1)).includes('nothing in NATS needs a further secret'), 'the log of the last one says so');
    const anew = (await ofAll(ANEW)).reduce((a, b) => a + b);
    // The set of scripts in use, its name and its text, the word, and the clocks of nodes that were restarted since.
    check(anew >= 4, `${anew} entries are sealed anew`);
    await restartAll(NEXT);
    const took = Math.round((performance.now() - since) / 1000);
    const { asked, word, clients: known } = await call();
    check(word === 'kept', `the value is there with the next secret alone: ${word}`);
    check(asked === 3 && known === VIEWERS + 1, `the script goes on with its state: asked ${asked} times, knows ${known} clients`);
    const { output } = await servers.command('n2', 'scripts', 'list');
    check(output.includes('default_room.lua') && output.split('\n').filter((line) => line.endsWith(' has them')).length === NODES.length, output);
    writeFileSync(policy, `${KEEPS}-- once more`);
    check((await servers.command('n3', 'scripts', 'push', policy)).code === 0, 'another policy is uploaded');
    const report = await load.report;
    check(report.lost === 0 && report.left_out === 0, `${report.lost} packets are lost, ${report.left_out} left out: ${JSON.stringify(report.failures)}`);
    check(report.connected === VIEWERS + 1, `${report.connected} are connected at the end`);
    const strangers = (await ofAll('moonring_cluster_strangers')).reduce((a, b) => a + b);
    check(strangers === 0, `${strangers} messages were not believed`);
    row('the secret changed for another one, nine restarts', [], `${took} s; ${anew} entries sealed anew; ${report.packets_out} packets, 0 lost; longest gap ${Math.round(report.longest_gap_ms)} ms`);
  },
};
