// @ts-check
/** What a room looks like in the operators' table. */

/**
 * @typedef {import('./admin.js').Room} Room
 * @typedef {import('./admin.js').Policy} Policy
 * @typedef {import('./admin.js').Path} Path
 * @typedef {import('./admin.js').Look} Look
 * @typedef {{text: string, words?: boolean, bad?: boolean}} Cell
 */

/** @param {Room} room @returns {Cell[]} */
export function describeRoom({ node, shard, clients, tracks }) {
  return [{ text: node === undefined ? String(shard) : `${node}/${shard}` }, { text: String(clients) }, { text: String(tracks ?? '?') }];
}

/** @param {Policy | null} policy @returns {Cell[]} */
export function describeScript(policy) {
  if (!policy) return Array.from({ length: 6 }, () => ({ text: '?' }));
  const state = stateOf(policy);
  return [
    { text: `${policy.script} ${policy.version.slice(0, 8)}`, words: true },
    { text: policy.hooks.toLocaleString('en') },
    { text: policy.failures.toLocaleString('en'), bad: policy.failures > 0 },
    { text: `${policy.hook_p99_us.toFixed(0)} µs` },
    { text: bytes(policy.memory_bytes + policy.host_bytes) },
    { text: state ?? 'runs', words: true, bad: state !== undefined },
  ];
}

/** What is wrong with a script. @param {Policy} policy */
function stateOf({ suspended, last_reload }) {
  if (suspended) return 'suspended';
  return last_reload && 'failed' in last_reload ? 'not reloaded' : undefined;
}

/** The paths of a room's clients, and its script's last failure. @param {Room} room @param {number} columns @param {(client: string) => Look[]} seen */
export function innerRow(room, columns, seen) {
  const row = document.createElement('tr');
  row.className = 'inner';
  const cell = row.insertCell();
  cell.colSpan = columns;
  if (room.paths.length > 0) cell.append(paths(room.paths, seen));
  else cell.append(paragraph('Nothing is forwarded to anybody.'));
  if (room.paths.length > 0 && room.paths.length < room.clients) {
    cell.append(paragraph(`${room.paths.length} of ${room.clients} clients are shown.`));
  }
  const { policy } = room;
  if (!policy) return row;
  const waits = `${policy.queued} events and ${policy.queued_joins} joins queued, ${policy.waiting} hooks wait, ${policy.timers} timers`;
  cell.append(paragraph(`${waits}; reloaded ${policy.reloads} times, ${policy.reloads_failed} failed.`));
  const counters = Object.entries(policy.counters).map(([name, n]) => `${name} ${n.toLocaleString('en')}`);
  if (counters.length > 0) cell.append(paragraph(counters.join(', ')));
  if (policy.last_reload && 'failed' in policy.last_reload) {
    const words = document.createElement('pre');
    words.className = 'bad';
    words.textContent = policy.last_reload.failed;
    cell.append(words);
  }
  return row;
}

/** A table with a head and no rows yet. @param {string[]} headings */
export function tableOf(headings) {
  const table = document.createElement('table');
  const head = table.createTHead().insertRow();
  for (const name of headings) {
    const cell = document.createElement('th');
    cell.scope = 'col';
    cell.textContent = name;
    head.append(cell);
  }
  return table;
}

/** @param {Path[]} list @param {(client: string) => Look[]} seen */
function paths(list, seen) {
  const headings = ['Client', 'Came by', 'Estimate', 'Target', 'Paused', 'Round trip', 'Loss', 'Resent', 'Last five minutes'];
  const table = tableOf(headings);
  const body = table.createTBody();
  for (const path of list) {
    const row = body.insertRow();
    const way = [path.via, path.transport].filter(Boolean).join('/');
    const shared = path.sharing > 0 ? ` (with ${path.sharing} on the same line)` : '';
    for (const text of [path.client, way, rate(path.estimate) + shared, rate(path.target)]) row.insertCell().textContent = text;
    const paused = row.insertCell();
    paused.textContent = String(path.paused);
    paused.classList.toggle('bad', path.paused > 0);
    const rest = [path.rtt === null ? '' : `${path.rtt.toFixed(0)} ms`, `${(path.loss * 100).toFixed(1)} %`, path.resends.toLocaleString('en')];
    for (const text of rest) row.insertCell().textContent = text;
    row.insertCell().append(curve(seen(path.client)));
  }
  return table;
}

/** The estimate over time; red where something was paused. @param {Look[]} looks */
function curve(looks) {
  const svg = element('svg', { viewBox: `0 0 ${Math.max(looks.length - 1, 1)} 1`, preserveAspectRatio: 'none', role: 'img' });
  const most = Math.max(1, ...looks.map(({ estimate }) => estimate ?? 0));
  svg.setAttribute('aria-label', `the estimate, up to ${rate(most)}`);
  looks.forEach(({ paused }, x) => {
    if (paused) svg.append(element('rect', { class: 'paused', x: String(x - 0.5), y: '0', width: '1', height: '1' }));
  });
  const known = looks.flatMap(({ estimate }, x) => (estimate === null ? [] : [`${x},${(1 - (0.96 * estimate) / most).toFixed(3)}`]));
  svg.append(element('polyline', { class: 'estimate', points: known.join(' ') }));
  return svg;
}

/** @param {string} name @param {Record<string, string>} attributes */
function element(name, attributes) {
  const made = document.createElementNS('http://www.w3.org/2000/svg', name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

/** @param {string} text */
function paragraph(text) {
  const made = document.createElement('p');
  made.textContent = text;
  return made;
}

/** @param {number | null} bps */
function rate(bps) {
  if (bps === null) return 'no limit';
  return bps >= 1e6 ? `${(bps / 1e6).toFixed(1)} Mbit/s` : `${(bps / 1e3).toFixed(0)} kbit/s`;
}

/** @param {number} n */
function bytes(n) {
  return n >= 1 << 20 ? `${(n / (1 << 20)).toFixed(1)} MiB` : `${(n / 1024).toFixed(0)} KiB`;
}
