// @ts-check
/**
 * Media sections: a transceiver each, and what it is used for.
 *
 * `fresh`: no answer has confirmed it. `used`. `retiring`: the next offer says `inactive`. `free`: an answer has
 * confirmed that, so it can be used again. `stopped`: its place is given back by the next answer. `shape`: what was fixed when
 * the transceiver was made.
 * `wanted`: the layers that somebody receives, null when the server has not said. `told`: how many layers the server has
 * seen, 0 when it has not said.
 * @typedef {{transceiver: RTCRtpTransceiver, role: 'send'|'receive', kind: 'audio'|'video', shape: string,
 *            state: 'fresh'|'used'|'retiring'|'free'|'stopped', track?: string, options: import('./publication.js').PublishOptions,
 *            wanted: number[] | null, told: number}} Section
 * @typedef {import('./media.js').Wish} Wish
 * @typedef {import('./media.js').Sending} Sending
 * @typedef {import('./protocol.js').CodecName} CodecName
 */
import { ClientError } from './errors.js';
import { negotiateExtensions } from './extensions.js';
import { adapt, encodings, narrowCodecs, preferCodec, sizeOf } from './layers.js';

/** The server takes so many sections in one offer: of an offer with one more nothing would come, nor of those after it. */
const MOST_SECTIONS = 256;
/** The shape of a section that fits nothing any more. */
const SPENT = 'spent';
/** So many of them are left for what is sent. */
const SENDING_SECTIONS = 16;

/**
 * Gives a wish a section: a free one if it fits, else a new one.
 * @param {RTCPeerConnection} pc @param {Section[]} sections @param {Wish} wish
 * @param {(track: string) => CodecName | undefined} codecOf
 */
export async function place(pc, sections, wish, codecOf) {
  const { role, kind } = wish;
  const direction = role === 'send' ? 'sendonly' : 'recvonly';
  const sendEncodings = encodingsOf(wish);
  let section = sections.find(fitting(wish, sendEncodings));
  if (section) {
    section.transceiver.direction = direction;
    section.state = 'fresh';
  } else {
    checkRoom(sections, role);
    const init = role === 'send' ? { direction, sendEncodings } : { direction };
    const transceiver = pc.addTransceiver(kind, /** @type {RTCRtpTransceiverInit} */ (init));
    section = { transceiver, role, kind, shape: shapeOf(wish, sendEncodings), state: 'fresh', options: {}, wanted: null, told: 0 };
    sections.push(section);
    negotiateExtensions(transceiver);
  }
  try {
    await prepare(section, wish, codecOf);
  } catch (error) {
    free(section); // or the next offer would send in it
    throw error;
  }
  return section;
}

/**
 * Stops sections that are free and fit none of the wishes, as many as there is no room for new ones: the next offer has them with
 * port 0, and new ones take their places (RFC 8829, section 5.2.2). The first one stays, as Chromium would end the transport with
 * it. True if there are some.
 * @param {Section[]} sections @param {Wish[]} wishes
 */
export function giveBack(sections, wishes) {
  const rest = new Set(sections);
  const fresh = wishes.filter((wish) => {
    const section = [...rest].find(fitting(wish, encodingsOf(wish)));
    return !section || !rest.delete(section);
  });
  const ofRole = (/** @type {{role: string}[]} */ all) => all.filter(({ role }) => role === 'receive').length;
  const lacking = Math.max(sections.length + fresh.length - MOST_SECTIONS, ofRole(sections) + ofRole(fresh) - MOST_SECTIONS + SENDING_SECTIONS, 0);
  const isIdle = (/** @type {Section} */ s) => s.state === 'free' && s !== sections[0] && s.transceiver.currentDirection;
  const idle = [...rest].filter(isIdle).sort((a, b) => Number(a.role === 'send') - Number(b.role === 'send'));
  for (const section of idle.slice(0, lacking)) {
    section.transceiver.stop();
    section.state = 'stopped';
  }
  return lacking > 0 && idle.length > 0;
}

/** @param {Wish} wish */
const encodingsOf = (wish) => (wish.role === 'send' && wish.kind === 'video' ? encodings(wish.options, sizeOf(wish.media)) : [{}]);

/** Whether a section is free for a wish. @param {Wish} wish @param {import('./layers.js').Encoding[]} layers */
function fitting(wish, layers) {
  const { role, kind } = wish;
  const shape = shapeOf(wish, layers);
  return (/** @type {Section} */ s) => s.state === 'free' && s.role === role && s.kind === kind && s.shape === shape && hasLayers(s, layers.length);
}

/** @param {Section[]} sections @param {Wish['role']} role */
function checkRoom(sections, role) {
  const most = role === 'send' ? MOST_SECTIONS : MOST_SECTIONS - SENDING_SECTIONS;
  const count = role === 'send' ? sections.length : sections.filter((s) => s.role === role).length;
  if (count >= most) throw new ClientError('limit', `A client ${role}s at most ${most} tracks`);
}

/** @param {Section} section @param {Wish} wish @param {(track: string) => CodecName | undefined} codecOf */
async function prepare(section, wish, codecOf) {
  if (wish.role === 'receive') return narrowCodecs(section.transceiver, section.kind, codecOf(wish.track));
  section.options = wish.options;
  [section.wanted, section.told] = [null, 0];
  preferCodec(section.transceiver, section.kind, wish.options.codec);
  await attach(section, wish);
}

/**
 * Chromium forgets the layers of a sender, for good, where an answer leaves them out, `inactive` or not: such a section is not
 * used again. moonring's answers have them.
 * @param {Section} section @param {number} count
 */
function hasLayers({ transceiver }, count) {
  return count === 1 || transceiver.sender.getParameters().encodings?.length === count;
}

/** Whether it sends several encodings of a picture. @param {Section} section */
export function hasSeveralLayers({ role, transceiver }) {
  return role === 'send' && (transceiver.sender.getParameters().encodings?.length ?? 0) > 1;
}

/** What of a wish cannot be changed in a section later. @param {Wish} wish @param {import('./layers.js').Encoding[]} layers */
function shapeOf(wish, layers) {
  if (wish.role === 'receive') return '';
  return JSON.stringify([wish.options.codec, layers.map(({ rid, scalabilityMode }) => [rid, scalabilityMode])]);
}

/** @param {Section} section @param {Sending} wish */
async function attach(section, { media, options }) {
  const { sender } = section.transceiver;
  await sender.replaceTrack(media);
  const parameters = sender.getParameters();
  if (parameters.encodings?.length !== 1) return;
  const [encoding] = parameters.encodings;
  if (options.maxBitrate) encoding.maxBitrate = options.maxBitrate;
  else delete encoding.maxBitrate; // of the section's former life
  encoding.active = true;
  const { scalabilityMode } = options;
  if (scalabilityMode) Object.assign(encoding, { scalabilityMode, scaleResolutionDownBy: 1 });
  await sender.setParameters(parameters);
}

/** Sections whose parameters are being set, and what is to be done then: set them again, or begin anew. @type {Map<Section, ''|'tune'|'anew'>} */
const underWay = new Map();

/**
 * Makes what a section sends fit its picture and who receives it. Sound is sent whether somebody receives it or not: the
 * server tells from it who speaks.
 *
 * Parameters are set one after the other: Chromium refuses those that are set while others are, and the layers would stay as
 * they are.
 * @param {Section} section
 */
export function tune(section) {
  return change(section, 'tune');
}

/**
 * Has all layers that are sent begin anew, with key frames. An encoder that is asked for these in the middle makes them several
 * times as large as pictures may be on the average, and then none of any layer for up to a second; one that begins makes small
 * ones, and goes on at once. So one layer is switched off and on again.
 * @param {Section} section
 */
export function beginAnew(section) {
  return change(section, 'anew');
}

/** @param {Section} section @param {'tune'|'anew'} what */
async function change(section, what) {
  if (underWay.has(section)) return void (underWay.get(section) !== 'anew' && underWay.set(section, what));
  /** @type {''|'tune'|'anew'|undefined} */ let next = what;
  try {
    while (next) {
      underWay.set(section, '');
      if (next === 'anew') await switchOff(section);
      await setParameters(section);
      next = underWay.get(section);
    }
  } finally {
    underWay.delete(section);
  }
}

/**
 * Switches off the lowest of several layers that are sent: an encoder with fewer or more layers is another one for Chromium, and all
 * begin anew. What they may take together stays as it is, or Chromium would look for it with probes once it grows again, and fill a
 * narrow uplink. `setParameters` sets it all right.
 * @param {Section} section
 */
async function switchOff(section) {
  if (section.state !== 'used' || !hasSeveralLayers(section)) return;
  const { sender } = section.transceiver;
  const parameters = sender.getParameters();
  const [lowest, next] = parameters.encodings.filter(({ active }) => active);
  if (!lowest) return;
  lowest.active = false;
  if (next) next.maxBitrate = (next.maxBitrate ?? 0) + (lowest.maxBitrate ?? 0);
  await sender.setParameters(parameters).catch(() => {}); // as in `setParameters`
}

/** @param {Section} section */
async function setParameters({ transceiver, role, kind, state, wanted, told, options }) {
  if (role !== 'send' || kind !== 'video' || state !== 'used') return;
  const { sender } = transceiver;
  const parameters = sender.getParameters();
  const { maxBitrate, scalabilityMode } = options;
  const target = { size: sizeOf(sender.track), wanted, maxBitrate, scalabilityMode, told };
  if (!parameters.encodings?.length || !adapt(parameters.encodings, target)) return;
  // It fails only for a sender that has been stopped, or that another answer is about to change: then it is tuned again.
  await sender.setParameters(parameters).catch(() => {});
}

/**
 * The next offer says that it is not used any more. A section that has sent several layers is not used again but given back:
 * Chromium names the layers in its packets, which nothing else tells apart, until the first report of them has come, and never
 * again in the same section. The first of all sections stays where it is: Chromium would end the transport with it.
 * @param {Section} section @param {Section[]} sections
 */
export function retire(section, sections) {
  const isSpent = section.track && hasSeveralLayers(section);
  free(section);
  section.state = 'retiring';
  if (section.role !== 'send' || !isSpent) return;
  section.shape = SPENT;
  if (section === sections[0]) return;
  section.transceiver.stop();
  section.state = 'stopped';
}

/** Another wish may have it. @param {Section} section */
export function free(section) {
  section.state = 'free';
  section.track = undefined;
  section.transceiver.direction = 'inactive';
  if (section.role === 'send') section.transceiver.sender.replaceTrack(null).catch(() => {});
}
