// @ts-check
/** What all parts of the demo page share: its elements, its parameters, its state, and the words it says. */
import { ClientError } from './client.js';

/** @typedef {import('./client.js').Client} Client */
/** @typedef {import('./tile.js').Tile} Tile */

const TOAST_MS = 7000;

export const $ = (/** @type {string} */ id) => /** @type {any} */ (document.getElementById(id));
/** Those of the address; app.js lists them. */
export const parameters = new URLSearchParams(location.search);
export const number = (/** @type {string} */ name, /** @type {number} */ otherwise) =>
  Number(parameters.get(name)) || otherwise;

/** The page's state, which tests look at too. @type {any} */
export const page = {
  /** @type {Client | undefined} */ client: undefined,
  /** What the lobby's form says. */ form: { room: '', name: '', token: '', media: 'camera' },
  /** What is captured: `mic`, `camera`, `screen` to media. @type {Record<string, MediaStreamTrack>} */ media: {},
  /** What is sent: the same, to track id. @type {Record<string, string>} */ published: {},
  /** What the room does not take of it: the same, to words. @type {Record<string, string>} */ refused: {},
  /** What is received: track id to media. @type {Map<string, MediaStreamTrack>} */ received: new Map(),
  /** By client id, or track id for a second picture of somebody. @type {Map<string, Tile>} */ tiles: new Map(),
  /** What the policy or the network did to us, in order. @type {string[]} */ notices: [],
  /** @type {any[]} */ messages: [],
  /** @type {string[]} */ speakers: [],
  /** When the last join began (performance.now). */ joinStarted: 0,
  /** False once we are not to come back: we left, or were put out. */ stay: true,
};
/** @type {any} */ (window).moonring = page;

/** @param {string} tag @param {string} className @param {string} text */
export function element(tag, className, text) {
  return Object.assign(document.createElement(tag), { className, textContent: text });
}

/** @param {string} text @param {'bad'|'note'} level */
export function notify(text, level = 'bad') {
  page.notices.push(text);
  const toast = element('p', '', text);
  toast.dataset.level = level;
  $('toasts').append(toast);
  setTimeout(() => toast.remove(), TOAST_MS);
  if (level === 'bad') status(text, level);
}

/** @param {string} text @param {string} [level] */
export function status(text, level = '') {
  $('status').textContent = text;
  $('status').dataset.level = level;
}

/** @param {any} error */
export function words(error) {
  return error instanceof ClientError || error instanceof Error ? error.message : String(error);
}

/** @param {string} client */
export function nameOf(client) {
  if (client === page.client?.id) return page.form.name;
  return String(page.client?.clients.get(client)?.metadata?.name ?? client);
}
