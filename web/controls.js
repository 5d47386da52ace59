// @ts-check
/** The buttons of a call that are about the own tracks, what the room does to them, and the own tile. */
import { captureDevice, captureScreen } from './capture.js';
import { $, notify, number, page, parameters, words, write } from './page.js';
import { showPeople } from './people.js';
import { route } from './tile.js';

/** @typedef {import('./client.js').Client} Client */
/** @typedef {import('./client.js').Publication} Publication */
/** @typedef {import('./page.js').What} What */

/** What is sent, in words. @type {Record<What, string>} */
const LABELS = { mic: 'sound', camera: 'video', screen: 'screen' };
/** @type {Record<What, import('./protocol.js').Source>} */
const SOURCES = { mic: 'microphone', camera: 'camera', screen: 'screen' };
/** Of each button: while it is sent, and while it is not. @type {Record<What, string[]>} */
const BUTTONS = { mic: ['Mute', 'Unmute'], camera: ['Stop video', 'Start video'], screen: ['Stop sharing', 'Share screen'] };

/** The kind of device of each. @type {{mic: import('./devices.js').DeviceKind, camera: import('./devices.js').DeviceKind}} */
const DEVICES = { mic: 'audioinput', camera: 'videoinput' };
/** As users call them. */
const NAMES = { mic: 'microphone', camera: 'camera' };
const CAPTURED = /** @type {('mic'|'camera')[]} */ (['mic', 'camera']);

/** Whether its device was unplugged, or is not allowed any more. @param {'mic'|'camera'} what */
const isGone = (what) => page.media[what]?.readyState === 'ended';

/** What this page sends of each. @param {What} what @returns {import('./client.js').PublishOptions} */
function options(what) {
  if (what !== 'camera') return { source: SOURCES[what] };
  const simulcast = parameters.get('simulcast') ?? (page.form.media === 'camera' ? '1' : '0');
  const codec = /** @type {import('./protocol.js').CodecName | null} */ (parameters.get('codec'));
  return {
    source: SOURCES[what],
    simulcast: simulcast === '1',
    maxBitrate: number('bitrate', 0) || undefined,
    codec: codec ?? undefined,
    scalabilityMode: parameters.get('svc') ?? undefined,
  };
}

/** @param {Client} client @param {What} what */
export async function publish(client, what) {
  const media = page.media[what];
  if (!media) return false;
  try {
    const publication = await client.publish(media, { ...options(what), muted: page.off.has(what) });
    // While the room decided, the sharing may have ended, or another device was chosen.
    const now = page.media[what];
    if (!now || (what === 'screen' && now !== media)) {
      publication.unpublish();
      return false;
    }
    page.published[what] = publication;
    delete page.refused[what];
    if (now !== media) publication.replace(now).catch((error) => notify(words(error)));
    if (publication.muted !== page.off.has(what)) publication.setMuted(page.off.has(what)); // clicked meanwhile
    return true;
  } catch (error) {
    if (client.state === 'closed') return false;
    notify(`Your ${LABELS[what]} was refused: ${words(error)}`);
    page.refused[what] = `${LABELS[what]} refused`;
    return false;
  } finally {
    showOwn();
  }
}

/** Brings the buttons and the own tile up to date with what is sent and what is not, by whose doing. */
export function showOwn() {
  const { published, refused, media, off } = page;
  for (const what of /** @type {What[]} */ (['mic', 'camera', 'screen'])) {
    const sent = what === 'screen' ? Boolean(media.screen) : !off.has(what) && !refused[what];
    write($(what).querySelector('.label'), BUTTONS[what][sent ? 0 : 1]);
    $(what).dataset.sent = String(sent);
    if (what !== 'screen') $(what).disabled = !media[what];
  }
  showPeople();
  const own = page.tiles.get('me');
  if (!own) return;
  const notes = [];
  for (const what of /** @type {What[]} */ (['mic', 'camera', 'screen'])) {
    if (refused[what] && what !== 'screen') notes.push(refused[what]);
    else if (what !== 'screen' && isGone(what)) notes.push(`no ${NAMES[what]}`);
    else if (published[what]?.mutedByRoom) notes.push(`${LABELS[what]} muted by the room`);
    else if (what === 'mic' && media.mic && off.has('mic')) notes.push('muted');
  }
  own.say(notes.join(', '));
  own.hide(off.has('camera') || isGone('camera') || Boolean(refused.camera) || Boolean(published.camera?.mutedByRoom));
}

/** The policy mutes an own track, or does so no more. @param {{publication: Publication, muted: boolean}} change */
export function mutedByRoom({ publication, muted }) {
  const what = sending(publication);
  if (what) notify(`The room ${muted ? 'has muted' : 'no longer mutes'} your ${LABELS[what]}`, 'note');
  showOwn();
}

/** The room takes an own track out. @param {{publication: Publication, reason: string}} ending */
export function takenOut({ publication, reason }) {
  const what = sending(publication);
  if (!what) return;
  delete page.published[what];
  notify(`The room has ended your ${LABELS[what]}${reason === 'The room has ended it' ? '' : `: ${reason}`}`);
  if (what === 'screen') return stopScreen();
  page.refused[what] = `${LABELS[what]} ended by the room`;
  showOwn();
}

/** What a publication is of. @param {Publication} publication */
function sending(publication) {
  return /** @type {What[]} */ (Object.keys(page.published)).find((what) => page.published[what] === publication);
}

/** As before the call. */
export function reset() {
  page.published = {};
  page.refused = {};
  if (page.media.screen) stopScreen();
}

/** Off and on again; what was refused is tried again. @param {'mic'|'camera'} what */
export async function toggle(what) {
  const { client, published, refused, off } = page;
  if ($(what).disabled || !client) return;
  if (refused[what]) {
    off.delete(what);
    delete refused[what]; // the next click is about what is sent
    showOwn();
    await publish(client, what);
    return;
  }
  if (off.has(what)) off.delete(what);
  else off.add(what);
  published[what]?.setMuted(off.has(what) || isGone(what));
  showOwn();
}

export async function toggleScreen() {
  const { client } = page;
  if (page.media.screen) return stopScreen();
  if (!client || $('screen').hidden) return;
  const screen = await captureScreen().catch(() => undefined); // the user thought better of it
  if (!screen) return;
  const stop = () => page.media.screen === screen && stopScreen();
  page.media.screen = screen;
  screen.contentHint = 'detail';
  screen.onended = stop;
  showOwn();
  if (!(await publish(client, 'screen'))) stop();
}

function stopScreen() {
  page.media.screen?.stop();
  delete page.media.screen;
  page.published.screen?.unpublish();
  delete page.published.screen;
  showOwn();
}

/** Notices when the devices go while the call lasts, and takes others. */
export function keepDevices() {
  for (const what of CAPTURED) {
    const media = page.media[what];
    if (media) media.onended = () => media === page.media[what] && lost(what);
  }
}

/** @param {'mic'|'camera'} what */
function lost(what) {
  notify(`Your ${NAMES[what]} has stopped: was it unplugged?`);
  rest(what);
  changeDevice(DEVICES[what]);
}

/** Others see that there is nothing. @param {'mic'|'camera'} what */
function rest(what) {
  if (page.published[what]?.muted === false) page.published[what]?.setMuted(true);
  showOwn();
}

/** Another camera, microphone or speaker in the middle of the call. @param {string} kind */
export async function changeDevice(kind) {
  if (kind === 'audiooutput') {
    for (const tile of page.tiles.values()) tile.audio.forEach(route);
    return;
  }
  const what = kind === 'videoinput' ? 'camera' : 'mic';
  if (!page.media[what] || page.form.media === 'test') return;
  page.media[what]?.stop(); // some machines have a camera opened once only
  try {
    const media = await captureDevice(what);
    if (!media) return; // yet another one was chosen, or the call is over
    media.enabled = !page.off.has(what);
    page.media[what] = media;
    keepDevices();
    if (what === 'camera') page.tiles.get('me')?.show(media);
    const publication = page.published[what];
    await publication?.replace(media);
    if (publication && publication.muted !== page.off.has(what)) publication.setMuted(page.off.has(what));
    showOwn();
  } catch (error) {
    if (!page.media[what]) return;
    notify(`That ${NAMES[what]} cannot be used: ${words(error)}`);
    rest(what);
  }
}

for (const what of CAPTURED) {
  $(what).addEventListener('click', () => toggle(what));
}
navigator.mediaDevices?.addEventListener('devicechange', () => {
  if (document.body.dataset.state === 'call') for (const what of CAPTURED) if (isGone(what)) changeDevice(DEVICES[what]);
});
$('screen').addEventListener('click', toggleScreen);
$('screen').hidden = !navigator.mediaDevices?.getDisplayMedia;
$('leave').addEventListener('click', () => page.client?.leave());
