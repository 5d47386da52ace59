// All nodes are restarted, one after the other, under a room that is on all of them.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { check, row } from '../lib/found.mjs';
import { webinar } from '../lib/load.mjs';
import { NODES } from '../lib/net.mjs';
import { socketOf, until } from '../lib/servers.mjs';

/** A policy that counts how often operators have asked it, in memory. */
const COUNTS = `
local asked = 0
function on_client_connect(client, token) return token == "moonring", "Wrong token" end
function on_publish_request() return true end
function on_admin() asked = asked + 1 return { asked = asked, clients = #sfu.clients() } end
function on_unload() return { asked = asked } end
function on_load(state) asked = state and state.asked or 0 end
`;
const ROOM = 'rolling';
const VIEWERS = 12;

export const ROLLING = {
  /** Each node is drained and started anew, and nobody loses anything, nor does the script. */
  async drain_rolling(servers) {
    const policy = join(servers.folder('policy'), 'default_room.lua');
    writeFileSync(policy, COUNTS);
    check((await servers.command('n1', 'scripts', 'push', policy)).code === 0, 'the policy is uploaded');
    const homeOf = async () => {
      const rooms = await Promise.all(NODES.map(async (node) => ((await servers.rooms(node)).some(({ room }) => room === ROOM) ? [node] : [])));
      return rooms.flat();
    };
    /** Asks the script at its home. */
    const count = async () => {
      const [home] = await homeOf();
      const { code, output } = await servers.command(home, 'call', ROOM, '{}');
      check(code === 0, output);
      return JSON.parse(output);
    };
    const load = webinar({ urls: NODES.map(socketOf), room: ROOM, viewers: VIEWERS, seconds: 70 });
    const clients = async () => (await Promise.all(NODES.map((node) => servers.metric(node, 'moonring_shard_clients')))).reduce((a, b) => a + b);
    await until('all are in', async () => (await clients()) >= VIEWERS + 1);
    await count();
    const times = [];
    const homes = [];
    for (const node of NODES) {
      const since = performance.now();
      homes.push(...(await homeOf()));
      const { code, output } = await servers.command(node, 'drain', '--deadline-s', '60', '--wait');
      check(code === 0 && output.includes('it has 0 rooms and 0 clients'), `${node} drains: ${output}`);
      times.push(performance.now() - since);
      await servers.signal(node, 'SIGTERM');
      await servers.exited(node);
      check((await homeOf()).length === 1, `the room has one home once ${node} is gone`);
      await servers.start(node);
      await servers.settled();
    }
    const { asked, clients: known } = await count();
    check(asked === 2, `the script goes on with its state: asked ${asked} times`);
    check(known === VIEWERS + 1, `it knows ${known} clients`);
    const report = await load.report;
    check(report.lost === 0 && report.left_out === 0, `${report.lost} packets are lost, ${report.left_out} left out: ${JSON.stringify(report.failures)}`);
    check(report.connected === VIEWERS + 1, `${report.connected} are connected at the end`);
    row('all nodes drained and started anew in turn, from the order', times, `home at ${[...homes, ...(await homeOf())].join(', ')}; ${report.packets_out} packets, 0 lost; longest gap ${Math.round(report.longest_gap_ms)} ms`);
  },
};
