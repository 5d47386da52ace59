// Frames from RTP packets, by werift's depacketizers, for stacks that hand out packets.
import { dePacketizeRtpPackets } from 'werift';

const NAMES = { vp8: 'VP8', vp9: 'VP9', av1: 'AV1', h264: 'MPEG4/ISO/AVC', opus: 'OPUS' };
/** Packets kept while one before them is missing. */
const PATIENCE = 64;

/** `take(packet)` takes werift's RtpPackets of one stream, in any order; whole frames go to `frame(data)`. */
export function assembler(codec, frame) {
  let next;
  let waiting = new Map();
  let packets = [];
  let broken = false;
  const finish = () => {
    if (!broken && packets.length > 0) frame(dePacketizeRtpPackets(NAMES[codec], packets).data);
    packets = [];
    broken = false;
  };
  const accept = (packet) => {
    if (packet.payload.length === 0) return; // padding
    if (packets.length > 0 && packets[0].header.timestamp !== packet.header.timestamp) finish();
    packets.push(packet);
    if (packet.header.marker || codec === 'opus') finish();
  };
  return (packet) => {
    const { sequenceNumber } = packet.header;
    next ??= sequenceNumber;
    if (((sequenceNumber - next) & 0xffff) > 0x8000) return; // came twice or too late
    waiting.set(sequenceNumber, packet);
    if (waiting.size > PATIENCE && !waiting.has(next)) {
      broken = true; // what is missing does not come any more
      next = [...waiting.keys()].sort((a, b) => ((a - next) & 0xffff) - ((b - next) & 0xffff))[0];
    }
    for (; waiting.has(next); next = (next + 1) & 0xffff) {
      accept(waiting.get(next));
      waiting.delete(next);
    }
  };
}
