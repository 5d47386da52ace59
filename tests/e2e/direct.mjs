// @ts-check
// Two tabs that are connected to each other without a server: the yardstick.

/** @typedef {import('./lib.mjs').Tab} Tab */

/** Connects two tabs without a server, both ways, with the media they had in the room. `window.kept` are the tracks of each.
 *  @param {Tab} one @param {Tab} other */
export async function connectDirectly(one, other) {
  const complete = `(async () => {
    if (connection.iceGatheringState !== 'complete')
      await new Promise((done) => connection.addEventListener('icegatheringstatechange', () => connection.iceGatheringState === 'complete' && done()));
    return connection.localDescription.toJSON();
  })()`;
  const prepare = () => {
    window.connection = new RTCPeerConnection();
    window.sinks = [];
    window.connection.ontrack = (/** @type {RTCTrackEvent} */ { track }) => {
      const sink = Object.assign(/** @type {HTMLMediaElement} */ (document.createElement(track.kind)), { autoplay: true, muted: true });
      sink.srcObject = new MediaStream([track]);
      document.body.append(sink);
    };
    for (const track of window.kept) window.connection.addTrack(track, new MediaStream([track]));
  };
  await one.evaluate(prepare);
  await other.evaluate(prepare);
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
