// What all nodes have together: the stores of policies, and scripts that were uploaded to one node.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { check, row } from '../lib/found.mjs';
import { NODES } from '../lib/net.mjs';
import { Person, ask } from '../lib/people.mjs';
import { socketOf, until } from '../lib/servers.mjs';

/** A policy that lets everybody in, or tells everybody a word. */
const LETS_IN = 'function on_client_connect() return true end';
const refusing = (word) => `function on_client_connect() return false, "${word}" end`;

/** A policy that counts who comes, and tells operators. */
const COUNTS = `
CHECKPOINT_SECONDS = 1
local ever = 0
function on_unload() return ever end
function on_load(state) ever = state or 0 end
function on_client_connect(client, token)
  ever = ever + 1
  sfu.store.incr("visits")
  sfu.shared.incr("all")
  return token == "moonring", "Wrong token"
end
function on_admin(request)
  if request.word then
    local done, why = pcall(sfu.store.set, "word", request.word)
    return { done = done, why = tostring(why) }
  end
  return { visits = sfu.store.get("visits"), word = sfu.store.get("word"), all = sfu.shared.get("all"), ever = ever }
end
`;
/** Rooms that begin on each node at once. */
const ROOMS = 10;
/** For how long NATS is gone. */
const GONE_MS = 3000;

export const STORES = {
  /** A room is taken over, rooms on all nodes count together, and NATS is gone for some seconds. */
  async stores(servers) {
    const policy = join(servers.folder('policy'), 'default_room.lua');
    writeFileSync(policy, COUNTS);
    const pushed = await servers.command('n1', 'scripts', 'push', policy);
    check(pushed.code === 0, pushed.output);
    const call = async (node, room, request = {}) => {
      const { code, output } = await servers.command(node, 'call', room, JSON.stringify(request));
      return code === 0 ? JSON.parse(output) : { failed: output };
    };
    const person = new Person('store', NODES.map(socketOf));
    await until('somebody is in', () => person.isIn);
    check((await call('n1', 'store', { word: 'kept' })).done === true, 'a value is stored');
    await until('a checkpoint is kept', async () => (await servers.metric('n1', 'moonring_checkpoints_total{outcome="kept"}')) > 0);
    const since = performance.now();
    await servers.signal('n1', 'SIGKILL');
    await until('they are back elsewhere', () => person.isIn && person.joinedAt > since);
    const at = async () => Promise.all(['n2', 'n3'].map((node) => call(node, 'store')));
    const [found] = (await at()).filter(({ failed }) => failed === undefined);
    check(found?.word === 'kept' && found.visits === 2, `the room finds its store after kill -9 of its home: ${JSON.stringify(found)}`);
    check(found.ever === 2, `and goes on with what its script had in Lua: ${JSON.stringify(found)}`);

    const began = performance.now();
    const joins = ['n2', 'n3'].flatMap((node) => Array.from({ length: ROOMS }, (_, n) => ask(socketOf(node), `count-${node}-${n}`)));
    const answers = await Promise.all(joins);
    const took = Math.round(performance.now() - began);
    check(answers.every((answer) => answer === 'joined'), `all come in: ${answers}`);
    const [counted] = (await at()).filter(({ failed }) => failed === undefined);
    check(counted.all === 2 + answers.length, `all nodes count together: ${counted.all}`);

    const [node] = (await Promise.all(['n2', 'n3'].map(async (node) => [node, await call(node, 'store')]))).find(([, { failed }]) => failed === undefined);
    await servers.signal('nats', 'SIGKILL');
    await until('the node notices', async () => (await call(node, 'store', { word: 'lost' })).done === false);
    const gone = performance.now();
    const refused = await call(node, 'store', { word: 'lost' });
    const read = await call(node, 'store');
    check(refused.why.includes('cannot be reached'), `what is written is an error: ${JSON.stringify(refused)}`);
    check(read.word === 'kept' && read.visits === 2, `what is known is read: ${JSON.stringify(read)}`);
    await until('some seconds pass', () => performance.now() - gone > GONE_MS);
    check(person.isIn && (await call(node, 'store')).word === 'kept', 'the room goes on');
    await servers.start('nats');
    await until('values are stored again', async () => (await call(node, 'store', { word: 'again' })).done === true);
    check((await call(node, 'store')).word === 'again', 'and read');
    row('stores of all nodes', [], `a room taken over finds its values, and its checkpoint; ${answers.length} joins in ${took} ms on two nodes are ${answers.length} counts; NATS gone for ${GONE_MS / 1000} s: values are read, and stored again afterwards`);
    person.leave();
  },

  /** Scripts are uploaded to one node; one of them is away, and NATS has to keep them. */
  async scripts(servers) {
    const folder = servers.folder('upload');
    const file = (name, text) => {
      writeFileSync(join(folder, name), text);
      return join(folder, name);
    };
    const push = (node, path, ...more) => servers.command(node, 'scripts', 'push', path, ...more);
    // A new room each time, which begins at the node that is asked.
    let rooms = 0;
    const answers = () => Promise.all(NODES.map((node) => ask(socketOf(node), `scripts-${rooms++}`)));
    const since = performance.now();
    const first = await push('n1', file('demo.lua', refusing('one')), '--as', 'default_room.lua');
    const took = Math.round(performance.now() - since);
    check(first.code === 0 && NODES.every((node) => first.output.includes(`${node} has loaded them, 1 changed`)), first.output);
    check((await answers()).join() === 'rejected,rejected,rejected', 'all nodes run the script');
    const broken = await push('n2', file('broken.lua', 'x = = 1'), '--as', 'default_room.lua');
    check(broken.code === 1 && broken.output.includes('nothing was changed anywhere') && broken.output.includes('default_room.lua:1: unexpected symbol'), broken.output);
    check((await answers()).join() === 'rejected,rejected,rejected', 'all nodes run the script of before');

    await servers.signal('n3', 'SIGKILL');
    await until('the others notice', async () => (await servers.nodes('n1')).some(({ node, verdict }) => node === 'n3' && verdict === 'dead'));
    const second = await push('n2', file('demo.lua', LETS_IN), '--as', 'default_room.lua');
    check(second.code === 0 && second.output.includes('n3 is away'), second.output);
    await servers.start('n3');
    await until('who was away has the script', async () => (await servers.command('n3', 'scripts', 'list')).output.split('\n').filter((line) => line.endsWith(' has them')).length === 3);
    await until('and runs it', async () => (await ask(socketOf('n3'), `scripts-${rooms++}`)) === 'joined');
    const dropped = await servers.command('n1', 'scripts', 'drop', 'default_room.lua');
    check(dropped.code === 0 && dropped.output.includes('0 uploaded scripts'), dropped.output);
    row('scripts by one upload', [], `three nodes run it ${took} ms after the command was given; a broken one nowhere; who was away has it`);
  },
};
