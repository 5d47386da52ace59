// @ts-check
/** The buttons of a call, and what they are about: the own tracks, what the room does to them, and the own tile. */
import { $, notify, number, page, parameters, words } from './page.js';
import { arrange } from './tile.js';

/** @typedef {import('./client.js').Client} Client */

/** What is sent, in words. @type {Record<string, string>} */
const LABELS = { mic: 'sound', camera: 'video', screen: 'screen' };
/** @type {Record<string, import('./client.js').Source>} */
const SOURCES = { mic: 'microphone', camera: 'camera', screen: 'screen' };
/** Of each button: as it is, and pressed. @type {Record<string, string[]>} */
const BUTTONS = {
  mic: ['Mute', 'Unmute'],
  camera: ['Stop video', 'Start video'],
  screen: ['Share screen', 'Stop sharing'],
  talk: ['Messages', 'Messages'],
};

/** @param {Client} client @param {string} what `mic`, `camera` or `screen` */
export async function publish(client, what) {
  try {
    page.published[what] = await client.publish(page.media[what], {
      source: SOURCES[what],
      simulcast: what === 'camera' && parameters.get('simulcast') === '1',
      maxBitrate: what === 'camera' ? number('bitrate', 0) || undefined : undefined,
    });
    delete page.refused[what];
    $(what).disabled = false;
    return true;
  } catch (error) {
    if (!client.joined) return false;
    notify(`Your ${LABELS[what]} was refused: ${words(error)}`);
    page.refused[what] = `${LABELS[what]} refused`;
    return false;
  } finally {
    showOwn();
  }
}

/** Brings the own tile up to date with what is sent and what is not, by whose doing. */
export function showOwn() {
  const { client, published, refused } = page;
  const own = page.tiles.get(client?.id);
  if (!own) return;
  const notes = [];
  for (const what of ['mic', 'camera', 'screen']) {
    if (refused[what] && what !== 'screen') notes.push(refused[what]);
    else if (client.mutedByRoom.has(published[what])) notes.push(`${LABELS[what]} muted by the room`);
    else if (what === 'mic' && isPressed('mic')) notes.push('muted');
  }
  own.note.textContent = notes.join(', ');
  own.hide(isPressed('camera') || Boolean(refused.camera) || client.mutedByRoom.has(published.camera));
}

/** The policy mutes an own track, or does so no more. @param {{track: string, muted: boolean}} change */
export function mutedByRoom({ track, muted }) {
  const what = sending(track);
  if (what) notify(`The room ${muted ? 'has muted' : 'no longer mutes'} your ${LABELS[what]}`, 'note');
  showOwn();
}

/** The server takes an own track out. @param {string} track */
export function takenOut(track) {
  const what = sending(track);
  if (!what) return;
  delete page.published[what];
  notify(`The room has ended your ${LABELS[what]}`);
  if (what === 'screen') return stopScreen();
  page.refused[what] = `${LABELS[what]} ended by the room`;
  press(what, false, true);
  showOwn();
}

/** What a track is of. @param {string} track */
function sending(track) {
  return Object.keys(page.published).find((what) => page.published[what] === track);
}

/** As before the call. */
export function reset() {
  page.published = {};
  page.refused = {};
  if (page.media.screen) stopScreen();
  for (const what of ['mic', 'camera']) press(what, false, true);
}

/** @param {string} id @param {boolean} pressed @param {boolean} [disabled] */
function press(id, pressed, disabled = false) {
  const button = $(id);
  button.setAttribute('aria-pressed', String(pressed));
  button.querySelector('.label').textContent = BUTTONS[id][Number(pressed)];
  button.disabled = disabled;
}

/** @param {string} id */
function isPressed(id) {
  return $(id).getAttribute('aria-pressed') === 'true';
}

for (const what of ['mic', 'camera']) {
  $(what).addEventListener('click', () => {
    press(what, !isPressed(what));
    page.client.setMuted(page.published[what], isPressed(what));
    showOwn();
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
  showOwn();
}

$('talk').addEventListener('click', () => {
  $('chat').hidden = !$('chat').hidden;
  press('talk', !$('chat').hidden);
  arrange();
  if (!$('chat').hidden) $('text').focus();
});

$('leave').addEventListener('click', () => {
  page.stay = false;
  page.client.leave();
});
