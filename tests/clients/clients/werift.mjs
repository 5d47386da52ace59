// werift publishes or receives: node werift.mjs OPTIONS. It has no codecs, so frames come from and go to files.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { MediaStreamTrack, RTCPeerConnection, useH264, useOPUS, useVP8, useVP9 } from 'werift';
import { assembler } from '../lib/assemble.mjs';
import { leave, obey, options, play, post, record, say } from '../lib/contract.mjs';
import { HERE } from '../lib/paths.mjs';
import { packetizer } from '../lib/rtp.mjs';

const { version } = JSON.parse(readFileSync(join(HERE, 'node_modules/werift/package.json'), 'utf8'));
const VIDEO = { vp8: useVP8, vp9: useVP9, h264: useH264 };
const publishes = options.direction === 'publish';
const codecs = { audio: [useOPUS()], video: options.video ? [VIDEO[options.video]()] : [] };
const pc = new RTCPeerConnection({ codecs, bundlePolicy: 'max-bundle', iceServers: [] });
const kinds = [options.audio && 'audio', options.video && 'video'].filter(Boolean);
const tracks = {};
const recorder = publishes ? undefined : record();
for (const kind of kinds) {
  if (publishes) {
    tracks[kind] = new MediaStreamTrack({ kind });
    pc.addTransceiver(tracks[kind], { direction: 'sendonly' });
    continue;
  }
  const transceiver = pc.addTransceiver(kind, { direction: 'recvonly' });
  const take = assembler(kind === 'video' ? options.video : 'opus', (frame) => recorder.take(kind, frame));
  transceiver.onTrack.subscribe((track) => track.onReceiveRtp.subscribe(take));
}
await pc.setLocalDescription(await pc.createOffer());
const answer = await post(pc.localDescription.sdp);
await pc.setRemoteDescription({ type: 'answer', sdp: answer });
await new Promise((done, failed) => {
  const look = (state) => {
    if (state === 'connected') done();
    if (state === 'failed' || state === 'closed') failed(new Error(`the connection is ${state}`));
  };
  pc.connectionStateChange.subscribe(look);
  look(pc.connectionState);
});
say({ state: 'connected', version: `werift ${version}` });

let media = recorder;
if (publishes) {
  // werift puts in its own SSRC, payload type and header extensions.
  const packets = Object.fromEntries(
    kinds.map((kind) => [kind, packetizer({ kind, codec: kind === 'video' ? options.video : 'opus', payloadType: 96, ssrc: 1 })]),
  );
  media = play((kind, frame, at) => {
    for (const packet of packets[kind](frame, at)) tracks[kind].writeRtp(packet);
  });
}
obey({
  ...media,
  async stop() {
    await leave();
    await pc.close();
  },
});
