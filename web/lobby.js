// @ts-check
/** The lobby: the form, the preview of what would be sent, and what is kept for the next visit. */
import { callOff, capture } from './capture.js';
import { listDevices } from './devices.js';
import { $, kept, number, page, parameters } from './page.js';

const LEVEL_MS = 100;

/** @type {(() => void) | undefined} */ let stopLevel;
let isPreviewing = false;

/** Starts or stops the preview. */
async function preview() {
  if (page.isJoining) return; // it is the call's from now on
  if (isPreviewing) {
    release();
    return hidePreview();
  }
  isPreviewing = true;
  $('try').textContent = 'Stop the preview';
  await take(chosenMedia());
}

/** Captures anew, as the form says. @param {string} media */
async function take(media) {
  release();
  page.form.name = $('join').elements.name.value;
  const captured = await capture(media);
  if (!captured) return; // something else was chosen, or the preview is over
  page.media = captured;
  const { camera, mic } = captured;
  $('mirror').srcObject = camera ? new MediaStream([camera]) : null;
  $('preview').classList.toggle('seen', Boolean(camera));
  $('preview-text').textContent = mic ? 'Your microphone only' : 'Nothing is sent: you only watch';
  if (mic) stopLevel = showLevel(mic);
  await listDevices();
}

/** Ends what the preview holds, unless the call takes it over. */
function release() {
  stopLevel?.();
  stopLevel = undefined;
  for (const track of Object.values(page.media)) track.stop();
  page.media = {};
}

/** Another device was chosen. @param {string} kind */
export function previewDevice(kind) {
  if (isPreviewing && kind !== 'audiooutput') take(chosenMedia());
}

function hidePreview() {
  callOff();
  isPreviewing = false;
  stopLevel?.();
  stopLevel = undefined;
  $('mirror').srcObject = null;
  $('preview').classList.remove('seen');
  $('preview-text').textContent = 'Your camera and microphone are off until you preview them or join';
  $('try').textContent = 'Preview';
  $('level').value = 0;
}

/** Hands what was captured over to the call; captures it if there was no preview of the same. */
export async function mediaForCall() {
  const tracks = Object.values(page.media);
  const isThere = tracks.length > 0 && tracks.every(({ readyState }) => readyState === 'live');
  hidePreview();
  if (!isThere) {
    release(); // what is left of it, when a device was unplugged
    page.media = (await capture(page.form.media)) ?? {};
  }
  page.off = new Set();
  if ($('join-muted').checked) page.off.add('mic');
  if ($('join-dark').checked) page.off.add('camera');
  await listDevices();
}

/** Shows how loud a microphone is; returns what ends it. @param {MediaStreamTrack} mic */
function showLevel(mic) {
  const context = new AudioContext();
  const analyser = new AnalyserNode(context, { fftSize: 512 });
  context.createMediaStreamSource(new MediaStream([mic])).connect(analyser);
  const samples = new Float32Array(analyser.fftSize);
  const timer = setInterval(() => {
    analyser.getFloatTimeDomainData(samples);
    const power = samples.reduce((sum, x) => sum + x * x, 0) / samples.length;
    $('level').value = Math.min(1, Math.sqrt(power) * 4);
  }, LEVEL_MS);
  return () => {
    clearInterval(timer);
    context.close();
  };
}

function chosenMedia() {
  return String(new FormData($('join')).get('media'));
}

/** @param {() => void} join Called with the form filled in. */
export function openLobby(join) {
  $('join').addEventListener('submit', (/** @type {Event} */ event) => {
    event.preventDefault();
    page.form = /** @type {any} */ (Object.fromEntries(new FormData($('join'))));
    kept.set('name', page.form.name);
    const query = new URLSearchParams(location.search);
    query.set('room', page.form.room);
    history.replaceState(null, '', `?${query}${location.hash}`);
    join();
  });
  $('try').addEventListener('click', preview);
  $('join').addEventListener('change', (/** @type {any} */ { target }) => {
    if (target.name === 'media' && isPreviewing) take(target.value);
  });
  fillIn();
  if (parameters.get('autojoin') === '1') return $('join').requestSubmit();
  previewIfAllowed();
}

function fillIn() {
  const { elements } = $('join');
  for (const name of ['room', 'token', 'name', 'media']) {
    const given = parameters.get(name);
    if (given !== null) elements[name].value = given;
  }
  elements.name.value ||= kept.get('name') ?? `Guest ${Math.floor(Math.random() * 900 + 100)}`;
  $('join-muted').checked = number('muted', 0) === 1;
}

/** Who has allowed the camera before sees the preview at once; nobody else is asked before they want it. */
async function previewIfAllowed() {
  const name = /** @type {PermissionName} */ ('camera');
  const permission = await navigator.permissions?.query({ name }).catch(() => undefined);
  const isWaiting = document.body.dataset.state === 'lobby' && !isPreviewing; // the user may have been quicker
  if (permission?.state === 'granted' && isWaiting && chosenMedia() === 'camera') preview();
}
