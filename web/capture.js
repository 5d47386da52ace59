// @ts-check
/**
 * What the page sends: the camera and the microphone, or a test picture and tone, and the screen.
 *
 * The user may choose something else, or leave, while the browser opens a device or asks whether it may. What comes then of
 * the former choice is switched off here, and nobody else hears of it.
 */
import { constraint } from './devices.js';
import { notify, number, page, parameters, words } from './page.js';

/** @typedef {Partial<Record<import('./page.js').What, MediaStreamTrack>>} Captured */

/** The last request of each kind: the one whose result is wanted. @type {Map<string, object>} */ const wanted = new Map();
/** Devices are opened one after the other: some machines have a camera opened once only. */
let opening = Promise.resolve();

/** The tracks of a stream; nothing if the same kind was asked for again meanwhile, or it was called off.
 *  @param {string} kind @param {(isLate: () => boolean) => Promise<MediaStream | undefined>} open */
async function unlessLate(kind, open) {
  const request = {};
  wanted.set(kind, request);
  const isLate = () => wanted.get(kind) !== request;
  try {
    const tracks = (await open(isLate))?.getTracks();
    if (!isLate()) return tracks;
    for (const track of tracks ?? []) track.stop();
  } catch (error) {
    if (!isLate()) throw error;
  }
  return undefined;
}

/** @param {string} kind @param {MediaStreamConstraints} constraints */
function openDevices(kind, constraints) {
  return unlessLate(kind, (isLate) => {
    const opened = opening.then(() => (isLate() ? undefined : navigator.mediaDevices.getUserMedia(constraints)));
    opening = opened.then(() => {}, () => {});
    return opened;
  });
}

/** Nobody wants any more what was asked for. */
export function callOff() {
  wanted.clear();
}

/** The camera's picture as the address asks for it. */
function cameraConstraints() {
  return {
    width: { ideal: number('width', 1280) },
    height: { ideal: number('height', 720) },
    frameRate: { ideal: number('fps', 30) },
    ...constraint('videoinput'),
  };
}

/** What the form asks for; nothing if it is not wanted any more.
 *  @param {string} media `camera`, `audio`, `test` or `none` @returns {Promise<Captured | undefined>} */
export async function capture(media) {
  callOff();
  if (media === 'none') return {};
  if (media === 'test') return testMedia();
  const audio = constraint('audioinput');
  const video = media === 'camera' && cameraConstraints();
  try {
    return byUse(await openDevices('all', { audio, video }));
  } catch (error) {
    const found = video && isMissing(error) ? await captureOne(audio, video) : {};
    if (!found) return undefined;
    const lacks = ['camera', 'mic'].filter((what) => !(what in found) && (video || what === 'mic'));
    const names = lacks.map((what) => (what === 'mic' ? 'microphone' : what)).join(' or ');
    notify(`No ${names}: ${words(error)}.${Object.keys(found).length > 0 ? '' : ' You only watch.'}`);
    return found;
  }
}

/** The microphone, or else the camera, where there are not both; nothing if it is not wanted any more.
 *  @param {MediaTrackConstraints} audio @param {MediaTrackConstraints} video @returns {Promise<Captured | undefined>} */
async function captureOne(audio, video) {
  for (const constraints of [{ audio }, { video }]) {
    try {
      return byUse(await openDevices('all', constraints));
    } catch {
      // the other one, then
    }
  }
  return {};
}

/** Whether a device is not there, or somebody else has it, rather than not to be used by the user's will. @param {unknown} error */
function isMissing(error) {
  return error instanceof DOMException && ['NotFoundError', 'NotReadableError', 'OverconstrainedError'].includes(error.name);
}

/** @param {MediaStreamTrack[] | undefined} tracks @returns {Captured | undefined} */
function byUse(tracks) {
  return tracks && Object.fromEntries(tracks.map((track) => [track.kind === 'video' ? 'camera' : 'mic', track]));
}

/** The camera or the microphone that is chosen now; nothing if it is not wanted any more. @param {'camera'|'mic'} what */
export async function captureDevice(what) {
  const constraints = what === 'camera' ? { video: cameraConstraints() } : { audio: constraint('audioinput') };
  return (await openDevices(what, constraints))?.[0];
}

/** What the user chooses to share; nothing if it is not wanted any more. */
export async function captureScreen() {
  const options = { video: { frameRate: { max: 30 } } };
  return (await unlessLate('screen', () => navigator.mediaDevices.getDisplayMedia(options)))?.[0];
}

/** A clock, a moving ball and a tone that comes and goes, for as long as somebody has their tracks. */
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
    pen.fillText(page.form.name, width / 2, height / 5);
  };
  const [camera] = canvas.captureStream(number('fps', 30)).getVideoTracks();
  ticker(1000 / number('fps', 30), () => {
    if (camera.readyState === 'ended') return false;
    draw();
    return true;
  });
  return { camera, mic: testTone(220 + hue) };
}

/** @param {number} frequency */
function testTone(frequency) {
  const audio = new AudioContext();
  const tone = new OscillatorNode(audio, { frequency });
  const gain = new GainNode(audio, { gain: 0 });
  const out = audio.createMediaStreamDestination();
  tone.connect(gain).connect(out);
  tone.start();
  audio.resume();
  const [mic] = out.stream.getAudioTracks();
  ticker(1000, () => {
    const isWanted = mic.readyState === 'live';
    if (isWanted) gain.gain.setTargetAtTime(Math.random() < 0.6 ? 0.1 : 0, audio.currentTime, 0.05);
    else audio.close().catch(() => {}); // it may be closed already
    return isWanted;
  });
  return mic;
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

/** A timer in a worker, which hidden tabs do not slow down, until `tick` is false. @param {number} period @param {() => boolean} tick */
function ticker(period, tick) {
  const slowly = () => {
    const timer = setInterval(() => tick() || clearInterval(timer), period);
  };
  try {
    const code = new Blob([`setInterval(() => postMessage(0), ${period})`], { type: 'text/javascript' });
    const worker = new Worker(URL.createObjectURL(code));
    worker.onmessage = () => tick() || worker.terminate();
    worker.onerror = slowly; // a content security policy may forbid workers
  } catch {
    slowly();
  }
}
