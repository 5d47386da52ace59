// @ts-check
/**
 * RTP header extensions. Chromium gives a new transceiver those that the last one of its kind came to use, and the server
 * uses others where it receives than where it sends. So who receives first and sends later would offer simulcast without
 * RIDs, which Chromium refuses, and estimate bandwidth without transport-wide sequence numbers.
 */

/** Those that the server may use in one direction or the other. */
const WANTED = [
  'urn:ietf:params:rtp-hdrext:sdes:mid',
  'urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id',
  'urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id',
  'urn:ietf:params:rtp-hdrext:ssrc-audio-level',
  'http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time',
  'http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01',
  'urn:3gpp:video-orientation',
  'http://www.webrtc.org/experiments/rtp-hdrext/playout-delay',
  'https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension',
];

/**
 * Offers them again, where the browser lets us choose (WebRTC extensions, section 7).
 * @param {RTCRtpTransceiver & {getHeaderExtensionsToNegotiate?: () => {uri: string, direction: string}[],
 *         setHeaderExtensionsToNegotiate?: (extensions: {uri: string, direction: string}[]) => void}} transceiver
 */
export function negotiateExtensions(transceiver) {
  const extensions = transceiver.getHeaderExtensionsToNegotiate?.() ?? [];
  const isMissing = (/** @type {{uri: string, direction: string}} */ { uri, direction }) =>
    direction === 'stopped' && WANTED.includes(uri);
  if (!extensions.some(isMissing)) return;
  const wanted = extensions.map((extension) => (isMissing(extension) ? { ...extension, direction: 'sendrecv' } : extension));
  transceiver.setHeaderExtensionsToNegotiate?.(wanted);
}
