// @ts-check
/**
 * The demo page: lobby, tiles, controls, messages. The protocol is client.js; this file is what a page makes of it.
 *
 * Address parameters, for links and tests: `room`, `name`, `token`, `media` (`camera`, `audio`, `test`, `none`),
 * `width`, `height`, `fps`, `bitrate` (b/s, of the camera), `simulcast=1`, `autojoin=1`, `noise=1` (a test picture that is
 * hard to compress, so that the bitrate shows what the network allows).
 */
import { Client, ClientError } from './client.js';

const RECONNECT_DELAYS_MS = [500, 1000, 2000, 4000, 8000, 8000, 8000];
const STATS_MS = 1000;
const TOAST_MS = 7000;

const $ = (/** @type {string} */ id) => /** @type {any} */ (document.getElementById(id));
const parameters = new URLSearchParams(location.search);
const number = (/** @type {string} */ name, /** @type {number} */ otherwise) => Number(parameters.get(name)) || otherwise;

/** What tests look at. @type {any} */
const page = {
  /** @type {Client | undefined} */ client: undefined,
  /** What is sent: kind of thing to track id. @type {Record<string, string>} */ published: {},
  /** What is received: track id to media. @type {Map<string, MediaStreamTrack>} */ received: new Map(),
  /** What the policy or the network did to us, in order. @type {string[]} */ notices: [],
  /** @type {any[]} */ messages: [],
  /** @type {string[]} */ speakers: [],
  /** When the last join began (performance.now). */ joinStarted: 0,
  /** @type {Record<string, MediaStreamTrack>} */ media: {},
};
/** @type {any} */ (window).moonring = page;

/** @type {Map<string, Tile>} By client id, or track id for a second picture of somebody. */
const tiles = new Map();
let form = { room: '', name: '', token: '', media: 'camera' };
let attempts = 0;
let stay = true;

// ---- tiles ----

class Tile {
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

/** @param {string} tag @param {string} className @param {string} text */
function element(tag, className, text) {
  return Object.assign(document.createElement(tag), { className, textContent: text });
}

/** As many columns as make the tiles largest, taking them as 4:3. */
function arrange() {
  const box = $('tiles');
  const count = Math.max(1, box.children.length);
  const { clientWidth: width, clientHeight: height } = box;
  const size = (/** @type {number} */ columns) => Math.min(width / columns / 4, height / Math.ceil(count / columns) / 3);
  let best = 1;
  for (let columns = 2; columns <= count; columns++) if (size(columns) > size(best)) best = columns;
  box.style.setProperty('--columns', String(best));
}
addEventListener('resize', arrange);

// ---- words for the user ----

/** @param {string} text @param {'bad'|'note'} level */
function notify(text, level = 'bad') {
  page.notices.push(text);
  const toast = element('p', '', text);
  toast.dataset.level = level;
  $('toasts').append(toast);
  setTimeout(() => toast.remove(), TOAST_MS);
  if (level === 'bad') status(text, level);
}

/** @param {string} text @param {string} [level] */
function status(text, level = '') {
  $('status').textContent = text;
  $('status').dataset.level = level;
}

/** @param {any} error */
function words(error) {
  return error instanceof ClientError || error instanceof Error ? error.message : String(error);
}

/** @param {string} client */
function nameOf(client) {
  if (client === page.client?.id) return form.name;
  return String(page.client?.clients.get(client)?.metadata?.name ?? client);
}

// ---- local media ----

/** @returns {Promise<Record<string, MediaStreamTrack>>} */
async function capture() {
  const video = { width: { ideal: number('width', 1280) }, height: { ideal: number('height', 720) }, frameRate: { ideal: number('fps', 30) } };
  if (form.media === 'none') return {};
  if (form.media === 'test') return testMedia();
  try {
    const stream = await navigator.mediaDevices.getUserMedia({ audio: true, video: form.media === 'camera' && video });
    return Object.fromEntries(stream.getTracks().map((track) => [track.kind === 'video' ? 'camera' : 'mic', track]));
  } catch (error) {
    notify(`No ${form.media === 'camera' ? 'camera or microphone' : 'microphone'}: ${words(error)}. You only watch.`);
    return {};
  }
}

/** A clock, a moving ball and a tone that comes and goes. */
function testMedia() {
  const canvas = Object.assign(document.createElement('canvas'), { width: number('width', 640), height: number('height', 480) });
  const pen = /** @type {CanvasRenderingContext2D} */ (canvas.getContext('2d'));
  const hue = Math.floor(Math.random() * 360);
  const { width, height } = canvas;
  const noise = parameters.get('noise') === '1' ? grain(width, height) : undefined;
  const draw = () => {
    const t = performance.now() / 1000;
    pen.fillStyle = `hsl(${hue} 40% 22%)`;
    pen.fillRect(0, 0, width, height);
    if (noise) pen.drawImage(noise, -Math.random() * width, -Math.random() * height);
    for (let bar = 0; bar < 8; bar++) {
      pen.fillStyle = `hsl(${hue + bar * 45} 70% 55%)`;
      pen.fillRect((bar * width) / 8, height * 0.82, width / 8, height * 0.18);
    }
    pen.fillStyle = `hsl(${hue + 150} 80% 62%)`;
    pen.beginPath();
    pen.arc(width * (0.5 + 0.4 * Math.sin(t * 1.3)), height * (0.45 + 0.3 * Math.sin(t * 2.1)), height / 9, 0, 7);
    pen.fill();
    pen.fillStyle = '#fff';
    pen.font = `${Math.floor(height / 9)}px ui-monospace, monospace`;
    pen.textAlign = 'center';
    pen.fillText(new Date().toISOString().slice(11, 23), width / 2, height / 2);
    pen.fillText(form.name, width / 2, height / 5);
  };
  ticker(1000 / number('fps', 30), draw);
  const audio = new AudioContext();
  const tone = new OscillatorNode(audio, { frequency: 220 + hue });
  const gain = new GainNode(audio, { gain: 0 });
  const out = audio.createMediaStreamDestination();
  tone.connect(gain).connect(out);
  tone.start();
  audio.resume();
  ticker(1000, () => gain.gain.setTargetAtTime(Math.random() < 0.6 ? 0.1 : 0, audio.currentTime, 0.05));
  return { camera: canvas.captureStream(number('fps', 30)).getVideoTracks()[0], mic: out.stream.getAudioTracks()[0] };
}

/** Random grey, twice as wide and high as the picture. @param {number} width @param {number} height */
function grain(width, height) {
  const canvas = new OffscreenCanvas(width * 2, height * 2);
  const pen = /** @type {OffscreenCanvasRenderingContext2D} */ (canvas.getContext('2d'));
  const image = pen.createImageData(canvas.width, canvas.height);
  new Uint32Array(image.data.buffer).forEach((_, at, pixels) => (pixels[at] = 0x40000000 | (Math.random() * 0xffffff)));
  pen.putImageData(image, 0, 0);
  return canvas;
}

/** A timer in a worker, which hidden tabs do not slow down. @param {number} period @param {() => void} tick */
function ticker(period, tick) {
  try {
    const code = new Blob([`setInterval(() => postMessage(0), ${period})`], { type: 'text/javascript' });
    const worker = new Worker(URL.createObjectURL(code));
    worker.onmessage = tick;
    worker.onerror = () => setInterval(tick, period); // a content security policy may forbid workers
  } catch {
    setInterval(tick, period);
  }
}

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
      room: form.room,
      token: form.token,
      metadata: { name: form.name },
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
  $('where').textContent = `Room ${form.room}`;
  const own = new Tile(client.id, form.name, true);
  tiles.set(client.id, own);
  own.root.classList.toggle('mirror', form.media === 'camera');
  if (page.media.camera) own.show(page.media.camera);
  for (const participant of client.clients.values()) welcome(participant.client);
  for (const track of client.tracks.values()) receive(client, track);
  for (const what of Object.keys(page.media)) publish(client, what);
  count();
}

/** @param {Client} client @param {string} what `mic`, `camera` or `screen` */
async function publish(client, what) {
  const button = $(what);
  const source = /** @type {const} */ ({ mic: 'microphone', camera: 'camera', screen: 'screen' })[what];
  try {
    page.published[what] = await client.publish(page.media[what], {
      source,
      simulcast: what === 'camera' && parameters.get('simulcast') === '1',
      maxBitrate: what === 'camera' ? number('bitrate', 0) || undefined : undefined,
    });
    button.disabled = false;
    return true;
  } catch (error) {
    const label = { mic: 'Your sound', camera: 'Your video', screen: 'Your screen' }[what];
    if (client.joined) notify(`${label} was refused: ${words(error)}`);
    if (what === 'camera') {
      const own = tiles.get(client.id);
      own?.hide(true);
      if (own) own.note.textContent = 'video refused';
    }
    return false;
  }
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

/** The tile of a client; for a second picture of the same client, one of its own.
 *  @param {string} client @param {import('./client.js').TrackInfo} [track] */
function welcome(client, track) {
  const main = tiles.get(client) ?? new Tile(client, nameOf(client), false);
  tiles.set(client, main);
  if (!track || (!main.video && track.source !== 'screen') || main.video === track.id) return main;
  const extra = tiles.get(track.id) ?? new Tile(client, `${nameOf(client)}: ${track.source}`, false);
  tiles.set(track.id, extra);
  return extra;
}

/** @param {import('./client.js').TrackInfo} track */
function mark(track) {
  const tile = [...tiles.values()].find((t) => t.video === track.id || t.audio.has(track.id));
  if (!tile) return;
  if (track.kind === 'video') tile.hide(track.muted);
  if (track.kind === 'audio') tile.note.textContent = track.muted ? 'muted' : '';
}

/** @param {string} id */
function forget(id) {
  page.received.delete(id);
  const tile = tiles.get(id);
  tile?.remove();
  tiles.delete(id);
  for (const other of tiles.values()) {
    other.audio.get(id)?.remove();
    other.audio.delete(id);
    if (other.video !== id) continue;
    other.video = undefined;
    other.picture.srcObject = null;
    other.stats.textContent = '';
    other.root.classList.remove('seen');
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
    for (const [key, tile] of tiles) if (tile.client === id) forget(key);
    count();
  });
  on('track_published', ({ track }) => track.client !== client.id && receive(client, track));
  on('track_changed', ({ track }) => mark(track));
  on('track_unpublished', ({ track }) => forget(track));
  on('active_speakers', ({ clients }) => {
    page.speakers = clients;
    for (const tile of tiles.values()) tile.root.classList.toggle('speaking', clients.includes(tile.client));
  });
  on('message', ({ value }) => hearMessage(value));
  on('kicked', ({ reason }) => {
    stay = false;
    notify(`You were put out: ${reason}`);
  });
  on('rejected', ({ reason }) => {
    stay = false;
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
  for (const tile of tiles.values()) tile.remove();
  tiles.clear();
  page.received.clear();
  page.published = {};
  page.speakers = [];
  if (page.media.screen) stopScreen();
  for (const id of ['mic', 'camera']) press(id, false, true);
  if (stay && (wasIn || attempts > 0) && attempts < RECONNECT_DELAYS_MS.length) {
    status(`${reason}. Coming back …`, 'bad');
    setTimeout(() => stay && join(), RECONNECT_DELAYS_MS[attempts++]);
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

// ---- controls ----

/** @param {string} id @param {boolean} pressed @param {boolean} [disabled] */
function press(id, pressed, disabled = false) {
  const labels = /** @type {Record<string, string[]>} */ ({
    mic: ['Mute', 'Unmute'],
    camera: ['Stop video', 'Start video'],
    screen: ['Share screen', 'Stop sharing'],
    talk: ['Messages', 'Messages'],
  })[id];
  const button = $(id);
  button.setAttribute('aria-pressed', String(pressed));
  button.querySelector('.label').textContent = labels[Number(pressed)];
  button.disabled = disabled;
}

for (const id of ['mic', 'camera']) {
  $(id).addEventListener('click', () => {
    const muted = $(id).getAttribute('aria-pressed') !== 'true';
    page.client.setMuted(page.published[id], muted);
    press(id, muted);
    const own = tiles.get(page.client.id);
    if (id === 'camera') own?.hide(muted);
    if (id === 'mic' && own) own.note.textContent = muted ? 'muted' : '';
  });
}

$('screen').addEventListener('click', async () => {
  if (page.media.screen) return stopScreen();
  try {
    const stream = await navigator.mediaDevices.getDisplayMedia({ video: { frameRate: { max: 30 } } });
    page.media.screen = stream.getVideoTracks()[0];
  } catch {
    return; // the user thought better of it
  }
  page.media.screen.contentHint = 'detail';
  page.media.screen.onended = stopScreen;
  press('screen', true);
  if (!(await publish(page.client, 'screen'))) stopScreen();
});

function stopScreen() {
  page.media.screen?.stop();
  delete page.media.screen;
  if (page.published.screen) page.client.unpublish(page.published.screen);
  delete page.published.screen;
  press('screen', false);
}

$('talk').addEventListener('click', () => {
  $('chat').hidden = !$('chat').hidden;
  press('talk', !$('chat').hidden);
  arrange();
  if (!$('chat').hidden) $('text').focus();
});

$('leave').addEventListener('click', () => {
  stay = false;
  page.client.leave();
});

// ---- messages ----

/** A text of somebody is `{type: "chat", from, text}`; anything else of the policy is shown as it is. @param {any} value */
function hearMessage(value) {
  page.messages.push(value);
  const text = typeof value === 'string' ? value : (value?.text ?? value?.message ?? JSON.stringify(value));
  if (value?.from !== undefined && value.from === page.client?.id) return; // our own, echoed
  const who = value?.from === undefined ? 'Room' : nameOf(String(value.from));
  write(who, String(text), false);
  if ($('chat').hidden) notify(`${who}: ${text}`, 'note');
}

/** @param {string} who @param {string} text @param {boolean} mine */
function write(who, text, mine) {
  const line = element('li', mine ? 'mine' : '', '');
  line.append(element('b', '', who), ` ${text}`);
  $('messages').append(line);
  line.scrollIntoView();
}

$('say').addEventListener('submit', (/** @type {Event} */ event) => {
  event.preventDefault();
  const text = $('text').value.trim();
  if (!text) return;
  page.client.send({ type: 'chat', text });
  write('You', text, true);
  $('text').value = '';
});

// ---- live figures ----

setInterval(async () => {
  const { client } = page;
  if (!client?.joined) return;
  for (const [key, tile] of tiles) {
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

// ---- the lobby ----

$('join').addEventListener('submit', (/** @type {Event} */ event) => {
  event.preventDefault();
  form = /** @type {any} */ (Object.fromEntries(new FormData($('join'))));
  history.replaceState(null, '', `?${new URLSearchParams({ ...Object.fromEntries(parameters), room: form.room })}`);
  stay = true;
  join();
});

for (const name of ['room', 'token', 'name', 'media']) {
  const field = $('join').elements[name];
  const given = parameters.get(name);
  if (given !== null) field.value = given;
}
$('join').elements.name.value ||= `Guest ${Math.floor(Math.random() * 900 + 100)}`;
if (parameters.get('autojoin') === '1') $('join').requestSubmit();
