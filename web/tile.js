// @ts-check
/** The tiles: who is in the call, each with picture, sound, a note, a sign for the network and live figures. */
import { speakerId } from './devices.js';
import { $, element, nameOf, notify, page, write } from './page.js';
import { arrange, pin } from './stage.js';

/** @typedef {import('./client.js').TrackInfo} TrackInfo */

const QUALITY = ['', 'very bad', 'bad', 'fair', 'good', 'very good'];
const PIN = '<svg viewBox="0 0 24 24" aria-hidden="true"><path d="M9 3h6l-1 7 4 4H6l4-4zM12 14v7"/></svg>';

export class Tile {
  /** @param {string} key @param {string} client @param {string} name */
  constructor(key, client, name) {
    const mine = key === 'me';
    this.client = client;
    this.name = name;
    /** The video's track id. @type {string | undefined} */ this.video = undefined;
    /** @type {Map<string, HTMLAudioElement>} */ this.audio = new Map();
    /** Last bytes and time, for rates. */ this.bytes = 0;
    this.at = 0;
    this.root = document.createElement('figure');
    this.root.className = mine ? 'tile mine' : 'tile';
    this.root.style.setProperty('--hue', String([...client].reduce((sum, c) => (sum * 31 + c.charCodeAt(0)) % 360, 7)));
    this.root.setAttribute('role', 'listitem');
    this.root.setAttribute('aria-label', name);
    this.root.dataset.client = client;
    this.picture = Object.assign(document.createElement('video'), { autoplay: true, playsInline: true, muted: true });
    this.picture.setAttribute('aria-label', `Video of ${name}`);
    const face = element('div', 'face', [...name][0]?.toUpperCase() ?? '?');
    face.setAttribute('aria-hidden', 'true');
    this.pin = /** @type {HTMLButtonElement} */ (element('button', 'pin', ''));
    this.pin.type = 'button';
    this.pin.innerHTML = PIN;
    this.pin.setAttribute('aria-label', `Pin ${name}`);
    this.pin.setAttribute('aria-pressed', 'false');
    this.pin.addEventListener('click', () => pin(this));
    this.root.append(face, this.picture, this.#caption(mine ? `${name} (you)` : name), this.pin);
    $('tiles').append(this.root);
    arrange();
  }

  /** @param {string} name */
  #caption(name) {
    const caption = document.createElement('figcaption');
    this.network = element('span', 'network', '');
    this.network.setAttribute('role', 'img');
    this.network.hidden = true;
    for (let bar = 1; bar <= 5; bar++) this.network.append(document.createElement('i'));
    this.note = element('span', 'note', '');
    this.stats = element('span', 'stats', '');
    const who = element('span', 'who', '');
    who.append(element('span', 'name', name), this.network);
    caption.append(who, this.note, this.stats);
    return caption;
  }

  /** @param {MediaStreamTrack} media @param {string} [track] */
  show(media, track) {
    this.video = track;
    this.root.classList.remove('seen');
    this.picture.onloadeddata = () => this.root.classList.add('seen'); // the first frame is there
    this.picture.srcObject = new MediaStream([media]);
    if (track) page.client?.watch(track, this.picture);
  }

  /** @param {boolean} hidden */
  hide(hidden) {
    this.root.classList.toggle('dark', hidden);
  }

  /** @param {MediaStreamTrack} media @param {string} track */
  hear(media, track) {
    this.audio.get(track)?.remove();
    const audio = document.createElement('audio');
    audio.srcObject = new MediaStream([media]);
    this.audio.set(track, audio);
    this.root.append(audio);
    route(audio);
    audio.play().catch(() => {
      if (!audio.isConnected) return;
      notify('The browser wants a click before it plays sound', 'note');
      addEventListener('click', () => audio.isConnected && audio.play().catch(() => {}), { once: true });
    });
  }

  /** From 1 to 5. @param {number | undefined} quality */
  rate(quality) {
    if (!this.network) return;
    this.network.hidden = quality === undefined;
    this.network.dataset.quality = String(quality ?? '');
    this.network.setAttribute('aria-label', `Network: ${QUALITY[quality ?? 0]}`);
    this.network.title = `Network: ${QUALITY[quality ?? 0]} (${quality} of 5)`;
  }

  /** @param {string} text */
  say(text) {
    if (this.note) write(this.note, text);
  }

  remove() {
    page.client?.unwatch(this.picture);
    this.picture.srcObject = null;
    this.root.remove();
    arrange();
  }
}

/** Plays sound where the user wants it, where the browser can. @param {HTMLAudioElement} audio */
export function route(audio) {
  const id = speakerId();
  if (id && audio.setSinkId) audio.setSinkId(id).catch(() => {}); // it was unplugged: the default plays on
}

/** The tile of a client; for a second picture of the same client, one of its own.
 *  @param {string} client @param {TrackInfo} [track] */
export function welcome(client, track) {
  const main = page.tiles.get(client) ?? new Tile(client, client, nameOf(client));
  page.tiles.set(client, main);
  if (!track || (!main.video && track.source !== 'screen') || main.video === track.id) return main;
  const extra = page.tiles.get(track.id) ?? new Tile(track.id, client, `${nameOf(client)}: ${track.source}`);
  extra.root.dataset.source = track.source;
  page.tiles.set(track.id, extra);
  return extra;
}

/** The tile that shows or plays a track. @param {string} track */
export function tileOf(track) {
  return [...page.tiles.values()].find((t) => t.video === track || t.audio.has(track));
}

/** Brings the tile of a client up to date with what is known of its tracks. @param {string} client */
export function mark(client) {
  const tracks = [...(page.client?.tracks.values() ?? [])].filter((track) => track.client === client);
  for (const tile of page.tiles.values()) {
    if (tile.client !== client || tile.root.classList.contains('mine')) continue;
    const notes = [];
    for (const { id, kind, muted } of tracks) {
      const paused = page.client?.paused.get(id);
      if (kind === 'audio' && tile.audio.has(id) && muted) notes.push('muted');
      if (tile.video !== id) continue;
      tile.hide(muted || paused === 'bandwidth' || paused === 'overload');
      if (paused === 'bandwidth') notes.push('no picture: too little bandwidth');
      if (paused === 'overload') notes.push('no picture: the server is overloaded');
    }
    tile.say(notes.join(', '));
  }
}

/** @param {string} id of a client, or of a track */
export function forget(id) {
  page.received.delete(id);
  const tile = page.tiles.get(id);
  page.tiles.delete(id);
  tile?.remove();
  for (const other of page.tiles.values()) {
    other.audio.get(id)?.remove();
    other.audio.delete(id);
    if (other.video !== id) continue;
    other.video = undefined;
    other.picture.srcObject = null;
    if (other.stats) other.stats.textContent = '';
    other.root.classList.remove('seen');
  }
}
