// From words of the command line to measurements.
import { CLIENTS, PARTNER } from '../clients/index.mjs';

export const DIRECTIONS = ['publish', 'receive'];
const byName = new Map(CLIENTS.map((client) => [client.name, client]));

/**
 * The cells that `words` choose: "all", "fast", or client[:codec[:direction]]. A cell is `{client, codec, direction}`;
 * sound, "opus", goes with the first codec of a client, chosen by itself too.
 */
export function cells(words) {
  const chosen = words.length > 0 ? words : ['all'];
  const found = chosen.flatMap((word) => {
    if (word === 'all') return CLIENTS.flatMap((client) => cellsOf(client));
    if (word === 'fast') return CLIENTS.filter(({ fast }) => fast).flatMap((client) => cellsOf(client));
    const [name, codec, direction] = word.split(':');
    const client = byName.get(name);
    const names = ['all', 'fast', ...byName.keys()].join(', ');
    if (!client) throw new Error(`there is no client "${name}"; there are: ${names}`);
    const matching = cellsOf(client).filter((c) => (!codec || c.codec === codec) && (!direction || c.direction === direction));
    if (matching.length === 0) throw new Error(`${name} has no ${[codec, direction].filter(Boolean).join(' ')}`);
    return matching;
  });
  const key = (cell) => `${cell.client.name} ${cell.codec} ${cell.direction}`;
  return [...new Map(found.map((cell) => [key(cell), cell])).values()];
}

function cellsOf(client) {
  return DIRECTIONS.flatMap((direction) => {
    const codecs = client[direction];
    const all = codecs.length > 0 ? [...codecs, 'opus'] : [];
    return all.map((codec) => ({ client, codec, direction }));
  });
}

/**
 * The measurements that fill the cells, with `partner` (a client's name) on the other side: `{publisher, receiver, video,
 * audio, fills}`, `fills` being cells. The partner with itself fills both directions at once. Cells whose codec the
 * partner does not have are left out.
 */
export function measurements(wanted, partner = PARTNER) {
  const other = byName.get(partner);
  if (!other) throw new Error(`there is no client "${partner}"`);
  const runs = new Map();
  for (const cell of wanted) {
    const { client, direction } = cell;
    const video = cell.codec === 'opus' ? client[direction][0] : cell.codec;
    const publisher = direction === 'publish' ? client : other;
    const receiver = direction === 'receive' ? client : other;
    if (!publisher.publish.includes(video) || !receiver.receive.includes(video)) continue;
    const key = `${publisher.name} ${receiver.name} ${video}`;
    const run = runs.get(key) ?? { publisher, receiver, video, audio: false, fills: [] };
    run.audio ||= cell.codec === 'opus';
    run.fills.push(cell);
    runs.set(key, run);
  }
  return [...runs.values()];
}

/** The clients that have to be installed. */
export function needed(runs) {
  return [...new Set(runs.flatMap(({ publisher, receiver }) => [publisher, receiver]))];
}
