#!/usr/bin/env node
// Three nodes and NATS in network namespaces, and what happens when each of them fails: node run.mjs [scenario]... (README.md)
import { existsSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { NODES, cutOff, setLink } from './lib/net.mjs';
import { meetings, webinar } from './lib/load.mjs';
import { Person, ask } from './lib/people.mjs';
import { check, row } from './lib/found.mjs';
import { run } from './lib/runner.mjs';
import { ONE_SHARD, socketOf, until } from './lib/servers.mjs';
import { FURTHER } from './scenarios/further.mjs';
import { ROLLING } from './scenarios/rolling.mjs';
import { ROTATION } from './scenarios/rotation.mjs';
import { STORES } from './scenarios/stores.mjs';

/** Rooms, and the people in each. */
const ROOMS = 10;
const PEOPLE = 3;
/** client.js doubts a busy media path that has been silent for this long, and then its socket, too (web/watchdog.js). */
const MEDIA_SILENCE_MS = 1150;
/** For how long NATS is gone. */
const NATS_GONE_MS = Number(process.env.CLUSTER_NATS_GONE_S ?? 60) * 1000;
const URLS = NODES.map(socketOf);
/** Every room over two shards of every node. */
const SPREAD = ['--cluster-spread', 'always', '--shards', '2', '--room-spread', 'always'];
const VIEWERS = 30;
const TAKEN = 'moonring_cluster_rooms_taken_over_total';

/** The addresses, another one first for each person. */
const urlsFrom = (n) => [...URLS.slice(n % 3), ...URLS.slice(0, n % 3)];

/** People in rooms whose homes are at `node`, or anywhere; each comes through another node. */
async function gather(name, node) {
  const people = [];
  for (let room = 0; room < ROOMS; room++) {
    const first = new Person(`${name}-${room}`, node ? [socketOf(node), ...URLS] : urlsFrom(room));
    people.push(first);
    await until('the first is in', () => first.isIn);
    for (let n = 1; n < PEOPLE; n++) people.push(new Person(`${name}-${room}`, urlsFrom(room + n)));
  }
  await until('all are in', () => people.every((person) => person.isIn));
  await together(people);
  return people;
}

/** Everybody sees everybody else of their room: nobody is in another one of the same name. */
async function together(people) {
  await until('those of a room see each other', () =>
    people.every((person) => {
      const others = people.filter(({ room, id }) => room === person.room && id !== person.id);
      return others.every(({ id }) => person.others.has(id));
    }));
}

/** Waits until those who lost their connection are back; how long each took from `since`. */
async function back(people, since) {
  const isBack = (person) => person.isIn && person.joinedAt > since;
  await until('all are back', () => people.every(isBack)).catch((error) => {
    const lost = people.filter((person) => !isBack(person));
    throw new Error(`${error.message}: ${lost.map(({ room, id, losses, joins, ended }) => `${room} ${id} lost ${losses} joins ${joins} ${ended}`).join('; ')}`);
  });
  return people.map(({ joinedAt }) => joinedAt - since);
}

function leaveAll(people) {
  people.forEach((person) => person.leave());
}

const SCENARIOS = {
  /** Whoever comes through any node lands on the room's home. */
  async joins(servers) {
    const people = await gather('joins');
    const homes = new Map();
    for (const node of NODES) {
      for (const { room } of await servers.rooms(node)) homes.set(room, [...(homes.get(room) ?? []), node]);
    }
    check([...homes.values()].every((nodes) => nodes.length === 1) && homes.size === ROOMS, `each room is on one node: ${JSON.stringify([...homes])}`);
    row('joins through any node', people.map(({ began, joinedAt }) => joinedAt - began), `${ROOMS} rooms, each on one node`);
    leaveAll(people);
  },

  /** The home's process is killed. */
  async kill(servers) {
    const people = await gather('kill', 'n1');
    const since = performance.now();
    await servers.signal('n1', 'SIGKILL');
    const times = await back(people, since);
    await together(people);
    const taken = (await Promise.all(['n2', 'n3'].map((node) => servers.metric(node, 'moonring_cluster_rooms_taken_over_total')))).reduce((a, b) => a + b);
    check(taken >= ROOMS, `${taken} rooms are taken over`);
    row('kill -9 of the home', times, `${ROOMS} rooms taken over`, 2500);
    await servers.start('n1');
    await servers.settled();
    leaveAll(people);
  },

  /** The home's process is told to end, as by a deploy. */
  async restart(servers) {
    const people = await gather('restart', 'n1');
    const since = performance.now();
    await servers.signal('n1', 'SIGTERM');
    const times = await back(people, since);
    await together(people);
    const taken = (await Promise.all(['n2', 'n3'].map((node) => servers.rooms(node)))).flat().filter(({ room }) => room.startsWith('restart-'));
    check(taken.length === ROOMS, `${taken.length} rooms are on the other nodes`);
    row('SIGTERM of the home', times, 'rooms on the other nodes');
    await servers.exited('n1');
    await servers.start('n1');
    await servers.settled();
    leaveAll(people);
  },

  /** The home hangs. */
  async stop(servers) {
    const people = await gather('stop', 'n1');
    const since = performance.now();
    await servers.signal('n1', 'SIGSTOP');
    await sleep(MEDIA_SILENCE_MS);
    people.forEach(({ signal }) => signal.renew('Nothing comes from the server'));
    const times = await back(people, since);
    await together(people);
    await servers.signal('n1', 'SIGCONT');
    await servers.settled();
    await until('the hung home has given its rooms up', async () => !(await servers.rooms('n1')).some(({ room }) => room.startsWith('stop-')));
    await together(people);
    row('SIGSTOP of the home', times, 'after SIGCONT it gave its rooms up', 5000);
    leaveAll(people);
  },

  /** The home's interface is down. */
  async link(servers, id) {
    const people = await gather('link', 'n1');
    const since = performance.now();
    setLink(id, 'n1', 'down');
    await sleep(MEDIA_SILENCE_MS);
    people.forEach(({ signal }) => signal.renew('Nothing comes from the server'));
    const times = await back(people, since);
    await together(people);
    setLink(id, 'n1', 'up');
    await servers.settled();
    await until('the home that was away has given its rooms up', async () => !(await servers.rooms('n1')).some(({ room }) => room.startsWith('link-')));
    row('interface of the home down', times, 'when up again it gave its rooms up', 5000);
    leaveAll(people);
  },

  /** NATS is gone for a minute. */
  async nats(servers) {
    const people = await gather('nats');
    const before = people.map(({ joins }) => joins);
    await servers.signal('nats', 'SIGKILL');
    await until('new rooms are refused', async () => (await ask(URLS[0], 'nats-new')) === 'try_again');
    const until_ = performance.now() + NATS_GONE_MS;
    const answers = new Set();
    while (performance.now() < until_) {
      for (const url of URLS) answers.add(await ask(url, `nats-new-${Math.random().toString(36).slice(2)}`));
      await sleep(1000);
    }
    check([...answers].join() === 'try_again', `new rooms are answered ${[...answers]}`);
    const homes = await Promise.all(URLS.map((url) => ask(url, 'nats-0')));
    check(homes.filter((answer) => answer === 'joined').length === 1, `the room's own home lets people in: ${homes}`);
    check(people.every(({ isIn, losses, joins }, n) => isIn && losses === 0 && joins === before[n]), 'nobody has lost anything');
    const since = performance.now();
    await servers.start('nats');
    await until('new rooms are taken again', async () => (await ask(URLS[0], 'nats-after')) === 'joined');
    const again = performance.now() - since;
    await servers.settled();
    check(people.every(({ isIn, losses }) => isIn && losses === 0), 'nobody has lost anything afterwards');
    row(`NATS gone for ${NATS_GONE_MS / 1000} s`, [], `0 of ${people.length} calls ended; new rooms: try_again; taken again ${Math.round(again)} ms after its start`);
    leaveAll(people);
  },

  /** The home is cut off from NATS and the other nodes; its clients are not. */
  async partition(servers, id) {
    const people = await gather('split', 'n1');
    cutOff(id, 'n1', ['nats', 'n2', 'n3'], true);
    // Until they notice, the others send newcomers to it, who reach it.
    const isGone = ({ node, verdict }) => node === 'n1' && verdict === 'dead';
    await until('the others notice', async () => (await Promise.all(['n2', 'n3'].map((node) => servers.nodes(node)))).every((view) => view.some(isGone)));
    const newcomers = [];
    for (let room = 0; room < ROOMS; room++) newcomers.push(new Person(`split-${room}`, [socketOf('n2'), socketOf('n3')]));
    await until('the others take the rooms over', () => newcomers.every(({ isIn }) => isIn));
    check(people.every(({ isIn, losses }) => isIn && losses === 0), 'the calls of the home that is cut off go on');
    const since = performance.now();
    cutOff(id, 'n1', ['nats', 'n2', 'n3'], false);
    const times = await back(people, since);
    await together([...people, ...newcomers]);
    await servers.settled();
    const gave = await servers.metric('n1', 'moonring_cluster_rooms_given_up_total');
    check(gave >= ROOMS, `n1 gave ${gave} rooms up`);
    check(newcomers.every(({ losses }) => losses === 0), 'the home with the higher term keeps its clients');
    row('partition, from its healing', times, 'one home each: the lower term gave way');
    leaveAll([...people, ...newcomers]);
  },

  /** A webinar over all nodes and their shards: its publisher at n1, viewers everywhere; NATS is gone in its middle. */
  async spread(servers) {
    const load = webinar({ urls: URLS, room: 'spread', viewers: VIEWERS, seconds: 16 });
    await until('all are in', async () => (await clientsOf(servers)) >= VIEWERS + 1);
    await sleep(4000);
    await servers.signal('nats', 'SIGKILL');
    await sleep(4000);
    const refused = await ask(URLS[1], 'spread');
    await servers.start('nats');
    const report = await load.report;
    check(refused !== 'joined', `while NATS is gone nobody comes in at a wing: ${refused}`);
    check(report.lost === 0 && report.left_out === 0, `${report.lost} packets are lost, ${report.left_out} left out: ${JSON.stringify(report.failures)}`);
    check(report.connected === VIEWERS + 1, `${report.connected} are connected at the end`);
    const [sent, lost] = await Promise.all(['moonring_packets_relayed_out_total', 'moonring_link_datagrams_lost_total'].map((name) => ofAll(servers, name)));
    // From the home to its own other shard and to two leads, and from each of these to their other shard.
    const published = await servers.metric('n1', 'moonring_packets_in_total');
    check(sent.n1 <= 3.05 * published && sent.n2 <= 1.05 * published && sent.n3 <= 1.05 * published, `one copy for each node: ${JSON.stringify(sent)} of ${published}`);
    row('webinar over three nodes, NATS gone for 4 s', [], `${report.packets_out} packets, 0 lost, p99 ${report.latency.p99_ms} ms; published ${published}, relayed ${Object.values(sent)}; lost on links ${Object.values(lost)}`);
    await servers.settled();
    await until('who joins at a wing is let in again', async () => (await ask(URLS[1], 'spread-after')) === 'joined');
  },

  /** A node with viewers of a webinar is killed: the others notice nothing, and its viewers come back elsewhere. */
  async spread_kill(servers) {
    const load = webinar({ urls: URLS, room: 'killed', viewers: VIEWERS, seconds: 16, args: ['--rejoin'] });
    await until('all are in', async () => (await clientsOf(servers)) >= VIEWERS + 1);
    await sleep(4000);
    const since = performance.now();
    await servers.signal('n3', 'SIGKILL');
    await until('all are in again', async () => (await clientsOf(servers, ['n1', 'n2'])) >= VIEWERS + 1);
    const took = Math.round(performance.now() - since);
    const report = await load.report;
    row('kill -9 of a node with viewers', [], `all in again after ${took} ms; lost ${report.lost} of ${report.packets_out}; ${JSON.stringify(report.failures)}`);
  },

  /** The home of a webinar is killed, with a third of its viewers: everybody else, the publisher among them, goes on without joining anew. */
  async spread_home(servers) {
    const opener = new Person('home', [socketOf('n1'), ...URLS]);
    await until('the room is at n1', () => opener.isIn);
    const stays = ['n2', 'n3'].flatMap((node) => [1, 2, 3].map(() => new Person('home', [socketOf(node), ...URLS])));
    await until('some are at the other nodes', () => stays.every(({ isIn }) => isIn));
    // The publisher comes first, through n2.
    const load = webinar({ urls: [...URLS.slice(1), URLS[0]], room: 'home', viewers: VIEWERS, seconds: 16, args: ['--rejoin'] });
    await until('all are in', async () => (await clientsOf(servers)) >= VIEWERS + 2 + stays.length);
    await sleep(4000);
    const atHome = await servers.metric('n1', 'moonring_shard_clients');
    const since = performance.now();
    await servers.signal('n1', 'SIGKILL');
    await until('a wing is the home', async () => (await servers.metric('n2', TAKEN)) + (await servers.metric('n3', TAKEN)) > 0);
    const taken = Math.round(performance.now() - since);
    await until('all are in again', async () => (await clientsOf(servers, ['n2', 'n3'])) >= VIEWERS + 2 + stays.length);
    const took = Math.round(performance.now() - since);
    await until('who was at the home is back', () => opener.isIn && opener.joinedAt > since);
    await until('all see each other', () => stays.every(({ others }) => others.has(opener.id)));
    const report = await load.report;
    const again = Object.entries(report.failures).filter(([why]) => !why.includes('refused')).reduce((sum, [, n]) => sum + n, 0);
    check(stays.every(({ isIn, losses, joins }) => isIn && losses === 0 && joins === 1), 'nobody at the other nodes joins anew');
    check(again < atHome, `of ${VIEWERS + 1} with media only those at the home join anew: ${JSON.stringify(report.failures)}`);
    check(report.connected === VIEWERS + 1, `${report.connected} are connected at the end`);
    row('kill -9 of the home of a webinar', [], `a wing is the home after ${taken} ms, all in again after ${took} ms; ${atHome} were at the home: ${JSON.stringify(report.failures)}; lost ${report.lost} of ${report.packets_out}`);
    [opener, ...stays].forEach((person) => person.leave());
  },

  /** The home of a room over all nodes is cut off from NATS and the others: its wings go on, and when it is healed the lower term gives way. */
  async spread_split(servers, id) {
    const people = [];
    for (const node of [...NODES, ...NODES]) {
      people.push(new Person('split', [socketOf(node), ...URLS]));
      await until('all are in', () => people.every(({ isIn }) => isIn));
    }
    await together(people);
    const [atHome, stays] = [people.filter((_, n) => n % 3 === 0), people.filter((_, n) => n % 3 > 0)];
    const began = performance.now();
    cutOff(id, 'n1', ['nats', 'n2', 'n3'], true);
    await until('a wing is the home', async () => (await servers.metric('n2', TAKEN)) + (await servers.metric('n3', TAKEN)) > 0);
    const taken = Math.round(performance.now() - began);
    await until('the wings are without those of n1', () => stays.every(({ others }) => atHome.every((person) => !others.has(person.id))));
    await together(stays);
    check(people.every(({ isIn, losses }) => isIn && losses === 0), 'both sides go on');
    const since = performance.now();
    cutOff(id, 'n1', ['nats', 'n2', 'n3'], false);
    const times = await back(atHome, since);
    await together(people);
    check(stays.every(({ losses, joins }) => losses === 0 && joins === 1), 'who has the home with the higher term notices nothing');
    check((await servers.metric('n1', 'moonring_cluster_rooms_given_up_total')) === 1, 'n1 gave the room up');
    await servers.settled();
    // The nodes speak to each other about rooms as before.
    const late = NODES.map((node) => new Person('split', [socketOf(node), ...URLS]));
    await until('who comes through any node is in', () => late.every(({ isIn }) => isIn));
    await together([...people, ...late]);
    row('partition of a room over three nodes, from its healing', times, `a wing was the home ${taken} ms after the cut; ${stays.length} people notice nothing`);
    leaveAll([...people, ...late]);
  },

  /** A node with viewers of a webinar is drained: they go on at the others, in the middle of the picture. */
  async drain(servers) {
    const load = webinar({ urls: URLS, room: 'drain', viewers: VIEWERS, seconds: 10 });
    await until('all are in', async () => (await clientsOf(servers)) >= VIEWERS + 1);
    await sleep(4000);
    const there = await clientsOf(servers, ['n3']);
    const since = performance.now();
    check((await servers.order('n3', 'drain', { deadline_s: 60 })) === 200, 'n3 is told to drain');
    await until('nobody is on it', async () => (await clientsOf(servers, ['n3'])) === 0);
    const took = Math.round(performance.now() - since);
    check((await servers.nodes('n1')).some(({ node, verdict }) => node === 'n3' && verdict === 'draining'), 'n3 is draining, not dead');
    const report = await load.report;
    check(report.lost === 0 && report.left_out === 0, `${report.lost} packets are lost, ${report.left_out} left out: ${JSON.stringify(report.failures)}`);
    check(report.connected === VIEWERS + 1 && report.resume.count === there, `${report.connected} are connected at the end, ${report.resume.count} of ${there} have resumed`);
    check((await servers.order('n3', 'undrain')) === 200, 'n3 takes clients again');
    row('a node with viewers drained', [], `${there} clients gone after ${took} ms; ${report.packets_out} packets, 0 lost; another node in use after ${report.moves.p50_ms} ms (p50), ${report.moves.max_ms} ms (max); longest gap ${Math.round(report.longest_gap_ms)} ms`);
  },

  /** A node with meetings is drained: their clients go on at the others, and their homes follow. */
  async drain_homes(servers) {
    const [rooms, clients] = [4, 3];
    const load = meetings({ urls: [URLS[0]], room: 'moving', rooms, clients, seconds: 18 });
    await until('all are in', async () => (await clientsOf(servers)) >= rooms * clients);
    await sleep(3000);
    const since = performance.now();
    const waits = servers.command('n1', 'drain', '--deadline-s', '60', '--wait');
    await until('nobody is on it', async () => (await clientsOf(servers, ['n1'])) === 0);
    const took = Math.round(performance.now() - since);
    const { code, output } = await waits;
    check(code === 0 && output.includes('it has 0 rooms and 0 clients'), `drain --wait returns when the homes have gone: ${output}`);
    await until('no room has its home there', async () => (await servers.rooms('n1')).length === 0);
    const homes = Math.round(performance.now() - since);
    const report = await load.report;
    check(report.lost === 0 && report.left_out === 0, `${report.lost} packets are lost, ${report.left_out} left out: ${JSON.stringify(report.failures)}`);
    check(report.connected === rooms * clients && report.resume.count >= rooms * clients, `${report.connected} are connected at the end, ${report.resume.count} have resumed`);
    check((await servers.order('n1', 'undrain')) === 200, 'n1 takes rooms again');
    row('a node with the homes of meetings drained', [], `${rooms * clients} clients gone after ${took} ms, ${rooms} homes after ${homes} ms; ${report.packets_out} packets, 0 lost; longest gap ${Math.round(report.longest_gap_ms)} ms`);
  },

  /** Two nodes do not reach each other for some seconds; NATS and clients reach both. */
  async spread_cut(servers, id) {
    const load = webinar({ urls: URLS, room: 'cut', viewers: VIEWERS, seconds: 20 });
    await until('all are in', async () => (await clientsOf(servers)) >= VIEWERS + 1);
    await sleep(4000);
    cutOff(id, 'n3', ['n1', 'n2'], true);
    await until('the link is silent', async () => (await servers.metric('n1', 'moonring_link_silent')) > 0);
    await sleep(2000);
    cutOff(id, 'n3', ['n1', 'n2'], false);
    await until('the link is heard again', async () => (await servers.metric('n1', 'moonring_link_silent')) === 0);
    const report = await load.report;
    check(report.connected === VIEWERS + 1, `${report.connected} are connected at the end`);
    row('link between two nodes cut', [], `nobody ended; left out ${report.left_out}, lost ${report.lost} of ${report.packets_out}`);
  },

  /** Two nodes do not reach each other, neither way, for as long as the call lasts. */
  async spread_dead_link(servers, id) {
    const cut = (isCut) => {
      cutOff(id, 'n3', ['n1', 'n2'], isCut);
      for (const other of ['n1', 'n2']) cutOff(id, other, ['n3'], isCut);
    };
    const load = webinar({ urls: URLS, room: 'apart', viewers: VIEWERS, seconds: 20 });
    await until('all are in', async () => (await clientsOf(servers)) >= VIEWERS + 1);
    const there = await clientsOf(servers, ['n3']);
    check(there >= VIEWERS / NODES.length, `${there} are at n3`);
    // Who cannot move: a publisher by WHIP and a viewer by WHEP, in a room of n1's.
    const [holder, fixed] = [new Person('fixed', [socketOf('n1')]), 2];
    await until('the room is there', () => holder.isIn);
    const whep = webinar({ urls: [whepOf('n3')], room: 'fixed', viewers: 1, seconds: 30 });
    await until('they are in', async () => (await clientsOf(servers, ['n3'])) === there + fixed);
    await sleep(4000);
    const since = performance.now();
    cut(true);
    await until('who can move is not on it', async () => (await clientsOf(servers, ['n3'])) === fixed);
    const took = Math.round(performance.now() - since);
    await until('nobody is on it', async () => (await clientsOf(servers, ['n3'])) === 0);
    const left = Math.round(performance.now() - since);
    const report = await load.report;
    const { connected } = await whep.report;
    check(connected === 0, `${connected} of those who cannot move have stayed`);
    cut(false);
    leaveAll([holder]);
    check(report.connected === VIEWERS + 1 && report.resume.count === there, `${report.connected} are connected at the end, ${report.resume.count} of ${there} have resumed`);
    const gap = Math.round(report.longest_gap_ms);
    row('link between two nodes dead', [], `${there} clients at the home after ${took} ms; longest gap ${gap} ms; left out ${report.left_out}, lost ${report.lost} of ${report.packets_out}; WHIP and WHEP sent away after ${left} ms`);
  },

  ...FURTHER,
  ...ROLLING,
  ...ROTATION,
  ...STORES,
};

/** A node's endpoints of WHIP and WHEP, for the load. */
const whepOf = (node) => socketOf(node).replace(/^ws/, 'whip+http').replace(/\/ws$/, '/{kind}/{room}');

/** Clients of all nodes. */
async function clientsOf(servers, nodes = NODES) {
  const counts = await Promise.all(nodes.map((node) => servers.metric(node, 'moonring_shard_clients')));
  return counts.reduce((a, b) => a + b);
}

/** A metric of each node. */
async function ofAll(servers, name) {
  return Object.fromEntries(await Promise.all(NODES.map(async (node) => [node, await servers.metric(node, name)])));
}

if (!existsSync(new URL('../e2e/node_modules/ws', import.meta.url))) throw new Error('the npm packages of tests/e2e are not installed: make tools-browser');
/** Those of webinars have media, and their rooms are over all nodes and shards. */
const hasMedia = (name) => name.startsWith('spread') || name.startsWith('drain');
const settingsOf = (name) => (hasMedia(name) ? SPREAD : ONE_SHARD);
const placesOf = (name) => (hasMedia(name) ? 2 : 1);
process.exit(await run({ scenarios: SCENARIOS, settingsOf, placesOf, longest: ['drain_rolling', 'nats', 'spread_dead_link'], byName: Object.keys({ ...FURTHER, ...ROTATION }) }));
