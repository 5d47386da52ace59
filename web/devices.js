// @ts-check
/** Which camera, microphone and speaker: the choices in the lobby and in the call, and what is kept of them. */
import { kept, notify, page, words } from './page.js';

/** @typedef {'videoinput'|'audioinput'|'audiooutput'} DeviceKind */

const NAMES = { videoinput: 'Camera', audioinput: 'Microphone', audiooutput: 'Speaker' };
const selects = /** @type {HTMLSelectElement[]} */ ([...document.querySelectorAll('select[data-device]')]);
/** @type {(kind: DeviceKind) => void} */ let chosen = () => {};
/** How often the devices were asked for: of two answers the later one counts. */ let times = 0;

/** What is asked of `getUserMedia` for a kind of device. @param {DeviceKind} kind */
export function constraint(kind) {
  const id = kept.get(kind);
  return id ? { deviceId: { ideal: id } } : {};
}

export function speakerId() {
  return kept.get('audiooutput') ?? '';
}

/** @param {(kind: DeviceKind) => void} action Called when the user has chosen another device. */
export function onDeviceChosen(action) {
  chosen = action;
}

/** Fills the choices; their names are known once the user has allowed a camera or a microphone. */
export async function listDevices() {
  const time = ++times;
  const devices = (await navigator.mediaDevices?.enumerateDevices().catch(() => [])) ?? [];
  if (time !== times) return;
  for (const select of selects) {
    const kind = /** @type {DeviceKind} */ (select.dataset.device);
    const known = devices.filter((device) => device.kind === kind && device.deviceId);
    const options = known.map((device, n) => new Option(device.label || `${NAMES[kind]} ${n + 1}`, device.deviceId));
    select.replaceChildren(...(options.length > 0 ? options : [new Option('The default', '')]));
    select.disabled = options.length < 2;
    const wanted = kept.get(kind) ?? inUse(kind);
    if (known.some(({ deviceId }) => deviceId === wanted)) select.value = String(wanted);
    const label = /** @type {HTMLElement} */ (select.closest('label'));
    label.hidden = kind === 'audiooutput' && (known.length === 0 || !('setSinkId' in HTMLMediaElement.prototype));
  }
}

/** @param {DeviceKind} kind */
function inUse(kind) {
  const track = kind === 'videoinput' ? page.media.camera : page.media.mic;
  return track?.getSettings().deviceId;
}

for (const select of selects) {
  select.addEventListener('change', () => {
    const kind = /** @type {DeviceKind} */ (select.dataset.device);
    kept.set(kind, select.value);
    for (const other of selects) if (other.dataset.device === kind) other.value = select.value;
    chosen(kind);
  });
}
navigator.mediaDevices?.addEventListener('devicechange', listDevices);
listDevices().catch((error) => notify(words(error)));
