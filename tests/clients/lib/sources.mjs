// Encoded pictures and sound for clients that have no encoder: ten seconds that loop, a key frame each second.
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ffmpeg } from './ffmpeg.mjs';
import { ivfFrame, ivfHeader } from './ivf.mjs';
import { BUILD } from './paths.mjs';

export const PICTURE = { width: 320, height: 240, fps: 20 };
const SECONDS = 10;
const ENCODE_MS = 120_000;
const ENCODERS = {
  vp8: ['-c:v', 'libvpx', '-deadline', 'realtime', '-cpu-used', '8', '-auto-alt-ref', '0', '-lag-in-frames', '0'],
  vp9: ['-c:v', 'libvpx-vp9', '-deadline', 'realtime', '-cpu-used', '8', '-auto-alt-ref', '0', '-lag-in-frames', '0'],
  av1: ['-c:v', 'libaom-av1', '-usage', 'realtime', '-cpu-used', '8', '-lag-in-frames', '0'],
  h264: ['-c:v', 'libx264', '-profile:v', 'baseline', '-level', '3.1', '-tune', 'zerolatency', '-x264-params', 'aud=1'],
};

/** `{video, audio}`: paths of IVF files; H.264 as access units in Annex B form, Opus as packets of 20 ms. */
export async function sources(video) {
  mkdirSync(BUILD, { recursive: true });
  const files = { video: video && join(BUILD, `source-${video}.ivf`), audio: join(BUILD, 'source-opus.ivf') };
  if (video && !existsSync(files.video)) encodeVideo(video, files.video);
  if (!existsSync(files.audio)) encodeAudio(files.audio);
  return files;
}

function run(args) {
  const options = { timeout: ENCODE_MS, maxBuffer: 64 << 20, stdio: ['ignore', 'pipe', 'pipe'] };
  return execFileSync(ffmpeg(), ['-hide_banner', '-loglevel', 'error', ...args, 'pipe:1'], options);
}

function encodeVideo(codec, file) {
  const { width, height, fps } = PICTURE;
  const input = ['-f', 'lavfi', '-i', `testsrc=size=${width}x${height}:rate=${fps}`, '-t', String(SECONDS)];
  const rate = ['-pix_fmt', 'yuv420p', '-b:v', '300k', '-g', String(fps)];
  const format = ['-f', codec === 'h264' ? 'h264' : 'ivf'];
  const bytes = run([...input, ...rate, ...ENCODERS[codec], ...format]);
  if (codec !== 'h264') return keep(file, bytes);
  const units = accessUnits(bytes).map((unit, number) => ivfFrame(unit, number));
  keep(file, Buffer.concat([ivfHeader(codec, PICTURE), ...units]));
}

function encodeAudio(file) {
  const input = ['-f', 'lavfi', '-i', 'sine=frequency=440:sample_rate=48000', '-t', String(SECONDS), '-ac', '2'];
  const ogg = run([...input, '-c:a', 'libopus', '-b:a', '48k', '-vbr', 'off', '-frame_duration', '20', '-f', 'ogg']);
  const packets = oggPackets(ogg).slice(2).map((packet, number) => ivfFrame(packet, number)); // behind the two headers
  keep(file, Buffer.concat([ivfHeader('opus', { width: 0, height: 0, fps: 50 }), ...packets]));
}

/** Under another name first, so that no half a file is taken for a whole one. */
function keep(file, bytes) {
  writeFileSync(`${file}.${process.pid}`, bytes);
  renameSync(`${file}.${process.pid}`, file);
}

/** Cuts an Annex B stream before each access unit delimiter (NAL unit type 9). */
function accessUnits(bytes) {
  const starts = [];
  const delimiter = Buffer.from([0, 0, 0, 1, 9]);
  for (let at = bytes.indexOf(delimiter); at >= 0; at = bytes.indexOf(delimiter, at + 1)) starts.push(at);
  return starts.map((start, index) => bytes.subarray(start, starts[index + 1] ?? bytes.length));
}

/** RFC 3533: pages with a table of lacing values; a packet ends with a value below 255. */
function oggPackets(bytes) {
  const packets = [];
  let parts = [];
  for (let at = 0; at + 27 <= bytes.length; ) {
    const lacing = bytes.subarray(at + 27, at + 27 + bytes[at + 26]);
    at += 27 + lacing.length;
    for (const length of lacing) {
      parts.push(bytes.subarray(at, at + length));
      at += length;
      if (length < 255) {
        packets.push(Buffer.concat(parts));
        parts = [];
      }
    }
  }
  return packets;
}
