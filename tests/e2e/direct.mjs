// @ts-check
// Two tabs that are connected to each other without a server: the yardstick.

/** @typedef {import('./lib.mjs').Tab} Tab */

/** Leaves the room; the camera and the microphone go on, in `window.kept`. @param {Tab[]} tabs */
export async function leaveWithMedia(tabs) {
  for (const tab of tabs) {
    await tab.evaluate(() => {
      window.kept = Object.values(window.moonring.media);
      window.moonring.media = {}; // of which the page ends all when it leaves
    });
    await tab.getByRole('button', { name: 'Leave' }).click();
  }
}

/** Connects two tabs without a server, both ways, with the media they had in the room. `window.kept` are the tracks of each.
 *  `sending`: what the first one sends its video as, instead of one stream as browsers do by themselves.
 *  @param {Tab} one @param {Tab} other @param {{codec?: string, svc?: string, bitrate?: number}} [sending] */
export async function connectDirectly(one, other, sending = {}) {
  const complete = `(async () => {
    if (connection.iceGatheringState !== 'complete')
      await new Promise((done) => connection.addEventListener('icegatheringstatechange', () => connection.iceGatheringState === 'complete' && done()));
    return connection.localDescription.toJSON();
  })()`;
  const prepare = (/** @type {{codec?: string, svc?: string, bitrate?: number}} */ { codec, svc, bitrate }) => {
    window.connection = new RTCPeerConnection();
    window.sinks = [];
    window.connection.ontrack = (/** @type {RTCTrackEvent} */ { track }) => {
      const sink = Object.assign(/** @type {HTMLMediaElement} */ (document.createElement(track.kind)), { autoplay: true, muted: true });
      sink.srcObject = new MediaStream([track]);
      document.body.append(sink);
    };
    for (const track of window.kept) {
      if (!codec || track.kind !== 'video') {
        window.connection.addTrack(track, new MediaStream([track]));
        continue;
      }
      /** @type {any} */ const encoding = { ...(svc && { scalabilityMode: svc }), ...(bitrate && { maxBitrate: bitrate }) };
      const transceiver = window.connection.addTransceiver(track, { direction: 'sendonly', sendEncodings: [encoding] });
      const all = RTCRtpSender.getCapabilities('video')?.codecs ?? [];
      const isIt = (/** @type {{mimeType: string}} */ { mimeType }) => mimeType.toLowerCase() === `video/${codec}`;
      transceiver.setCodecPreferences([...all.filter(isIt), ...all.filter((other) => !isIt(other))]);
    }
  };
  await one.evaluate(prepare, sending);
  await other.evaluate(prepare, {});
  await one.evaluate(() => window.connection.setLocalDescription());
  const offer = await one.evaluate(complete);
  await other.evaluate(async (/** @type {any} */ description) => {
    await window.connection.setRemoteDescription(description);
    await window.connection.setLocalDescription();
  }, offer);
  const answer = await other.evaluate(complete);
  await one.evaluate((/** @type {any} */ description) => window.connection.setRemoteDescription(description), answer);
  await one.waitForFunction(() => window.connection.connectionState === 'connected');
}
