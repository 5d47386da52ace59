// @ts-check
/** Who is in the room, with what they send. */
import { $, element, nameOf, page, write } from './page.js';

/** @type {Map<string, HTMLElement>} */ const rows = new Map();

/** Brings the list up to date; rows stay where they are. */
export function showPeople() {
  const { client } = page;
  if (!client) return;
  const ids = ['me', ...client.clients.keys()];
  for (const [id, row] of rows) {
    if (ids.includes(id)) continue;
    row.remove();
    rows.delete(id);
  }
  for (const id of ids) {
    const row = rows.get(id) ?? add(id);
    const [name, what] = /** @type {[HTMLElement, HTMLElement]} */ (/** @type {unknown} */ (row.children));
    write(name, id === 'me' ? `${page.form.name} (you)` : nameOf(id));
    write(what, id === 'me' ? own() : sends(id));
  }
  write($('head-count'), String(ids.length));
}

/** @param {string} id */
function add(id) {
  const row = element('li', '', '');
  row.append(element('b', '', ''), element('span', '', ''));
  $('persons').append(row);
  rows.set(id, row);
  return row;
}

function own() {
  const parts = [];
  if (page.media.camera?.readyState === 'live' && !page.off.has('camera') && !page.refused.camera) parts.push('camera');
  if (page.media.mic?.readyState === 'live') parts.push(page.off.has('mic') ? 'muted' : 'microphone');
  if (page.media.screen) parts.push('screen');
  return parts.join(', ') || 'watches';
}

/** @param {string} id */
function sends(id) {
  const tracks = [...(page.client?.tracks.values() ?? [])].filter(({ client }) => client === id);
  const parts = tracks.map(({ source, kind, muted }) => {
    if (kind === 'audio') return muted ? 'muted' : 'microphone';
    return muted ? '' : source === 'other' ? 'video' : source;
  });
  return parts.filter(Boolean).sort().join(', ') || 'watches';
}
