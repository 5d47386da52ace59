// ffmpeg's WHIP muxer publishes H.264 and Opus. Pictures and sound are made here and piped into it, so that they can be
// held back: node ffmpeg.mjs OPTIONS
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { ffmpeg } from '../lib/ffmpeg.mjs';
import { fail, obey, options, say } from '../lib/contract.mjs';

const { width, height, fps, url, token } = options;
const SOUND_MS = 20;
const CHUNK = (48_000 * SOUND_MS) / 1_000;
const TICK_MS = 5;
/** ffmpeg keeps each kind back until the other has come as far: both follow one clock, sound is this much ahead. */
const SOUND_AHEAD_MS = 100;
/** It is held at multiples of this, which end a picture and a packet of sound. */
const HOLD_MS = 100;

const inputs = ['-f', 'rawvideo', '-pixel_format', 'yuv420p', '-video_size', `${width}x${height}`, '-framerate', String(fps)];
inputs.push('-thread_queue_size', '64', '-i', 'pipe:0');
inputs.push('-f', 's16le', '-ar', '48000', '-ac', '2', '-thread_queue_size', '64', '-i', 'pipe:3');
const video = ['-c:v', 'libx264', '-profile:v', 'baseline', '-preset', 'ultrafast', '-tune', 'zerolatency', '-threads', '1'];
video.push('-g', String(fps), '-bf', '0', '-b:v', '400k');
const audio = ['-c:a', 'libopus', '-b:a', '48k', '-frame_duration', String(SOUND_MS), '-application', 'lowdelay'];
const output = ['-f', 'whip', '-authorization', token, '-ca_file', process.env.SSL_CERT_FILE, url];
const args = ['-hide_banner', '-loglevel', 'info', '-nostats', '-probesize', '32', '-analyzeduration', '0', ...inputs];
args.push('-progress', 'pipe:1', '-stats_period', '0.2', ...video, ...audio, ...output);
const child = spawn(ffmpeg(), args, { stdio: ['pipe', 'pipe', 'pipe', 'pipe'] });
child.on('exit', (code, signal) => fail(new Error(`ffmpeg ended (${signal ?? code})`)));
for (const stream of [child.stdin, child.stdio[3]]) stream.on('error', () => {});
createInterface({ input: child.stderr }).on('line', (line) => {
  console.error(line);
  const version = /libavformat\s+(\d+)\.\s*(\d+)/.exec(line);
  if (version) say({ version: `ffmpeg, libavformat ${version[1]}.${version[2]}` });
});

let pictures = 0;
let sound = 0;
let connected = false;
createInterface({ input: child.stdout }).on('line', (line) => {
  const [key, value] = line.split('=');
  if (key !== 'frame') return;
  if (Number(value) > 0 && !connected) {
    connected = true; // the muxer's header, which is the whole handshake, comes before the first frame
    say({ state: 'connected' });
  }
});

function sendPicture() {
  const frame = Buffer.alloc((width * height * 3) / 2, 128);
  for (let y = 0; y < height; y++) frame.fill((y + pictures * 3) % 256, y * width, (y + 1) * width);
  pictures += 1;
  child.stdin.write(frame);
}

function sendSound() {
  const chunk = Buffer.alloc(CHUNK * 4);
  for (let n = 0; n < CHUNK; n++) {
    const sample = Math.round(8_000 * Math.sin((2 * Math.PI * 440 * (sound * CHUNK + n)) / 48_000));
    chunk.writeInt16LE(sample, n * 4);
    chunk.writeInt16LE(sample, n * 4 + 2);
  }
  sound += 1;
  child.stdio[3].write(chunk);
}

let running = true;
let clock = 0;
let last = Date.now();
setInterval(() => {
  const now = Date.now();
  const border = Math.ceil(clock / HOLD_MS) * HOLD_MS;
  clock = running ? clock + now - last : Math.min(clock + now - last, border);
  last = now;
  while ((pictures * 1_000) / fps < clock) sendPicture();
  while (sound * SOUND_MS < clock + SOUND_AHEAD_MS) sendSound();
}, TICK_MS);

obey({
  counts: () => ({ video: pictures, audio: sound }),
  hold: () => (running = false),
  run: () => (running = true),
  stop() {
    child.removeAllListeners('exit');
    child.kill('SIGINT'); // it sends the DELETE
    return Promise.race([new Promise((done) => child.on('exit', done)), new Promise((done) => setTimeout(done, 2_000))]);
  },
});
