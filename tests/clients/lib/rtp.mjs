// RTP payloads for stacks that have no packetizer: VP8 (RFC 7741), VP9 (RFC 9628), H.264 (RFC 6184), Opus (RFC 7587).
import { randomInt } from 'node:crypto';

const MAX_PAYLOAD = 1_100;
const RATES = { video: 90_000, audio: 48_000 };

/** The packets of one stream: `packetizer({kind, codec, payloadType, ssrc, mid})` gives `packets(frame, seconds)`. */
export function packetizer({ kind, codec, payloadType, ssrc, mid }) {
  let sequence = randomInt(1 << 15);
  const offset = randomInt(1 << 30);
  return (frame, seconds) => {
    const timestamp = (offset + Math.round(seconds * RATES[kind])) >>> 0;
    const payloads = PAYLOADS[codec](frame);
    return payloads.map((payload, index) => {
      const marker = kind === 'video' && index === payloads.length - 1;
      const header = Buffer.alloc(12);
      header[0] = 0x80;
      header[1] = (marker ? 0x80 : 0) | payloadType;
      header.writeUInt16BE(sequence, 2);
      header.writeUInt32BE(timestamp, 4);
      header.writeUInt32BE(ssrc, 8);
      sequence = (sequence + 1) & 0xffff;
      return Buffer.concat([header, ...extension(mid), payload]);
    });
  };
}

/** The MID header extension (RFC 8843 section 15) in the one-byte form, if there is one: `{id, value}`. */
function extension(mid) {
  if (!mid) return [];
  const value = Buffer.from(mid.value);
  const words = Math.ceil((value.length + 1) / 4);
  const bytes = Buffer.alloc(4 + words * 4);
  bytes.writeUInt16BE(0xbede, 0);
  bytes.writeUInt16BE(words, 2);
  bytes[4] = (mid.id << 4) | (value.length - 1);
  value.copy(bytes, 5);
  return [bytes];
}

function chunks(data) {
  const parts = [];
  for (let at = 0; at < data.length; at += MAX_PAYLOAD) parts.push(data.subarray(at, at + MAX_PAYLOAD));
  return parts;
}

const PAYLOADS = {
  opus: (packet) => [packet],
  // The descriptor's S bit begins the (only) partition.
  vp8: (frame) => chunks(frame).map((part, index) => Buffer.concat([Buffer.from([index === 0 ? 0x10 : 0]), part])),
  // Non-flexible mode without picture id: P (inter-predicted), B and E (begin and end of the frame).
  vp9(frame) {
    const profile3 = ((frame[0] >> 4) & 3) === 3;
    const header = frame[0] << (profile3 ? 1 : 0);
    const inter = (header & 0x04) !== 0; // frame_type, behind the frame marker, the profile and show_existing_frame
    const parts = chunks(frame);
    return parts.map((part, index) => {
      const descriptor = (inter ? 0x40 : 0) | (index === 0 ? 0x08 : 0) | (index === parts.length - 1 ? 0x04 : 0);
      return Buffer.concat([Buffer.from([descriptor]), part]);
    });
  },
  // Single NAL units, or FU-A (section 5.8) for those that are too long.
  h264: (unit) =>
    nalUnits(unit).flatMap((nal) => {
      if (nal.length <= MAX_PAYLOAD) return [nal];
      const parts = chunks(nal.subarray(1));
      return parts.map((part, index) => {
        const ends = (index === 0 ? 0x80 : 0) | (index === parts.length - 1 ? 0x40 : 0);
        return Buffer.concat([Buffer.from([(nal[0] & 0x60) | 28, ends | (nal[0] & 0x1f)]), part]);
      });
    }),
};

/** The NAL units of an access unit in Annex B form, without delimiters. */
function nalUnits(unit) {
  const found = [];
  const code = Buffer.from([0, 0, 1]);
  for (let at = unit.indexOf(code); at >= 0; ) {
    const next = unit.indexOf(code, at + 3);
    let end = next < 0 ? unit.length : next;
    while (next >= 0 && unit[end - 1] === 0) end -= 1;
    const nal = unit.subarray(at + 3, end);
    if ((nal[0] & 0x1f) !== 9) found.push(nal);
    at = next;
  }
  return found;
}
