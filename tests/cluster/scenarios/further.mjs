// What operators do at a bad moment, and a node that stands still for a while; with media.
import { setTimeout as sleep } from 'node:timers/promises';
import { check, row } from '../lib/found.mjs';
import { meetings, webinar } from '../lib/load.mjs';
import { NODES } from '../lib/net.mjs';
import { Person } from '../lib/people.mjs';
import { socketOf, until } from '../lib/servers.mjs';

const URLS = NODES.map(socketOf);
const VIEWERS = 12;
/** A webinar's publisher and viewers. */
const ALL = VIEWERS + 1;
/** For how long a node stands still: it is taken for dead after two or three seconds. */
const STILL_MS = 6000;
/** How long after the orders to move NATS is killed, and for how long it is gone. */
const KILLED_MS = [300, 450, 600];
const GONE_MS = 2500;

async function clientsOf(servers, nodes = NODES) {
  const counts = await Promise.all(nodes.map((node) => servers.metric(node, 'moonring_shard_clients')));
  return counts.reduce((a, b) => a + b);
}

/** The homes of a room, with the clients that each of them knows. */
async function homesOf(servers, name) {
  const all = await Promise.all(NODES.map(async (node) => (await servers.rooms(node)).map(({ room, clients }) => ({ node, room, clients }))));
  return all.flat().filter(({ room }) => room === name);
}

function checkWhole(report, clients) {
  check(report.lost === 0 && report.left_out === 0, `${report.lost} packets are lost, ${report.left_out} left out: ${JSON.stringify(report.failures)}`);
  check(report.connected === clients, `${report.connected} are connected at the end`);
}

export const FURTHER = {
  /** A node with viewers stands still and goes on: the home has told its script that they are gone, and they join anew. */
  async spread_stop(servers) {
    const holder = new Person('still', [socketOf('n1'), ...URLS]);
    await until('the room is at n1', () => holder.isIn);
    const load = webinar({ urls: URLS, room: 'still', viewers: VIEWERS, seconds: 25, args: ['--rejoin'] });
    await until('all are in', async () => (await clientsOf(servers)) === ALL + 1);
    await sleep(2000);
    await servers.signal('n3', 'SIGSTOP');
    await sleep(STILL_MS);
    check((await servers.nodes('n1')).some(({ node, verdict }) => node === 'n3' && verdict === 'dead'), 'n3 is dead');
    await servers.signal('n3', 'SIGCONT');
    const since = performance.now();
    await servers.settled();
    await until('the home knows all', async () => (await homesOf(servers, 'still'))[0]?.clients === ALL + 1);
    const took = Math.round(performance.now() - since);
    check((await homesOf(servers, 'still')).length === 1, 'the room has one home');
    await until('all see each other', () => holder.others.size === ALL);
    const report = await load.report;
    check(report.connected === ALL && holder.losses === 0, `${report.connected} are connected at the end`);
    row('SIGSTOP of a node with viewers, from SIGCONT', [], `all in again after ${took} ms; lost ${report.lost} of ${report.packets_out}; ${JSON.stringify(report.failures)}`);
    holder.leave();
  },

  /** NATS is killed while clients move from node to node. */
  async spread_moves(servers) {
    const load = webinar({ urls: URLS, room: 'moves', viewers: VIEWERS, seconds: 35 });
    await until('all are in', async () => (await clientsOf(servers)) >= ALL);
    await sleep(1000);
    for (const [n, ms] of KILLED_MS.entries()) {
      const lines = (await servers.command('n1', 'clients', 'moves', '--json')).output.split('\n').filter(Boolean);
      const some = lines.map((line) => JSON.parse(line).client).slice(0, VIEWERS / 2);
      for (const [m, client] of some.entries()) void servers.command('n1', 'move', 'moves', client, '--node', NODES[(n + m) % NODES.length]);
      await sleep(ms);
      await servers.signal('nats', 'SIGKILL');
      await sleep(GONE_MS);
      await servers.start('nats');
      await servers.settled();
      await until('the home knows all', async () => (await homesOf(servers, 'moves'))[0]?.clients === ALL);
    }
    const report = await load.report;
    checkWhole(report, ALL);
    row('NATS killed while clients move', [], `${report.resume.count} resumed; ${report.packets_out} packets, 0 lost; longest gap ${Math.round(report.longest_gap_ms)} ms`);
  },

  /** Two of three nodes are drained at once, with a webinar over all of them and meetings at one. */
  async drain_two(servers) {
    const [rooms, clients] = [3, 3];
    const loads = [
      webinar({ urls: URLS, room: 'two', viewers: VIEWERS, seconds: 40 }),
      meetings({ urls: [URLS[1]], room: 'meeting', rooms, clients, seconds: 40 }),
    ];
    await until('all are in', async () => (await clientsOf(servers)) >= ALL + rooms * clients);
    await sleep(1000);
    const since = performance.now();
    const drained = await Promise.all(['n1', 'n2'].map((node) => servers.command(node, 'drain', '--deadline-s', '60', '--wait')));
    const took = Math.round(performance.now() - since);
    check(drained.every(({ code, output }) => code === 0 && output.includes('it has 0 rooms and 0 clients')), drained.map(({ output }) => output).join());
    check((await clientsOf(servers, ['n3'])) === ALL + rooms * clients, 'all are at the third one');
    const reports = await Promise.all(loads.map(({ report }) => report));
    checkWhole(reports[0], ALL);
    checkWhole(reports[1], rooms * clients);
    row('two of three nodes drained at once', [], `clients and homes gone after ${took} ms; 0 packets lost; longest gap ${Math.round(Math.max(...reports.map(({ longest_gap_ms }) => longest_gap_ms)))} ms`);
  },
};
