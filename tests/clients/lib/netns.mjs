// A network namespace for the clients. Some refuse 127.0.0.1 (Firefox, libnice), so the server listens on one end of a
// veth pair and every client lives behind the other, with a default route.
import { execFileSync } from 'node:child_process';
import { readlinkSync } from 'node:fs';

const ip = (...args) => execFileSync('ip', args, { stdio: ['ignore', 'pipe', 'pipe'] }).toString();

/** Makes the namespace; `remove()` ends every process that is left in it. Needs root. */
export function createNamespace() {
  if (process.getuid() !== 0) throw new Error('a network namespace needs root: run this as root or with sudo');
  const id = process.pid % 250;
  const name = `clients-${process.pid}`;
  const link = `clt${process.pid % 1_000_000}`; // at most 15 characters with the ending
  const [server, client] = [`10.182.${id}.1`, `10.182.${id}.2`];
  ip('netns', 'add', name);
  const remove = () => {
    for (const pid of ip('netns', 'pids', name).split('\n').filter(Boolean)) kill(Number(pid));
    ip('netns', 'del', name); // the veth pair goes with it
  };
  try {
    ip('link', 'add', `${link}s`, 'type', 'veth', 'peer', 'name', `${link}c`, 'netns', name);
    ip('addr', 'add', `${server}/30`, 'dev', `${link}s`);
    ip('link', 'set', `${link}s`, 'up');
    ip('-n', name, 'link', 'set', 'lo', 'up');
    ip('-n', name, 'addr', 'add', `${client}/30`, 'dev', `${link}c`);
    ip('-n', name, 'link', 'set', `${link}c`, 'up');
    ip('-n', name, 'route', 'add', 'default', 'via', server);
  } catch (error) {
    remove();
    throw error;
  }
  return { name, server, client, remove };
}

/** Ends one process of the namespace, which may be gone already. */
function kill(pid) {
  try {
    readlinkSync(`/proc/${pid}/ns/net`);
    process.kill(pid, 'SIGKILL');
  } catch {
    // It has ended meanwhile.
  }
}
