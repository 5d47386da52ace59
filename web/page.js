// @ts-check
/** What all parts of the demo page share: its elements, its parameters, its state, and the words it says. */

/** @typedef {import('./client.js').Client} Client */
/** @typedef {import('./client.js').Publication} Publication */
/** @typedef {import('./tile.js').Tile} Tile */
/** What is sent. @typedef {'mic'|'camera'|'screen'} What */

const TOAST_MS = 7000;
/** What others say may be as long as the server takes, and come as often: the page stays one that can be used. */
const MOST_TOASTS = 4;
const TOAST_CHARACTERS = 160;
const MOST_NOTICES = 500;
const NAME_CHARACTERS = 60;

export const $ = (/** @type {string} */ id) => /** @type {any} */ (document.getElementById(id));
/** Those of the address; app.js lists them. An invite link has its token behind the `#`, which servers do not see. */
export const parameters = new URLSearchParams(location.search);
for (const [name, value] of new URLSearchParams(location.hash.slice(1))) parameters.set(name, value);
export const number = (/** @type {string} */ name, /** @type {number} */ otherwise) =>
  Number(parameters.get(name)) || otherwise;

/** The page's state, which tests look at too. */
export const page = {
  /** @type {Client | undefined} */ client: undefined,
  /** What the lobby's form says. */ form: { room: '', name: '', token: '', media: 'camera' },
  /** What is captured. @type {Partial<Record<What, MediaStreamTrack>>} */ media: {},
  /** What is sent of it. @type {Partial<Record<What, Publication>>} */ published: {},
  /** What the room does not take of it, in words. @type {Partial<Record<What, string>>} */ refused: {},
  /** What the user has switched off. @type {Set<What>} */ off: new Set(),
  /** What is received: track id to media. @type {Map<string, MediaStreamTrack>} */ received: new Map(),
  /** By client id, `me`, or track id for a second picture of somebody. @type {Map<string, Tile>} */ tiles: new Map(),
  /** What the policy or the network did to us, in order. @type {string[]} */ notices: [],
  /** What the policy sent. @type {any[]} */ messages: [],
  /** @type {string[]} */ speakers: [],
  /** From the click on it until it is decided: the button is not disabled, it would lose the focus. */ isJoining: false,
  /** When the last join began (performance.now). */ joinStarted: 0,
};
/** @type {any} */ (window).moonring = page;

/** @param {string} tag @param {string} className @param {string} text */
export function element(tag, className, text) {
  return Object.assign(document.createElement(tag), { className, textContent: text });
}

/** Writes only what is new: what reads the page aloud hears nothing twice. @param {HTMLElement} node @param {string} text */
export function write(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** @param {string} text @param {'bad'|'note'} level */
export function notify(text, level = 'bad') {
  page.notices.push(text);
  if (page.notices.length > MOST_NOTICES) page.notices.shift();
  if (level === 'bad') status(text, level);
  const shown = cut(text, TOAST_CHARACTERS);
  const toasts = [...$('toasts').children];
  if (toasts.some(({ textContent }) => textContent === shown)) return; // of everybody in a big room, for one
  const toast = element('p', '', shown);
  toast.dataset.level = level;
  if (toasts.length >= MOST_TOASTS) toasts[0].remove();
  $('toasts').append(toast);
  setTimeout(() => toast.remove(), TOAST_MS);
}

/** @param {string} text @param {string} [level] */
export function status(text, level = '') {
  write($('status'), text);
  $('status').dataset.level = level;
}

/** @param {unknown} error */
export function words(error) {
  return error instanceof Error ? error.message : String(error);
}

/** @param {string} client */
export function nameOf(client) {
  if (client === page.client?.id) return page.form.name;
  const name = page.client?.clients.get(client)?.metadata?.name;
  const text = typeof name === 'object' ? '' : String(name ?? ''); // not every object has a text
  return cut(text.trim(), NAME_CHARACTERS) || client;
}

/** The beginning of a text that is longer. @param {string} text @param {number} most in characters */
function cut(text, most) {
  if (text.length <= most) return text;
  const characters = [...text.slice(0, 2 * most)];
  return characters.length <= most && text.length <= 2 * most ? text : `${characters.slice(0, most).join('')}…`;
}

/** What the browser keeps for this page; nothing where it may not. */
export const kept = {
  /** @param {string} name */
  get(name) {
    try {
      return localStorage.getItem(`moonring.${name}`);
    } catch {
      return null;
    }
  },
  /** @param {string} name @param {string} value */
  set(name, value) {
    try {
      localStorage.setItem(`moonring.${name}`, value);
    } catch {
      // kept for this visit only
    }
  },
};
