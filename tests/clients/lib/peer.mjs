// A foreign client as a child process. What it is told and what it says is in the README, "The contract".
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';

const STOP_MS = 5_000;
const LOG_LINES = 400;

export class Peer {
  /** Starts `command` with `options` as its last argument, in `namespace`. */
  constructor(label, command, options, { namespace, env }) {
    this.label = label;
    this.counts = { video: 0, audio: 0 };
    /** Of the pictures received since `run`: the smallest height, where the client tells. @type {number | undefined} */
    this.lowest = undefined;
    this.reports = 0;
    this.connected = false;
    this.version = undefined;
    this.log = [];
    const argv = ['netns', 'exec', namespace, ...command, JSON.stringify(options)];
    const stdio = ['pipe', 'pipe', 'pipe'];
    this.child = spawn('ip', argv, { stdio, detached: true, env: { ...process.env, ...env } });
    this.ended = undefined;
    this.exited = new Promise((done) => {
      this.child.on('error', (error) => done((this.ended = `cannot be started: ${error.message}`)));
      this.child.on('exit', (code, signal) => done((this.ended = `ended by itself (${signal ?? code})`)));
    });
    this.child.stdin.on('error', () => {}); // it may have ended; `ended` says so
    createInterface({ input: this.child.stdout }).on('line', (line) => this.#heard(line));
    createInterface({ input: this.child.stderr }).on('line', (line) => this.#keep(line));
  }

  #heard(line) {
    let message;
    try {
      message = JSON.parse(line);
    } catch {
      return this.#keep(line);
    }
    if (message.version) this.version = message.version;
    if (message.state === 'connected') this.connected = true;
    if (message.error) this.failed = message.error;
    if (Number.isInteger(message.video ?? message.audio)) this.reports += 1;
    if (Number.isInteger(message.lowest)) this.lowest = message.lowest;
    for (const kind of ['video', 'audio']) if (Number.isInteger(message[kind])) this.counts[kind] = message[kind];
  }

  #keep(line) {
    this.log.push(line);
    if (this.log.length > LOG_LINES) this.log.shift();
  }

  say(word) {
    this.child.stdin.write(`${word}\n`);
  }

  /** Waits until `check()` is true; fails with `what` at the deadline, or at once when the process has ended. */
  async until(what, check, patience) {
    for (const end = Date.now() + patience; ; await sleep(50)) {
      if (check()) return;
      this.check();
      if (Date.now() >= end) throw new PeerError(`${this.label}: ${what}: not within ${patience / 1_000} s`);
    }
  }

  /** Fails when the client has, or has ended. */
  check() {
    const why = this.failed ?? this.ended;
    if (why) throw new PeerError(`${this.label}: ${why}`);
  }

  /** Says stop, and ends the process group if that does not help. */
  async stop() {
    if (this.ended === undefined) {
      this.say('stop');
      await Promise.race([this.exited, sleep(STOP_MS)]);
    }
    try {
      process.kill(-this.child.pid, 'SIGKILL');
    } catch {
      // The whole group has ended.
    }
  }
}

/** A client failed: a cell's result, not a fault of the driver. */
export class PeerError extends Error {}
