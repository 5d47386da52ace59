// Frames in files: IVF (32 bytes of header; per frame its length, its number as 64 bits, its bytes), for every codec,
// Opus packets too. Clients without an encoder publish from one, clients without a decoder write one.
import { createWriteStream } from 'node:fs';

const FOURCC = { vp8: 'VP80', vp9: 'VP90', av1: 'AV01', h264: 'H264', opus: 'OPUS' };
const HEADER = 32;

export function ivfHeader(codec, { width, height, fps }) {
  const header = Buffer.alloc(HEADER);
  header.write('DKIF', 0);
  header.writeUInt16LE(HEADER, 6);
  header.write(FOURCC[codec], 8);
  header.writeUInt16LE(width, 12);
  header.writeUInt16LE(height, 14);
  header.writeUInt32LE(fps, 16);
  header.writeUInt32LE(1, 20);
  return header;
}

export function ivfFrame(data, number) {
  const head = Buffer.alloc(12);
  head.writeUInt32LE(data.length, 0);
  head.writeBigUInt64LE(BigInt(number), 4);
  return Buffer.concat([head, data]);
}

/** The frames of a file's bytes; one that is cut off at the end is left out. */
export function ivfFrames(bytes) {
  const frames = [];
  for (let at = HEADER; at + 12 <= bytes.length; ) {
    const end = at + 12 + bytes.readUInt32LE(at);
    if (end > bytes.length) break;
    frames.push(bytes.subarray(at + 12, end));
    at = end;
  }
  return frames;
}

/** Writes frames to `path`, numbered from 0: `write(data)`. */
export function ivfWriter(path, codec, picture) {
  const stream = createWriteStream(path);
  let number = 0;
  stream.write(ivfHeader(codec, picture));
  return { write: (data) => stream.write(ivfFrame(data, number++)) };
}
