// @ts-check
// Namespaces of their own for the server and each browser: a star of veth pairs with the server in its hub, which routes
// between the browsers too, so that two of them connected directly meet the same bottleneck. The limit of a link is a
// token bucket in front of the browser, as a slow access line is: what comes towards it is delayed, then dropped.
import { execFileSync, spawn } from 'node:child_process';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The server's address, on the hub's loopback. */
export const SERVER_ADDRESS = '10.183.0.1';
/** From a place's subnet to the next that it moves to: there are fewer places than this. */
const ANOTHER = 50;
/** What the queue in front of a bottleneck holds. */
const QUEUE_MS = 400;

const run = (/** @type {string} */ program, /** @type {string[]} */ args) => execFileSync(program, args, { stdio: ['ignore', 'pipe', 'pipe'] }).toString();
const ip = (/** @type {string[]} */ ...args) => run('ip', args);

const RELAY = fileURLToPath(new URL('relay.py', import.meta.url));

/** @typedef {{packets: number, drops: number, bytes: number}} Passed */
/** What a link does to packets, each way. @typedef {{delayMs?: number, jitterMs?: number, lossPercent?: number}} Harm */
/** @typedef {ReturnType<typeof createNet>} Net */
/** @typedef {Awaited<ReturnType<Net['place']>>} Place */

/** The hub. Needs root. `remove()` ends what is left in the namespaces. */
export function createNet() {
  if (process.getuid?.() !== 0) throw new Error('network namespaces need root: run this as root or with sudo');
  const id = process.pid;
  const hub = `net-${id}-hub`;
  const scripts = mkdtempSync(join(tmpdir(), 'net-'));
  /** @type {string[]} */ const names = [];
  /** @type {import('node:child_process').ChildProcess[]} */ const relays = [];
  const add = (/** @type {string} */ name) => {
    ip('netns', 'add', name);
    names.push(name);
    ip('-n', name, 'link', 'set', 'lo', 'up');
  };
  add(hub);
  ip('-n', hub, 'addr', 'add', `${SERVER_ADDRESS}/32`, 'dev', 'lo');
  ip('netns', 'exec', hub, 'sysctl', '-qw', 'net.ipv4.ip_forward=1');
  return {
    hub,
    /** A folder that goes with it. */
    scratch: scripts,
    /** Bytes that wait in the kernel for one connection of the server's media ports, where most do. */
    unsent() {
      const lines = run('ip', ['netns', 'exec', hub, 'ss', '-Htn', 'state', 'established', 'sport', '>=', ':18310', 'sport', '<=', ':18319']).split('\n');
      return Math.max(0, ...lines.filter(Boolean).map((line) => Number(line.trim().split(/\s+/)[1])));
    },
    /** A place for a browser, behind a link of its own; with `harm` a link that delays and loses packets.
     *  @param {Harm} [harm] */
    async place(harm) {
      const n = names.length;
      const [name, link] = [`net-${id}-${n}`, `net${id % 1_000_000}-${n}`];
      add(name);
      const relay = harm && (await startRelay([hub, `${link}h`, name, `${link}c`], { ...harm, seed: n }));
      if (relay) relays.push(relay);
      else ip('-n', hub, 'link', 'add', `${link}h`, 'type', 'veth', 'peer', 'name', `${link}c`, 'netns', name);
      ip('-n', hub, 'addr', 'add', `10.183.${n}.1/30`, 'dev', `${link}h`);
      ip('-n', hub, 'link', 'set', `${link}h`, 'up');
      ip('-n', name, 'addr', 'add', `10.183.${n}.2/30`, 'dev', `${link}c`);
      ip('-n', name, 'link', 'set', `${link}c`, 'up');
      ip('-n', name, 'route', 'add', 'default', 'via', `10.183.${n}.1`);
      let subnet = n;
      return {
        /** How the connections of the server to the place find out how fast to send, and the other way: `cubic`, as on most servers.
         *  @param {string} control */
        control(control) {
          for (const namespace of [hub, name]) {
            const routes = ip('-n', namespace, '-4', 'route').split('\n').filter((route) => route.includes(link) || namespace === name);
            // A namespace has no say in what the kernel does by default.
            for (const route of routes.filter(Boolean)) ip('-n', namespace, 'route', 'replace', ...route.trim().split(/\s+/), 'congctl', control);
          }
        },
        wrap: (/** @type {string} */ program) => wrapper(scripts, name, program),
        ...createLink(hub, `${link}h`),
        /** Loses everything for a while, on a link that has a harm. @param {number} ms */
        cut(ms) {
          if (!relay || relay.exitCode !== null) throw new Error('no program runs this link that could cut it');
          relay.stdin.write(`cut ${ms}\n`);
        },
        /** Gives the place another address, as a change from one access network to another does. */
        move() {
          const before = subnet;
          subnet += ANOTHER;
          ip('-n', hub, 'addr', 'add', `10.183.${subnet}.1/30`, 'dev', `${link}h`);
          ip('-n', name, 'addr', 'del', `10.183.${before}.2/30`, 'dev', `${link}c`); // and with it the default route
          ip('-n', name, 'addr', 'add', `10.183.${subnet}.2/30`, 'dev', `${link}c`);
          ip('-n', name, 'route', 'add', 'default', 'via', `10.183.${subnet}.1`);
          ip('-n', hub, 'addr', 'del', `10.183.${before}.1/30`, 'dev', `${link}h`);
        },
      };
    },
    remove() {
      relays.forEach((relay) => relay.kill('SIGKILL'));
      for (const name of names) {
        for (const pid of ip('netns', 'pids', name).split('\n').filter(Boolean)) end(Number(pid));
        ip('netns', 'del', name);
      }
      rmSync(scripts, { recursive: true });
    },
  };
}

/** Starts the program between two TUN devices. @param {string[]} ends @param {Harm & {seed: number}} harm */
async function startRelay(ends, { delayMs = 0, jitterMs = 0, lossPercent = 0, seed }) {
  const args = [RELAY, ...ends, '--delay-ms', String(delayMs), '--jitter-ms', String(jitterMs), '--loss', String(lossPercent), '--seed', String(seed)];
  const relay = spawn('nice', ['-n', '-15', 'python3', ...args], { stdio: ['pipe', 'pipe', 'inherit'] });
  await new Promise((ready, failed) => {
    relay.stdout.once('data', ready);
    relay.once('exit', (code) => failed(new Error(`${RELAY} ended with ${code}`)));
  });
  relay.removeAllListeners('exit');
  return relay;
}

/** The way to one browser. @param {string} hub @param {string} device */
function createLink(hub, device) {
  const tc = (/** @type {string[]} */ ...args) => run('tc', ['-n', hub, ...args]);
  const queue = () => JSON.parse(tc('-s', '-j', 'qdisc', 'show', 'dev', device, 'root') || '[]').find((/** @type {any} */ { kind }) => kind === 'tbf');
  return {
    /** What went through the limit so far, and what it dropped. @returns {Passed} */
    passed() {
      const { packets = 0, drops = 0, bytes = 0 } = queue() ?? {};
      return { packets, drops, bytes };
    },
    /** Limits the link, or no more: then the queue stays, so that what is in it is not lost. @param {number | null} kbps */
    limit(kbps) {
      const isLimited = queue() !== undefined;
      if (!kbps && !isLimited) return;
      const rate = kbps ? ['rate', `${kbps}kbit`, 'burst', '8kb'] : ['rate', '10gbit', 'burst', '10mb'];
      tc('qdisc', isLimited ? 'change' : 'add', 'dev', device, 'root', 'tbf', ...rate, 'latency', `${QUEUE_MS}ms`);
    },
  };
}

/** A script that runs a program in a namespace. @param {string} folder @param {string} name @param {string} program */
function wrapper(folder, name, program) {
  const path = join(folder, name);
  writeFileSync(path, `#!/bin/sh\nexec ip netns exec ${name} ${program} "$@"\n`);
  chmodSync(path, 0o755);
  return path;
}

/** @param {number} pid */
function end(pid) {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // It has ended meanwhile.
  }
}
