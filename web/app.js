// @ts-check
/**
 * The demo page: the way through a call. The protocol is client.js; these files are what a page makes of it: page.js (what
 * they share), lobby.js, devices.js, capture.js, tile.js, stage.js, figures.js, controls.js, panels.js, people.js, chat.js.
 *
 * Address parameters, for links and tests: `room`, `name`, `token`, `media` (`camera`, `audio`, `test`, `none`),
 * `width`, `height`, `fps`, `bitrate` (b/s, of the camera), `simulcast` (1 or 0; a camera has it unless told not to),
 * `codec`, `svc` (a scalability mode), `muted=1`, `autojoin=1`, `noise=1` (a test picture that is hard to compress, so that
 * the bitrate shows what the network allows).
 */
import { callOff } from './capture.js';
import { hearMessage } from './chat.js';
import { Client } from './client.js';
import { changeDevice, keepDevices, mutedByRoom, publish, reset, showOwn, takenOut } from './controls.js';
import { onDeviceChosen } from './devices.js';
import { mediaForCall, openLobby, previewDevice } from './lobby.js';
import { $, nameOf, notify, page, status } from './page.js';
import { closePanels } from './panels.js';
import { showPeople } from './people.js';
import { highlight } from './stage.js';
import { Tile, forget, mark, tileOf, welcome } from './tile.js';

/** @typedef {import('./page.js').What} What */
/** @typedef {import('./client.js').TrackInfo} TrackInfo */

async function join() {
  if (page.isJoining) return;
  page.isJoining = true;
  status('Joining …');
  $('reason').hidden = true;
  await mediaForCall();
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
      autoSubscribe: true,
    });
  } catch {
    return; // `closed` follows, with the reason
  } finally {
    page.isJoining = false;
  }
  keepDevices();
  for (const what of Object.keys(page.media)) publish(client, /** @type {What} */ (what));
}

/** The first time in the room. @param {Client} client */
function enter(client) {
  const hadFocus = $('lobby').contains(document.activeElement);
  document.body.dataset.state = 'call';
  $('where').textContent = `Room ${page.form.room}`;
  const own = new Tile('me', client.id, page.form.name);
  page.tiles.set('me', own);
  own.root.classList.toggle('mirror', page.form.media === 'camera');
  if (page.media.camera) own.show(page.media.camera);
  for (const participant of client.clients.values()) welcome(participant.client);
  showOwn();
  if (hadFocus) (page.media.mic ? $('mic') : $('show-people')).focus();
}

/** @param {Client} client */
function listen(client) {
  client.on('state', ({ state }) => {
    document.body.dataset.connection = state;
    $('banner').hidden = state !== 'reconnecting';
    if (state === 'reconnecting') {
      $('banner').textContent = 'The connection was lost. Reconnecting …';
      status('Reconnecting …', 'bad');
    }
    if (state !== 'joined') return;
    if (page.tiles.has('me')) count();
  });
  client.on('joined', () => {
    if (!page.tiles.has('me')) enter(client);
    count();
  });
  client.on('client_joined', ({ client: id }) => {
    welcome(id);
    count();
  });
  client.on('client_left', ({ client: id }) => {
    for (const [key, tile] of page.tiles) if (tile.client === id && key !== 'me') forget(key);
    count();
  });
  client.on('media', ({ track, media }) => receive(track, media));
  client.on('subscription_failed', ({ track, error }) => {
    notify(`You may not receive the ${track.kind} of ${nameOf(track.client)}: ${error.message}`);
  });
  for (const name of /** @type {const} */ (['track_published', 'track_changed'])) {
    client.on(name, ({ track }) => {
      mark(track.client);
      showPeople();
    });
  }
  for (const name of /** @type {const} */ (['track_paused', 'track_resumed'])) {
    client.on(name, ({ track }) => mark(tileOf(track)?.client ?? ''));
  }
  client.on('track_unpublished', ({ track }) => {
    forget(track);
    showPeople();
  });
  client.on('unsubscribed', ({ track, reason }) => {
    forget(track);
    showPeople();
    notify(reason, 'note');
  });
  client.on('muted_by_room', mutedByRoom);
  client.on('publication_ended', takenOut);
  client.on('quality', ({ client: id, quality }) => page.tiles.get(id === client.id ? 'me' : id)?.rate(quality));
  client.on('active_speakers', ({ clients }) => highlight(clients));
  client.on('message', ({ value }) => hearMessage(value));
  client.on('restarting', () => notify('The server restarts. You come back by yourself.', 'note'));
  client.on('kicked', ({ reason }) => notify(`You were put out: ${reason}`));
  client.on('rejected', ({ reason }) => notify(`You may not join: ${reason}`));
  // A track may end while we say something about it: that is nobody's fault.
  client.on('error', ({ code, message }) => code !== 'unknown_track' && notify(message));
  client.on('browser_error', ({ error }) => notify(error.message));
  client.on('connection_state', ({ state }) => {
    if (state === 'connected' && client.joined) count();
    if (state === 'disconnected' || state === 'failed') status('The media connection is being repaired …', 'bad');
  });
  client.on('closed', ({ reason, code }) => client === page.client && closed(reason, code));
}

/** @param {TrackInfo} track @param {MediaStreamTrack} media */
function receive(track, media) {
  page.received.set(track.id, media);
  if (track.kind === 'audio') welcome(track.client).hear(media, track.id);
  else welcome(track.client, track).show(media, track.id);
  mark(track.client);
  showPeople();
}

function count() {
  const others = page.client?.clients.size ?? 0;
  status(others === 0 ? 'Nobody else is here yet' : `${others + 1} people`);
  showPeople();
}

/** @param {string} reason @param {string} code */
function closed(reason, code) {
  const wasIn = document.body.dataset.state === 'call';
  closePanels();
  for (const tile of page.tiles.values()) tile.remove();
  page.tiles.clear();
  page.received.clear();
  page.speakers = [];
  callOff();
  reset();
  for (const track of Object.values(page.media)) track.stop();
  page.media = {};
  document.body.dataset.state = 'lobby';
  const text = page.notices.at(-1)?.endsWith(reason) ? String(page.notices.at(-1)) : reason;
  const level = code === 'left' ? '' : 'bad';
  status(text, level);
  $('reason').textContent = text;
  $('reason').dataset.level = level;
  $('reason').hidden = false;
  if (wasIn) $('join').querySelector('button').focus();
}

onDeviceChosen((kind) => (document.body.dataset.state === 'call' ? changeDevice(kind) : previewDevice(kind)));
openLobby(join);
