// werift publishes or receives: node werift.mjs OPTIONS. It has no codecs, so frames come from and go to files.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import * as werift from 'werift';
import { assembler } from '../lib/assemble.mjs';
import { leave, obey, options, play, post, record, say } from '../lib/contract.mjs';
import { HERE } from '../lib/paths.mjs';
import { packetizer } from '../lib/rtp.mjs';

const { version } = JSON.parse(readFileSync(join(HERE, 'node_modules/werift/package.json'), 'utf8'));
const { useAbsSendTime, useAudioLevelIndication, useNACK, usePLI, useREMB, useSdesMid, useTWCC, useTransportWideCC } = werift;
const VIDEO = { vp8: werift.useVP8, vp9: werift.useVP9, h264: werift.useH264 };
const publishes = options.direction === 'publish';
const rtcpFeedback = [useNACK(), usePLI(), useREMB(), useTWCC()];
const codecs = { audio: [werift.useOPUS()], video: options.video ? [VIDEO[options.video]({ rtcpFeedback })] : [] };
// It numbers them through: MID is 1 in the section of sound and 3 in that of pictures.
const headerExtensions = {
  audio: [useSdesMid(), useAudioLevelIndication()],
  video: [useSdesMid(), useTransportWideCC(), useAbsSendTime()],
};
const pc = new werift.RTCPeerConnection({ codecs, headerExtensions, bundlePolicy: 'max-bundle', iceServers: [] });
const kinds = [options.audio && 'audio', options.video && 'video'].filter(Boolean);
const tracks = {};
const recorder = publishes ? undefined : record();
for (const kind of kinds) {
  if (publishes) {
    tracks[kind] = new werift.MediaStreamTrack({ kind });
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
