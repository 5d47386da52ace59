// @ts-check
/** The operators' page: the canary, the cluster's nodes, the rooms, their policies and the paths to their clients, as
 *  `/canary`, `/nodes` and `/rooms` tell. */
import { showCanary } from './canary.js';
import { showNodes } from './nodes.js';
import { describeRoom, describeScript, innerRow } from './rows.js';

const PERIOD_MS = 2000;
const PAGE = 100;
/** The server tells of no more at once. */
const MOST = 2000;
/** So many looks the curves go back. */
const KEPT = 150;

/**
 * @typedef {{client: string, via: string, transport: string | null, sharing: number, estimate: number | null, target: number | null, paused: number, rtt: number | null,
 *            loss: number, resends: number}} Path
 * @typedef {{script: string, version: string, last_reload: null | {ok: string} | {failed: string}, suspended: boolean,
 *            hooks: number, failures: number, hook_p99_us: number, memory_bytes: number, host_bytes: number, queued: number,
 *            queued_joins: number, waiting: number, timers: number, reloads: number, reloads_failed: number,
 *            counters: Record<string, number>}} Policy
 * @typedef {{room: string, node?: string, shard: number, clients: number, tracks: number | null, policy: Policy | null, paths: Path[]}} Room
 * @typedef {{estimate: number | null, paused: boolean}} Look
 */

const $ = (/** @type {string} */ id) => /** @type {any} */ (document.getElementById(id));
const body = $('rooms').tBodies[0];
/** @type {Set<string>} */ const open = new Set();
/** What was seen of each path, by room and client. @type {Map<string, Look[]>} */ const seen = new Map();
let limit = PAGE;
let timer = 0;
let asked = 0;

/** Asks for the rooms and shows them, again and again while the page is looked at. */
async function look() {
  clearTimeout(timer);
  const mine = ++asked;
  if (document.visibilityState === 'visible') {
    try {
      const page = await rooms();
      const canary = page && (await canaryNow());
      const nodes = page && (await nodesNow());
      if (mine !== asked) return; // another look was begun meanwhile
      showCanary($('canary'), canary);
      showNodes($('nodes'), nodes);
      if (page) show(page);
    } catch (error) {
      if (mine === asked) totals(`The server does not answer: ${error}`, true);
    }
  }
  timer = setTimeout(look, PERIOD_MS);
}

/** Asks for a page with the token, if there is one. @param {string} path */
function ask(path) {
  const token = sessionStorage.getItem('admin_token');
  const headers = token ? { authorization: `Bearer ${token}` } : undefined;
  return fetch(path, { headers, signal: AbortSignal.timeout(10_000) });
}

/** @returns {Promise<import('./canary.js').Canary | undefined>} */
async function canaryNow() {
  const reply = await ask('/canary');
  return reply.ok ? reply.json() : undefined; // 503: the scripts folder is not watched
}

/** @returns {Promise<import('./nodes.js').Node[]>} */
async function nodesNow() {
  const reply = await ask('/nodes');
  return reply.ok ? reply.json() : [];
}

/** @returns {Promise<{rooms: Room[], next: string | null, missing?: string[]} | undefined>} */
async function rooms() {
  const reply = await ask(`/rooms?everywhere=true&limit=${limit}&named=${encodeURIComponent($('filter').value)}`);
  $('login').hidden = reply.status !== 401;
  if (reply.status === 401) {
    $('refused').textContent = sessionStorage.getItem('admin_token') ? 'That is not the admin_token.' : '';
    $('rooms').hidden = $('none').hidden = $('more').hidden = true;
    totals('');
    return undefined;
  }
  if (!reply.ok) throw new Error((await reply.text()) || String(reply.status));
  return reply.json();
}

/** @param {{rooms: Room[], next: string | null, missing?: string[]}} page */
function show({ rooms, next, missing = [] }) {
  note(rooms);
  const clients = rooms.reduce((sum, { clients }) => sum + clients, 0);
  const bad = rooms.filter(({ policy }) => policy && (policy.suspended || 'failed' in (policy.last_reload ?? {}))).length;
  const rest = next === null ? '' : limit < MOST ? ' and more' : ' and more (name the ones to see)';
  const trouble = bad ? `, ${bad} with a script in trouble` : '';
  const silent = missing.length > 0 ? `; nodes that do not answer: ${missing.join(', ')}` : '';
  totals(`${count(rooms.length, 'room')}${rest}, ${count(clients, 'client')}${trouble}${silent}`, bad > 0 || missing.length > 0);
  const focused = /** @type {HTMLElement | null} */ (document.activeElement)?.dataset.room;
  body.replaceChildren(...rooms.flatMap(rows));
  if (focused !== undefined) [...body.querySelectorAll('button')].find((button) => button.dataset.room === focused)?.focus();
  $('rooms').hidden = rooms.length === 0;
  $('none').hidden = rooms.length > 0;
  $('more').hidden = next === null || limit >= MOST;
}

/** Keeps what is drawn, of the paths that are still there. @param {Room[]} rooms */
function note(rooms) {
  const before = new Map(seen);
  seen.clear();
  for (const { room, paths } of rooms) {
    for (const { client, estimate, paused } of paths) {
      const looks = before.get(`${room} ${client}`) ?? [];
      seen.set(`${room} ${client}`, [...looks, { estimate, paused: paused > 0 }].slice(-KEPT));
    }
  }
}

/** @param {Room} room */
function rows(room) {
  const row = document.createElement('tr');
  const button = document.createElement('button');
  button.textContent = room.room;
  button.dataset.room = room.room;
  button.setAttribute('aria-expanded', String(open.has(room.room)));
  button.addEventListener('click', () => {
    if (!open.delete(room.room)) open.add(room.room);
    look();
  });
  row.insertCell().append(button);
  for (const { text, words, bad } of [...describeRoom(room), ...describeScript(room.policy)]) {
    const cell = row.insertCell();
    cell.textContent = text;
    cell.classList.toggle('words', Boolean(words));
    cell.classList.toggle('bad', Boolean(bad));
  }
  if (!open.has(room.room)) return [row];
  return [row, innerRow(room, row.cells.length, (client) => seen.get(`${room.room} ${client}`) ?? [])];
}

/** Writes only what is new: what reads the page aloud hears nothing twice. @param {string} text @param {boolean} [bad] */
function totals(text, bad = false) {
  if ($('totals').textContent !== text) $('totals').textContent = text;
  $('totals').classList.toggle('bad', bad);
}

/** @param {number} n @param {string} what */
function count(n, what) {
  return `${n.toLocaleString('en')} ${what}${n === 1 ? '' : 's'}`;
}

$('login').addEventListener('submit', (/** @type {Event} */ event) => {
  event.preventDefault();
  sessionStorage.setItem('admin_token', $('token').value);
  $('token').value = '';
  look();
});
$('filter').addEventListener('input', look);
$('more').addEventListener('click', () => {
  limit = Math.min(MOST, limit * 4);
  look();
});
document.addEventListener('visibilitychange', look);
look();
