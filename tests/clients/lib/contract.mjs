// The client's side of the contract (README), for clients that are JavaScript.
import { createInterface } from 'node:readline';
import { readFileSync } from 'node:fs';
import { ivfFrames, ivfWriter } from './ivf.mjs';

const REPORT_MS = 100;
const SOUND_MS = 20;

/** What the driver wants: direction, url, token, video, audio, width, height, fps, source, sink. */
export const options = JSON.parse(process.argv.at(-1));

export function say(message) {
  process.stdout.write(`${JSON.stringify(message)}\n`);
}

/** Reports `counts()`, which may be a promise, and obeys the driver. `stop` comes once; the process ends after it. */
export function obey({ counts, hold = () => {}, run = () => {}, stop = () => {} }) {
  let over = false;
  const end = async () => {
    if (over) return;
    over = true;
    await Promise.resolve(stop()).catch((error) => console.error(`stop: ${error}`));
    process.exit(0);
  };
  const words = { hold, run, stop: end };
  createInterface({ input: process.stdin })
    .on('line', (line) => words[line]?.())
    .on('close', end);
  const report = async () => {
    if (over) return;
    say(await counts());
    setTimeout(report, REPORT_MS);
  };
  void report();
}

/** Ends with the words as the reason. */
export function fail(error) {
  say({ error: String(error?.message ?? error) });
  console.error(error);
  process.exit(1);
}

process.on('unhandledRejection', fail);
process.on('uncaughtException', fail);

let resource;

/** Posts an offer to the endpoint and returns the answer. */
export async function post(offer) {
  const headers = { 'Content-Type': 'application/sdp', Authorization: `Bearer ${options.token}` };
  const response = await fetch(options.url, { method: 'POST', headers, body: offer });
  const text = await response.text();
  if (process.env.CLIENTS_SDP) console.error(`${offer}\n---- ${response.status}\n${text}`);
  if (response.status !== 201) throw new Error(`POST ${options.url}: ${response.status} ${text.trim()}`);
  resource = new URL(response.headers.get('location'), options.url);
  return text;
}

export async function leave() {
  if (resource) await fetch(resource, { method: 'DELETE', headers: { Authorization: `Bearer ${options.token}` } });
}

/** Frames of the driver's files, at their pace, to `send(kind, frame, at)`, `at` in seconds, as even as a clock's ticks. */
export function play(send) {
  const counts = { video: 0, audio: 0 };
  const started = Date.now();
  let running = true;
  const begin = (kind, file, step) => {
    const frames = ivfFrames(readFileSync(file));
    let [next, due] = [0, Date.now()];
    setInterval(() => {
      if (!running) due = Date.now();
      for (; running && Date.now() >= due; due += step) {
        send(kind, frames[next++ % frames.length], (due - started) / 1_000);
        counts[kind] += 1;
      }
    }, 5);
  };
  if (options.video) begin('video', options.source.video, 1_000 / options.fps);
  if (options.audio) begin('audio', options.source.audio, SOUND_MS);
  return { counts: () => counts, hold: () => (running = false), run: () => (running = true) };
}

/** Takes received frames for the driver to decode: `{counts, take(kind, frame)}`. */
export function record() {
  const counts = { video: 0, audio: 0 };
  const writers = {
    video: options.video && ivfWriter(options.sink.video, options.video, options),
    audio: options.audio && ivfWriter(options.sink.audio, 'opus', { width: 0, height: 0, fps: 50 }),
  };
  return {
    counts: () => counts,
    take(kind, frame) {
      writers[kind].write(frame);
      counts[kind] += 1;
    },
  };
}
