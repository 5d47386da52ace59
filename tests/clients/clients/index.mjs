// The clients there are. README, "Adding one", says what an entry has to have.
import { join } from 'node:path';
import { HERE, ROOT, VENV } from '../lib/paths.mjs';
import { buildPion, buildStr0m } from '../lib/build.mjs';

const script = (name) => join(HERE, 'clients', name);
const node = (name, ...more) => [process.execPath, script(name), ...more];

const GSTREAMER = [
  'python3-gst-1.0',
  'gir1.2-gst-plugins-bad-1.0',
  'gstreamer1.0-plugins-base',
  'gstreamer1.0-plugins-good',
  'gstreamer1.0-plugins-bad',
  'gstreamer1.0-plugins-ugly',
  'gstreamer1.0-libav',
  'gstreamer1.0-nice',
];

/** Publishes for those who only receive, and receives from those who publish. */
export const PARTNER = 'chromium';

/**
 * - `publish`, `receive`: video codecs, in the order they are tried; sound (Opus) goes with the first.
 * - `raw`: it has no encoder and no decoder, frames come from and go to files.
 * - `apt`: Debian packages; `python`: needs the virtual environment; `build()`: what has to be compiled.
 * - `fast`: part of `make test-clients-fast`.
 */
export const CLIENTS = [
  {
    name: 'chromium',
    what: 'Chromium as Debian ships it',
    publish: ['vp8', 'h264', 'vp9', 'av1'],
    receive: ['vp8', 'h264', 'vp9', 'av1'],
    apt: ['chromium'],
    fast: true,
    command: node('browser.mjs', 'chromium'),
  },
  {
    name: 'firefox',
    what: 'Firefox ESR as Debian ships it (no H.264: its plug-in is downloaded)',
    publish: ['vp8', 'vp9', 'av1'],
    receive: ['vp8', 'vp9', 'av1'],
    apt: ['firefox-esr'],
    fast: true,
    command: node('browser.mjs', 'firefox'),
  },
  {
    name: 'gstreamer',
    what: "GStreamer's webrtcbin as Debian ships it, with its RSA-2048 certificate (no AV1 payloader)",
    publish: ['vp8', 'h264', 'vp9'],
    receive: ['vp8', 'h264', 'vp9'],
    apt: GSTREAMER,
    fast: true,
    command: ['/usr/bin/python3', script('gstreamer.py')],
  },
  {
    name: 'gstreamer-ecdsa',
    what: 'the same with a P-256 certificate, as GStreamer 1.28 makes it',
    publish: ['vp8', 'h264', 'vp9'],
    receive: ['vp8', 'h264', 'vp9'],
    apt: [...GSTREAMER, 'openssl'],
    command: ['/usr/bin/python3', script('gstreamer.py'), 'ecdsa'],
  },
  {
    name: 'aiortc',
    what: 'aiortc (Python)',
    publish: ['vp8', 'h264'],
    receive: ['vp8', 'h264'],
    fast: true,
    command: [join(VENV, 'bin/python'), script('aiortc_peer.py')],
  },
  {
    name: 'ffmpeg',
    what: "ffmpeg's WHIP muxer (it has no WHEP)",
    publish: ['h264'],
    receive: [],
    fast: true,
    command: node('ffmpeg.mjs'),
  },
  {
    name: 'werift',
    what: 'werift (TypeScript)',
    publish: ['vp8', 'h264', 'vp9'],
    receive: ['vp8', 'h264', 'vp9'],
    raw: true,
    command: node('werift.mjs'),
  },
  {
    name: 'libdatachannel',
    what: 'libdatachannel, through node-datachannel',
    publish: ['vp8', 'h264', 'vp9'],
    receive: ['vp8', 'h264', 'vp9'],
    raw: true,
    command: node('datachannel.mjs'),
  },
  {
    name: 'pion',
    what: 'Pion v3 (Go) as Debian ships it, with its default engine',
    publish: ['vp8', 'h264', 'vp9'],
    receive: ['vp8', 'h264', 'vp9'],
    apt: ['golang-go', 'golang-github-pion-webrtc.v3-dev'],
    raw: true,
    build: buildPion,
    command: [join(HERE, '.build/pion')],
  },
  {
    name: 'str0m',
    what: 'str0m (Rust)',
    publish: ['vp8', 'h264', 'vp9', 'av1'],
    receive: ['vp8', 'h264', 'vp9', 'av1'],
    raw: true,
    build: buildStr0m,
    command: [join(ROOT, 'target/debug/str0m-client')],
  },
];
