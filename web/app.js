// @ts-check
/**
 * The demo page: the lobby and the way through a call. The protocol is client.js; these files are what a page makes of
 * it: page.js (what they share), tile.js, controls.js, capture.js, chat.js.
 *
 * Address parameters, for links and tests: `room`, `name`, `token`, `media` (`camera`, `audio`, `test`, `none`),
 * `width`, `height`, `fps`, `bitrate` (b/s, of the camera), `simulcast=1`, `autojoin=1`, `noise=1` (a test picture that is
 * hard to compress, so that the bitrate shows what the network allows).
 */
import { capture } from './capture.js';
import { hearMessage } from './chat.js';
import { Client } from './client.js';
import { mutedByRoom, publish, reset, takenOut } from './controls.js';
import { $, nameOf, notify, page, parameters, status, words } from './page.js';
import { Tile, forget, mark, welcome } from './tile.js';

const RECONNECT_DELAYS_MS = [500, 1000, 2000, 4000, 8000, 8000, 8000];

let attempts = 0;

// ---- the call ----

async function join() {
  status('Joining …');
  $('reason').hidden = true;
  if (Object.values(page.media).every((track) => track.readyState === 'ended')) page.media = await capture();
  const client = new Client();
  page.joinStarted = performance.now();
  page.client = client;
  listen(client);
  try {
    await client.join({
      url: `${location.protocol === 'https:' ? 'wss' : 'ws'}://${location.host}/ws`,
      room: page.form.room,
      token: page.form.token,
      metadata: { name: page.form.name },
    });
  } catch {
    return; // `closed` follows, with the reason
  }
  enter(client);
}

/** @param {Client} client */
function enter(client) {
  attempts = 0;
  document.body.dataset.state = 'call';
  $('where').textContent = `Room ${page.form.room}`;
  const own = new Tile(client.id, page.form.name, true);
  page.tiles.set(client.id, own);
  own.root.classList.toggle('mirror', page.form.media === 'camera');
  if (page.media.camera) own.show(page.media.camera);
  for (const participant of client.clients.values()) welcome(participant.client);
  for (const track of client.tracks.values()) receive(client, track);
  for (const what of Object.keys(page.media)) publish(client, what);
  count();
}

/** @param {Client} client @param {import('./client.js').TrackInfo} track */
async function receive(client, track) {
  try {
    const media = await client.subscribe(track.id);
    page.received.set(track.id, media);
    if (track.kind === 'audio') {
      welcome(track.client).hear(media, track.id);
    } else {
      const tile = welcome(track.client, track);
      tile.show(media, track.id);
    }
    mark(track);
  } catch (error) {
    if (client.joined && client.tracks.has(track.id)) {
      notify(`You may not receive the ${track.kind} of ${nameOf(track.client)}: ${words(error)}`);
    }
  }
}

function count() {
  const others = page.client?.clients.size ?? 0;
  status(others === 0 ? 'Nobody else is here yet' : `${others + 1} people`);
}

/** @param {Client} client */
function listen(client) {
  const on = (/** @type {string} */ name, /** @type {(detail: any) => void} */ action) =>
    client.addEventListener(name, (event) => action(/** @type {CustomEvent} */ (event).detail));
  on('client_joined', (who) => {
    welcome(who.client);
    count();
  });
  on('client_left', ({ client: id }) => {
    for (const [key, tile] of page.tiles) if (tile.client === id) forget(key);
    count();
  });
  on('track_published', ({ track }) => track.client !== client.id && receive(client, track));
  on('track_changed', ({ track }) => mark(track));
  on('muted_by_room', mutedByRoom);
  on('track_unpublished', ({ track }) => {
    forget(track);
    takenOut(track);
  });
  on('active_speakers', ({ clients }) => {
    page.speakers = clients;
    for (const tile of page.tiles.values()) tile.root.classList.toggle('speaking', clients.includes(tile.client));
  });
  on('message', ({ value }) => hearMessage(value));
  on('kicked', ({ reason }) => {
    page.stay = false;
    notify(`You were put out: ${reason}`);
  });
  on('rejected', ({ reason }) => {
    page.stay = false;
    notify(`You may not join: ${reason}`);
  });
  on('error', ({ message }) => notify(message));
  on('connection_state', ({ state }) => {
    if (state === 'connected') count();
    if (state === 'disconnected' || state === 'failed') status('The media connection is being repaired …', 'bad');
  });
  on('closed', ({ reason }) => client === page.client && closed(reason));
}

/** @param {string} reason */
function closed(reason) {
  const wasIn = document.body.dataset.state === 'call';
  for (const tile of page.tiles.values()) tile.remove();
  page.tiles.clear();
  page.received.clear();
  page.speakers = [];
  reset();
  if (page.stay && (wasIn || attempts > 0) && attempts < RECONNECT_DELAYS_MS.length) {
    status(`${reason}. Coming back …`, 'bad');
    setTimeout(() => page.stay && join(), RECONNECT_DELAYS_MS[attempts++]);
    return;
  }
  attempts = 0;
  for (const track of Object.values(page.media)) track.stop();
  page.media = {};
  document.body.dataset.state = 'lobby';
  const text = page.notices.at(-1)?.endsWith(reason) ? page.notices.at(-1) : reason;
  const level = text === 'You left' ? '' : 'bad';
  status(text, level);
  $('reason').textContent = text;
  $('reason').dataset.level = level;
  $('reason').hidden = false;
  $('join').querySelector('button').focus();
}

// ---- the lobby ----

$('join').addEventListener('submit', (/** @type {Event} */ event) => {
  event.preventDefault();
  page.form = /** @type {any} */ (Object.fromEntries(new FormData($('join'))));
  history.replaceState(null, '', `?${new URLSearchParams({ ...Object.fromEntries(parameters), room: page.form.room })}`);
  page.stay = true;
  join();
});

for (const name of ['room', 'token', 'name', 'media']) {
  const field = $('join').elements[name];
  const given = parameters.get(name);
  if (given !== null) field.value = given;
}
$('join').elements.name.value ||= `Guest ${Math.floor(Math.random() * 900 + 100)}`;
if (parameters.get('autojoin') === '1') $('join').requestSubmit();
