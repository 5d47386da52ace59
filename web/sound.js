// @ts-check
/**
 * Lost sound that comes again. Chromium repairs Opus by NACK, both ways, when the answer to its offer says so; but it offers
 * that for pictures alone. So the offer that the server sees asks for it, where the browser tells the server when its sound
 * arrives, as Chromium does.
 */

/** The offer with NACK for Opus. @param {string} sdp */
export function askForLostSound(sdp) {
  return sdp.split(/^(?=m=)/m).map((section) => (section.startsWith('m=audio') ? ask(section) : section)).join('');
}

/** @param {string} section */
function ask(section) {
  const [, opus] = /^a=rtpmap:(\d+) opus\/48000\/2/im.exec(section) ?? [];
  if (!opus || new RegExp(`^a=rtcp-fb:${opus} nack\\s*$`, 'm').test(section)) return section;
  return section.replace(new RegExp(`^a=rtcp-fb:${opus} transport-cc\\r?\\n`, 'm'), (line) => `${line}a=rtcp-fb:${opus} nack\r\n`);
}
