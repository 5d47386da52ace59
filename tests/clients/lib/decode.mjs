// Decodes what a client without a decoder has received: ffmpeg for pictures, opusscript for sound.
import { execFile } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { ffmpeg } from './ffmpeg.mjs';
import { ivfFrames } from './ivf.mjs';

const DECODE_MS = 30_000;
const SAMPLES_20_MS = 960;

/** How many pictures come out of the frames `from` to `to` (not included) of the file, all before them decoded too. */
export async function decodeVideo(file, codec, from, to) {
  if (!existsSync(file)) return 0;
  const decoder = codec === 'av1' ? ['-c:v', 'libdav1d'] : [];
  const args = ['-hide_banner', '-loglevel', 'error', '-threads', '1', ...decoder, '-i', file];
  args.push('-fps_mode', 'passthrough', '-enc_time_base', 'demux', '-f', 'framecrc', '-');
  const text = await new Promise((done) => {
    execFile(ffmpeg(), args, { timeout: DECODE_MS, maxBuffer: 64 << 20 }, (_error, stdout) => done(stdout));
  });
  const numbers = text.split('\n').filter((line) => /^\d/.test(line)).map((line) => Number(line.split(',')[2]));
  return numbers.filter((number) => number >= from && number < to).length;
}

/** How many packets of 20 ms the decoder takes, of those numbered `from` to `to` (not included). */
export async function decodeAudio(file, from, to) {
  if (!existsSync(file)) return 0;
  const { default: OpusScript } = await import('opusscript');
  const decoder = new OpusScript(48_000, 2);
  let decoded = 0;
  ivfFrames(readFileSync(file)).slice(0, to).forEach((packet, number) => {
    try {
      const samples = decoder.decode(packet).length / 4; // two channels of 16 bits
      if (number >= from && samples === SAMPLES_20_MS) decoded += 1;
    } catch {
      // A packet that cannot be decoded is not counted.
    }
  });
  decoder.delete();
  return decoded;
}
