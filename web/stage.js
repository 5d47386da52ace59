// @ts-check
/** How the tiles stand: as a grid, or one large and the others in a row below; and full screen. */
import { $, kept, page } from './page.js';

/** @typedef {import('./tile.js').Tile} Tile */

/** @type {'grid'|'speaker'} */ let view = kept.get('view') === 'speaker' ? 'speaker' : 'grid';
/** @type {Tile | undefined} */ let pinned;
/** Who is large while nobody is pinned. @type {Tile | undefined} */ let spoke;

/** Puts the tiles where they belong. They keep their place in the document, and so the focus where it is. */
export function arrange() {
  const box = $('tiles');
  const tiles = [...page.tiles.values()].filter(({ root }) => root.isConnected);
  if (pinned && !tiles.includes(pinned)) pinned = undefined;
  const large = tiles.length > 1 && (pinned ?? (view === 'speaker' ? speaker(tiles) : undefined));
  box.dataset.view = large ? 'speaker' : 'grid';
  let place = 2; // column 1 is the margin
  for (const tile of tiles) {
    tile.root.classList.toggle('large', tile === large);
    if (tile !== large) tile.root.style.setProperty('--place', String(place++));
    tile.pin.setAttribute('aria-pressed', String(tile === pinned));
  }
  box.style.setProperty('--others', String(Math.max(1, tiles.length - 1)));
  box.style.setProperty('--columns', String(columns(box, Math.max(1, box.children.length))));
}

/** As many columns as make the tiles largest, taking them as 4:3. @param {HTMLElement} box @param {number} count */
function columns({ clientWidth: width, clientHeight: height }, count) {
  const size = (/** @type {number} */ n) => Math.min(width / n / 4, height / Math.ceil(count / n) / 3);
  let best = 1;
  for (let n = 2; n <= count; n++) if (size(n) > size(best)) best = n;
  return best;
}

/** A shared screen, else who spoke last, else the first of the others. @param {Tile[]} tiles */
function speaker(tiles) {
  const others = tiles.filter(({ root }) => !root.classList.contains('mine'));
  const screen = others.find(({ root }) => root.dataset.source === 'screen');
  if (screen) return screen;
  const loudest = page.speakers.map((id) => page.tiles.get(id)).find((tile) => tile && others.includes(tile));
  if (loudest) spoke = loudest;
  if (!spoke || !tiles.includes(spoke)) spoke = others[0];
  return spoke ?? tiles[0];
}

/** Makes a tile large and keeps it so; the second time, no more. @param {Tile | undefined} tile */
export function pin(tile) {
  pinned = tile === pinned ? undefined : tile;
  arrange();
}

export function isPinned() {
  return pinned !== undefined;
}

/** @param {string[]} clients who speaks */
export function highlight(clients) {
  page.speakers = clients;
  for (const tile of page.tiles.values()) {
    const id = tile.root.classList.contains('mine') ? page.client?.id : tile.client;
    tile.root.classList.toggle('speaking', clients.includes(String(id)));
  }
  if (view === 'speaker' && !pinned) arrange();
}

function showView() {
  $('view').firstChild.textContent = view === 'grid' ? 'Speaker view ' : 'Grid view ';
  arrange();
}

export function toggleView() {
  view = view === 'grid' ? 'speaker' : 'grid';
  kept.set('view', view);
  showView();
}

export async function toggleFullScreen() {
  if (document.fullscreenElement) await document.exitFullscreen();
  else await document.documentElement.requestFullscreen?.().catch(() => {});
}

$('view').addEventListener('click', toggleView);
$('full').addEventListener('click', toggleFullScreen);
$('full').hidden = !document.fullscreenEnabled;
document.addEventListener('fullscreenchange', () => {
  $('full').firstChild.textContent = document.fullscreenElement ? 'Leave full screen ' : 'Full screen ';
});
new ResizeObserver(() => arrange()).observe($('stage'));
showView();
