// Namespaces on one bridge, each with an address: NATS and three nodes. The hub has the bridge, and is where the clients are.
import { execFileSync } from 'node:child_process';

const ip = (...args) => execFileSync('ip', args, { stdio: ['ignore', 'pipe', 'pipe'] }).toString();

/** The addresses of all places. */
export const ADDRESSES = { hub: '10.184.0.1', nats: '10.184.0.2', n1: '10.184.0.11', n2: '10.184.0.12', n3: '10.184.0.13' };
export const NODES = ['n1', 'n2', 'n3'];

export const namespaceOf = (id, place) => `clu${id}-${place}`;
const linkOf = (id, place) => `clu${id % 1_000_000}${place}`;

/** Makes them. Needs root. `remove()` ends what is left in them. */
export function createNet(id) {
  if (process.getuid() !== 0) throw new Error('network namespaces need root: run this as root or with sudo');
  const made = [];
  const remove = () => {
    for (const name of made.reverse()) {
      for (const pid of ip('netns', 'pids', name).split('\n').filter(Boolean)) end(Number(pid));
      ip('netns', 'del', name);
    }
  };
  try {
    for (const place of Object.keys(ADDRESSES)) {
      ip('netns', 'add', namespaceOf(id, place));
      made.push(namespaceOf(id, place));
      ip('-n', namespaceOf(id, place), 'link', 'set', 'lo', 'up');
    }
    const hub = namespaceOf(id, 'hub');
    ip('-n', hub, 'link', 'add', 'name', 'bridge0', 'type', 'bridge');
    ip('-n', hub, 'addr', 'add', `${ADDRESSES.hub}/24`, 'dev', 'bridge0');
    ip('-n', hub, 'link', 'set', 'bridge0', 'up');
    for (const place of ['nats', ...NODES]) {
      const [link, name] = [linkOf(id, place), namespaceOf(id, place)];
      ip('-n', hub, 'link', 'add', link, 'type', 'veth', 'peer', 'name', 'eth', 'netns', name);
      ip('-n', hub, 'link', 'set', link, 'master', 'bridge0', 'up');
      ip('-n', name, 'addr', 'add', `${ADDRESSES[place]}/24`, 'dev', 'eth');
      ip('-n', name, 'link', 'set', 'eth', 'up');
    }
  } catch (error) {
    remove();
    throw error;
  }
  return { hub: namespaceOf(id, 'hub'), remove };
}

/** Takes a place's link down, or up again. */
export function setLink(id, place, state) {
  ip('-n', namespaceOf(id, 'hub'), 'link', 'set', linkOf(id, place), state);
}

/** Lets a place reach none of the others, or all again; clients reach it all the time. */
export function cutOff(id, place, others, isCut) {
  for (const other of others) ip('-n', namespaceOf(id, place), 'route', isCut ? 'add' : 'del', 'blackhole', `${ADDRESSES[other]}/32`);
}

function end(pid) {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // It has ended meanwhile.
  }
}
