// libdatachannel, through node-datachannel, publishes or receives: node datachannel.mjs OPTIONS. It has no codecs.
import { randomInt } from 'node:crypto';
import nodeDataChannel from 'node-datachannel';
import { RtpPacket } from 'werift';
import { assembler } from '../lib/assemble.mjs';
import { leave, obey, options, play, post, record, say } from '../lib/contract.mjs';
import { packetizer } from '../lib/rtp.mjs';

const OPUS_TYPE = 111;
const VIDEO_TYPE = 96;
const publishes = options.direction === 'publish';
const direction = publishes ? 'SendOnly' : 'RecvOnly';
const pc = new nodeDataChannel.PeerConnection('peer', { iceServers: [], disableAutoNegotiation: true });
const kinds = [options.audio && 'audio', options.video && 'video'].filter(Boolean);
const recorder = publishes ? undefined : record();

function describe(kind) {
  const codec = kind === 'video' ? options.video : 'opus';
  const media = kind === 'video' ? new nodeDataChannel.Video('video', direction) : new nodeDataChannel.Audio('audio', direction);
  if (codec === 'opus') media.addOpusCodec(OPUS_TYPE);
  if (codec === 'vp8') media.addVP8Codec(VIDEO_TYPE);
  if (codec === 'vp9') media.addVP9Codec(VIDEO_TYPE);
  if (codec === 'h264') media.addH264Codec(VIDEO_TYPE);
  const ssrc = randomInt(1, 2 ** 31);
  if (publishes) media.addSSRC(ssrc, 'clients', 'stream', kind);
  const track = pc.addTrack(media);
  track.setMediaHandler(publishes ? new nodeDataChannel.RtcpNackResponder() : new nodeDataChannel.RtcpReceivingSession());
  const payloadType = kind === 'video' ? VIDEO_TYPE : OPUS_TYPE;
  if (publishes) return { track, packets: packetizer({ kind, codec, payloadType, ssrc }) };
  const take = assembler(codec, (frame) => recorder.take(kind, frame));
  track.onMessage((bytes) => {
    const isRtcp = bytes[1] >= 192 && bytes[1] <= 223;
    if (!isRtcp) take(RtpPacket.deSerialize(bytes));
  });
  return { track };
}

const streams = Object.fromEntries(kinds.map((kind) => [kind, describe(kind)]));
const gathered = new Promise((done) => pc.onGatheringStateChange((state) => state === 'complete' && done()));
const connected = new Promise((done, failed) =>
  pc.onStateChange((state) => {
    if (state === 'connected') done();
    if (state === 'failed' || state === 'closed') failed(new Error(`the connection is ${state}`));
  }),
);
pc.setLocalDescription('Offer');
await gathered;
pc.setRemoteDescription(await post(pc.localDescription().sdp), 'Answer');
await connected;
say({ state: 'connected', version: `libdatachannel ${nodeDataChannel.getLibraryVersion()}` });
const media = publishes
  ? play((kind, frame, at) => {
      for (const packet of streams[kind].packets(frame, at)) streams[kind].track.sendMessageBinary(packet);
    })
  : recorder;
obey({
  ...media,
  async stop() {
    await leave();
    pc.close();
    nodeDataChannel.cleanup();
  },
});
