// @ts-check
/**
 * What a video is sent as: how many simulcast layers for a picture of this size, at which scale and bitrate, in which
 * codec, and which of them are switched on.
 *
 * @typedef {import('./protocol.js').CodecName} CodecName
 * @typedef {{width: number, height: number}} Size
 * @typedef {RTCRtpEncodingParameters & {scalabilityMode?: string}} Encoding
 *
 * - `simulcast`: send smaller copies of the picture beside it, for those who show it small or have little bandwidth.
 * - `codec`: preferred; the server takes another one if it does not have it.
 * - `scalabilityMode`: of one stream with layers inside, for example `L3T3_KEY` with VP9 or AV1; instead of simulcast.
 * - `maxBitrate`: bits per second, of the best layer.
 * @typedef {{simulcast?: boolean, codec?: CodecName, scalabilityMode?: string, maxBitrate?: number}} VideoOptions
 */

const RIDS = ['q', 'h', 'f'];
/** The longer side, in pixels, from which a picture is sent in three layers, and in two. */
const THREE_LAYERS = 960;
const TWO_LAYERS = 480;
/** Bits per second and pixel at 30 frames a second, and their bounds. */
const BITS_PER_PIXEL = 2.7;
const LEAST_BITRATE = 100_000;
const MOST_BITRATE = 4_500_000;

/**
 * How many simulcast layers a picture is worth. Browsers send nothing in the layers that they find too many, and it is
 * the best layer that they leave out.
 * @param {Size} size
 */
export function layerCount({ width, height }) {
  const longer = Math.max(width, height);
  if (longer >= THREE_LAYERS) return 3;
  return longer >= TWO_LAYERS ? 2 : 1;
}

/** The size of a track's picture; undefined when the browser does not know it yet. @param {MediaStreamTrack | null} track */
export function sizeOf(track) {
  const { width, height } = track?.getSettings() ?? {};
  return width && height ? { width, height } : undefined;
}

/**
 * The encodings a sender begins with. Their number cannot be changed later.
 * @param {VideoOptions} options
 * @param {Size | undefined} size
 * @returns {Encoding[]}
 */
export function encodings(options, size) {
  const { scalabilityMode, codec, maxBitrate } = options;
  const limit = maxBitrate ? { maxBitrate } : {};
  if (scalabilityMode && !/^L1/.test(scalabilityMode)) return [{ ...limit, scalabilityMode }];
  const count = options.simulcast ? layerCount(size ?? { width: THREE_LAYERS, height: 0 }) : 1;
  // Without a mode on each of them Chromium makes one stream with layers inside of VP9 and AV1 simulcast.
  const layered = codec === 'vp9' || codec === 'av1' ? 'L1T2' : undefined;
  const mode = scalabilityMode ?? (count > 1 ? layered : undefined);
  const extra = mode ? { scalabilityMode: mode } : {};
  if (count === 1) return [{ ...limit, ...extra }];
  const layers = RIDS.slice(0, count).map((rid) => ({ rid, ...extra }));
  adapt(layers, { size, wanted: null, maxBitrate });
  return layers;
}

/**
 * Makes encodings fit the picture and what is wanted of them; true if that changed anything. Of a picture that is worth
 * fewer layers than there are encodings, the first ones carry it, the last of them at full size.
 * @param {Encoding[]} layers
 * @param {{size?: Size, wanted: number[] | null, maxBitrate?: number, scalabilityMode?: string, told?: number}} target
 *   `wanted`: the layers that somebody receives, null when that is not known; of one stream with spatial layers inside, of
 *   which there are `told` as the server has seen, those
 */
export function adapt(layers, target) {
  const { size, wanted, maxBitrate } = target;
  const count = size ? Math.min(layers.length, layerCount(size)) : layers.length;
  let changed = layers.length === 1 && leaveOut(layers[0], target);
  layers.forEach((layer, place) => {
    const used = place < count;
    const isWanted = wanted === null || (layers.length > 1 ? wanted.includes(place) : wanted.length > 0);
    const active = used && isWanted;
    changed ||= (layer.active ?? true) !== active;
    layer.active = active;
    if (layers.length === 1 || !used) return;
    const scale = 2 ** (count - 1 - place);
    changed ||= layer.scaleResolutionDownBy !== scale;
    layer.scaleResolutionDownBy = scale;
    const bitrate = bitrateOf(size ?? { width: 1280, height: 720 }, scale, maxBitrate);
    changed ||= layer.maxBitrate !== bitrate;
    layer.maxBitrate = bitrate;
  });
  return changed;
}

/**
 * Leaves out the upper spatial layers of one stream that nobody receives, or has them sent again; true if that changed
 * anything. An encoder makes as many layers as its mode says of the picture it gets: the fewer, the smaller that has to be.
 * @param {Encoding} layer @param {{wanted: number[] | null, maxBitrate?: number, scalabilityMode?: string, told?: number}} target
 */
function leaveOut(layer, { wanted, maxBitrate, scalabilityMode, told = 0 }) {
  const [, all, rest] = /^L(\d)(T\d.*)$/.exec(scalabilityMode ?? '') ?? [];
  if (!all || all === '1') return false;
  // For nobody the stream is switched off as it is.
  const over = wanted?.length && told > 1 ? Math.max(0, told - 1 - Math.max(...wanted)) : 0;
  const count = Math.max(1, Number(all) - over);
  const mode = count === 1 ? `L1${rest.slice(0, 2)}` : `L${count}${rest}`;
  if ((layer.scalabilityMode ?? scalabilityMode) === mode) return false;
  const scale = (rest.includes('h') ? 1.5 : 2) ** (Number(all) - count);
  layer.scalabilityMode = mode;
  layer.scaleResolutionDownBy = scale;
  if (maxBitrate) layer.maxBitrate = Math.round(maxBitrate / scale ** 2);
  return true;
}

/** @param {Size} size @param {number} scale @param {number} [most] of the picture at full size */
function bitrateOf({ width, height }, scale, most) {
  const full = Math.min(MOST_BITRATE, width * height * BITS_PER_PIXEL);
  const rate = Math.min(full, most ?? full) / scale ** 2;
  return Math.round(Math.max(Math.min(LEAST_BITRATE, most ?? LEAST_BITRATE), rate));
}

/**
 * Prefers a codec for sending; the others stay as a choice for the server.
 * @param {RTCRtpTransceiver} transceiver @param {'audio'|'video'} kind @param {CodecName | undefined} codec
 */
export function preferCodec(transceiver, kind, codec) {
  const all = RTCRtpSender.getCapabilities(kind)?.codecs ?? [];
  const isIt = named(kind, codec);
  if (!codec || !all.some(isIt) || !transceiver.setCodecPreferences) return;
  transceiver.setCodecPreferences([...all.filter(isIt), ...all.filter((other) => !isIt(other))]);
}

/**
 * Lets a receiving section name only its track's codec (and retransmission): a video section with everything that a
 * browser knows is 5 KB of SDP, and a big room has a hundred of them.
 * @param {RTCRtpTransceiver} transceiver @param {'audio'|'video'} kind @param {CodecName | undefined} codec
 */
export function narrowCodecs(transceiver, kind, codec) {
  const all = RTCRtpReceiver.getCapabilities(kind)?.codecs ?? [];
  const wanted = all.filter(named(kind, codec));
  if (wanted.length === 0 || !transceiver.setCodecPreferences) return;
  transceiver.setCodecPreferences([...wanted, ...all.filter(({ mimeType }) => /\/rtx$/i.test(mimeType))]);
}

/** @param {string} kind @param {string | undefined} codec @returns {(candidate: {mimeType: string}) => boolean} */
function named(kind, codec) {
  return ({ mimeType }) => mimeType.toLowerCase() === `${kind}/${codec}`;
}
