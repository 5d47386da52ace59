// @ts-check
/** The tiles: who is in the call, each with picture, sound, a note and live figures. */
import { $, element, nameOf, notify, page } from './page.js';

const STATS_MS = 1000;

export class Tile {
  /** @param {string} client @param {string} name @param {boolean} mine */
  constructor(client, name, mine) {
    this.client = client;
    /** The video's track id. @type {string | undefined} */ this.video = undefined;
    /** @type {Map<string, HTMLAudioElement>} */ this.audio = new Map();
    /** Last bytes and time, for rates. */ this.bytes = 0;
    this.at = 0;
    this.root = document.createElement('figure');
    this.root.className = mine ? 'tile mine' : 'tile';
    this.root.style.margin = '0';
    this.root.style.setProperty('--hue', String([...client].reduce((sum, c) => (sum * 31 + c.charCodeAt(0)) % 360, 7)));
    this.root.setAttribute('role', 'listitem');
    this.root.setAttribute('aria-label', name);
    this.root.dataset.client = client;
    this.picture = Object.assign(document.createElement('video'), { autoplay: true, playsInline: true, muted: true });
    this.picture.setAttribute('aria-label', `Video of ${name}`);
    const face = element('div', 'face', [...name][0]?.toUpperCase() ?? '?');
    face.setAttribute('aria-hidden', 'true');
    const caption = document.createElement('figcaption');
    this.nameTag = element('span', 'name', mine ? `${name} (you)` : name);
    this.note = element('span', 'note', '');
    this.stats = element('span', 'stats', '');
    caption.append(this.nameTag, this.note, this.stats);
    this.root.append(face, this.picture, caption);
    $('tiles').append(this.root);
    arrange();
  }

  /** @param {MediaStreamTrack} media @param {string} [track] */
  show(media, track) {
    this.video = track;
    this.root.classList.remove('seen');
    this.picture.onloadeddata = () => this.root.classList.add('seen'); // the first frame is there
    this.picture.srcObject = new MediaStream([media]);
  }

  /** @param {boolean} hidden */
  hide(hidden) {
    this.root.classList.toggle('dark', hidden);
  }

  /** @param {MediaStreamTrack} media @param {string} track */
  hear(media, track) {
    const audio = document.createElement('audio');
    audio.srcObject = new MediaStream([media]);
    this.audio.set(track, audio);
    this.root.append(audio);
    audio.play().catch(() => {
      notify('The browser wants a click before it plays sound', 'note');
      addEventListener('click', () => audio.play().catch(() => {}), { once: true });
    });
  }

  remove() {
    this.root.remove();
    arrange();
  }
}

/** As many columns as make the tiles largest, taking them as 4:3. */
export function arrange() {
  const box = $('tiles');
  const count = Math.max(1, box.children.length);
  const { clientWidth: width, clientHeight: height } = box;
  const size = (/** @type {number} */ columns) => Math.min(width / columns / 4, height / Math.ceil(count / columns) / 3);
  let best = 1;
  for (let columns = 2; columns <= count; columns++) if (size(columns) > size(best)) best = columns;
  box.style.setProperty('--columns', String(best));
}
addEventListener('resize', arrange);

/** The tile of a client; for a second picture of the same client, one of its own.
 *  @param {string} client @param {import('./client.js').TrackInfo} [track] */
export function welcome(client, track) {
  const main = page.tiles.get(client) ?? new Tile(client, nameOf(client), false);
  page.tiles.set(client, main);
  if (!track || (!main.video && track.source !== 'screen') || main.video === track.id) return main;
  const extra = page.tiles.get(track.id) ?? new Tile(client, `${nameOf(client)}: ${track.source}`, false);
  page.tiles.set(track.id, extra);
  return extra;
}

/** @param {import('./client.js').TrackInfo} track */
export function mark(track) {
  const tile = [...page.tiles.values()].find((t) => t.video === track.id || t.audio.has(track.id));
  if (!tile) return;
  if (track.kind === 'video') tile.hide(track.muted);
  if (track.kind === 'audio') tile.note.textContent = track.muted ? 'muted' : '';
}

/** @param {string} id */
export function forget(id) {
  page.received.delete(id);
  const tile = page.tiles.get(id);
  tile?.remove();
  page.tiles.delete(id);
  for (const other of page.tiles.values()) {
    other.audio.get(id)?.remove();
    other.audio.delete(id);
    if (other.video !== id) continue;
    other.video = undefined;
    other.picture.srcObject = null;
    other.stats.textContent = '';
    other.root.classList.remove('seen');
  }
}

// ---- live figures ----

setInterval(async () => {
  const { client } = page;
  if (!client?.joined) return;
  for (const [key, tile] of page.tiles) {
    const mine = key === client.id;
    const source = mine ? client.sender(page.published.camera) : tile.video && client.receiver(tile.video);
    if (source) tile.stats.textContent = describe(tile, [...(await source.getStats()).values()]);
  }
}, STATS_MS);

/** @param {Tile} tile @param {any[]} reports */
function describe(tile, reports) {
  const streams = reports.filter(({ type }) => type === 'inbound-rtp' || type === 'outbound-rtp');
  const total = streams.reduce((sum, s) => sum + (s.bytesReceived ?? s.bytesSent ?? 0), 0);
  const now = performance.now();
  const rate = tile.at ? Math.max(0, ((total - tile.bytes) * 8000) / (now - tile.at)) : 0;
  tile.bytes = total;
  tile.at = now;
  const largest = streams.reduce((a, b) => ((b.frameHeight ?? 0) > (a?.frameHeight ?? 0) ? b : a), streams[0]);
  const parts = [rate > 1e6 ? `${(rate / 1e6).toFixed(1)} Mb/s` : `${Math.round(rate / 1e3)} kb/s`];
  if (largest?.frameHeight) parts.push(`${largest.frameWidth}×${largest.frameHeight}`);
  if (largest?.framesPerSecond !== undefined) parts.push(`${Math.round(largest.framesPerSecond)} fps`);
  return parts.join(' · ');
}
