// One measurement: a publisher, a receiver, and how many of the frames that one sent the other decoded.
import { mkdtempSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { decodeAudio, decodeVideo } from './decode.mjs';
import { Peer, PeerError } from './peer.mjs';
import { TOKEN } from './server.mjs';
import { PICTURE, sources } from './sources.mjs';

const START_MS = 90_000;
const FIRST_FRAME_MS = 15_000;
/** Counters that stand still for so long, and in so many reports, have settled. */
const QUIET_REPORTS = 2; // on a busy machine a client reports three times a second
const QUIET_MS = 700; // Firefox repeats a still picture each second
const SETTLE_MS = 12_000;

/**
 * `publisher` and `receiver` are clients of clients/index.mjs. Both count from the start; the receiver comes while the
 * publisher sends. Once it has decoded, the publisher holds its frames back until nothing is under way: what both count
 * between that moment and the next such moment, `seconds` later, is compared, so no frame is at a border.
 *
 * `scratch` is a folder for what the clients leave behind. Returns `{video: {sent, decoded}, audio: {sent, decoded}, error, logs, versions}`.
 */
export async function measure(setting) {
  const { publisher, receiver, video, audio, room, seconds, server, namespace, scratch, picture = PICTURE } = setting;
  const folder = mkdtempSync(join(scratch, `${room}-`));
  const env = { NODE_EXTRA_CA_CERTS: server.certificate, SSL_CERT_FILE: server.certificate, TMPDIR: folder };
  const common = { token: TOKEN, video, audio, ...picture };
  const result = {};
  const peers = [];
  const start = async (client, direction, more) => {
    const url = `${server.url}/${direction === 'publish' ? 'whip' : 'whep'}/${room}`;
    const peer = new Peer(client.name, client.command, { ...common, direction, url, ...more }, { namespace, env });
    peers.push([direction, peer]);
    await peer.until('connected', () => peer.connected, START_MS);
    return peer;
  };
  const kinds = [video && 'video', audio && 'audio'].filter(Boolean);
  const counts = (peer, from = { video: 0, audio: 0 }) =>
    Object.fromEntries(kinds.map((kind) => [kind, peer.counts[kind] - from[kind]]));
  const flows = (peer, what) =>
    peer.until(what, () => kinds.every((kind) => peer.counts[kind] > 0), FIRST_FRAME_MS);
  try {
    const sink = receiver.raw ? { video: join(folder, 'video.ivf'), audio: join(folder, 'audio.ivf') } : undefined;
    const source = publisher.raw ? await sources(video) : undefined;
    const sender = await start(publisher, 'publish', { source });
    await flows(sender, 'sends its first frames');
    const taker = await start(receiver, 'receive', { sink });
    await flows(taker, 'decodes its first frames');
    const settle = async () => {
      sender.say('hold');
      await quiet([sender, taker], kinds);
      return [{ ...sender.counts }, { ...taker.counts }];
    };
    const [sent, taken] = await settle();
    sender.say('run');
    taker.say('run');
    await sleep(seconds * 1_000);
    await settle();
    for (const [kind, number] of Object.entries(counts(sender, sent))) {
      result[kind] = { sent: number, decoded: counts(taker, taken)[kind] };
    }
    if (result.video && taker.lowest !== undefined) result.video.lowest = taker.lowest;
    const [from, to] = [taken, { ...taker.counts }];
    for (const [, peer] of peers) peer.check();
    await taker.stop();
    if (sink && video) result.video.decoded = await decodeVideo(sink.video, video, from.video, to.video);
    if (sink && audio) result.audio.decoded = await decodeAudio(sink.audio, from.audio, to.audio);
  } catch (error) {
    if (!(error instanceof PeerError)) throw error;
    result.error = error.message;
  } finally {
    result.logs = Object.fromEntries(peers.map(([direction, peer]) => [direction, [...peer.log]])); // before the end's noise
    await Promise.all(peers.map(([, peer]) => peer.stop()));
    result.versions = Object.fromEntries(peers.map(([direction, peer]) => [direction, peer.version]));
  }
  return result;
}

/** Until the counters of all have stood still for a while. */
export async function quiet(peers, kinds) {
  const counts = (peer) => JSON.stringify(kinds.map((kind) => peer.counts[kind]));
  const now = (peer) => ({ counts: counts(peer), since: Date.now(), reports: peer.reports });
  const last = new Map(peers.map((peer) => [peer, now(peer)]));
  const moves = (peer) => {
    if (counts(peer) !== last.get(peer).counts) last.set(peer, now(peer));
    const { since, reports } = last.get(peer);
    return Date.now() - since < QUIET_MS || peer.reports - reports < QUIET_REPORTS;
  };
  for (const end = Date.now() + SETTLE_MS; ; await sleep(50)) {
    const moving = peers.filter(moves);
    if (moving.length === 0) return;
    if (Date.now() <= end) continue;
    const [{ label, counts: still }] = moving;
    throw new PeerError(`${label}: frames still come ${SETTLE_MS / 1_000} s after "hold": ${JSON.stringify(still)}`);
  }
}
