// @ts-check
/**
 * The media half of client.js: one RTCPeerConnection, its sections, one offer at a time, and the repair of its path.
 * It knows neither the WebSocket nor the room: what it has to say goes to its host, what the server says about offers
 * comes in through `answered` and `failed`.
 *
 * @typedef {import('./protocol.js').TrackInfo} TrackInfo
 * @typedef {import('./protocol.js').SectionResult} SectionResult
 * @typedef {import('./protocol.js').ClientMessage} ClientMessage
 * @typedef {Extract<import('./protocol.js').ServerMessage, {type: 'answer'}>} Answer
 * @typedef {import('./section.js').Section} Section
 *
 * What a `Media` needs of who owns it. `silent`: the server owes an answer for too long, or nothing
 * comes from it any more.
 * @typedef {{tell: (message: ClientMessage) => void, connectionState: (state: RTCPeerConnectionState) => void,
 *            problem: (error: ClientError) => void, end: (reason: string) => void, silent: () => void,
 *            codecOf: (track: string) => import('./protocol.js').CodecName | undefined, tellsOfKeyFrames: () => boolean}} Host
 *
 * What is to be sent or received with the next offer. `isWanted`: the page may let it go, and ask for the same anew.
 * @typedef {{role: 'send', kind: 'audio'|'video', media: MediaStreamTrack,
 *            options: import('./publication.js').PublishOptions}} Sending
 * @typedef {{role: 'receive', kind: 'audio'|'video', track: string, isWanted: () => boolean}} Receiving
 * @typedef {Sending | Receiving} Wish
 * @typedef {{wish: Wish, section?: Section, resolve: (value: any) => void, reject: (error: ClientError) => void}} Intent
 */
import { ClientError, clientError } from './errors.js';
import { Exchange } from './exchange.js';
import { free, giveBack, hasSeveralLayers, place, retire, tune } from './section.js';
import { askForLostSound } from './sound.js';
import { PathWatch } from './watchdog.js';

/** Offers that only say `inactive` wait this long for company: a leaving crowd costs one offer, not one each. */
const RETIRE_DELAY_MS = 1000;
/** A path that is `disconnected` this long is restarted without waiting for `failed`. */
const DISCONNECTED_MS = 3000;
/** ICE restarts in a row that did not help, after which the client gives up. */
const MAX_RESTARTS = 5;

/** The media of a stay in one room, as long as the server knows it: a resume keeps it, joining anew makes another. */
export class Media {
  /** @type {Host} */ #host;
  /** @type {RTCPeerConnection} */ #pc;
  /** Why there is no more of it, once that is so. @type {ClientError | undefined} */ #over;
  /** No offers are made while there is nobody to send them to. */ #suspended = false;
  /** @type {Section[]} */ #sections = [];
  /** @type {Intent[]} */ #intents = [];
  /** The offer that waits for its answer. @type {Exchange | undefined} */ #exchange;
  #requests = 0;
  /** Own tracks of the last resume, until it is known of each whether it is wanted. @type {string[]} */ #own = [];
  #negotiating = false;
  /** Something but an intent asks for an offer: a restart, a retired section. */
  #stale = false;
  #restarts = 0;
  #retireTimer = 0;
  #repairTimer = 0;
  /** @type {PathWatch} */ #watch;

  /** @param {Host} host */
  constructor(host) {
    this.#host = host;
    // The server is ICE-lite on a public address: neither STUN nor TURN servers are needed to reach it.
    const pc = new RTCPeerConnection({ bundlePolicy: 'max-bundle', rtcpMuxPolicy: 'require' });
    this.#pc = pc;
    pc.onconnectionstatechange = () => this.#onConnectionState(pc.connectionState);
    this.#watch = new PathWatch(pc, host.silent);
  }

  get peerConnection() {
    return this.#pc;
  }

  /** Publishes with the next offer; resolves to the track. @param {Omit<Sending, 'role'>} wish @returns {Promise<TrackInfo>} */
  send(wish) {
    return this.#intend({ role: 'send', ...wish });
  }

  /** Receives with the next offer. @param {Omit<Receiving, 'role'>} wish @returns {Promise<MediaStreamTrack>} */
  receive(wish) {
    return this.#intend({ role: 'receive', ...wish });
  }

  /** The section that a track goes through. @param {'send'|'receive'} role @param {string} track */
  section(role, track) {
    return this.#sections.find((s) => s.role === role && s.track === track && s.state === 'used');
  }

  /** The sections in use. */
  get sections() {
    return this.#sections.filter((s) => s.state === 'used');
  }

  /** Stops sending or receiving a track. @param {'send'|'receive'} role @param {string} track */
  stop(role, track) {
    this.#retire(this.section(role, track));
  }

  /** Looks for a new network path; media goes on meanwhile if the old one still works. */
  restartIce() {
    if (this.#over || !this.#pc.remoteDescription) return;
    this.#pc.restartIce();
    this.#stale = true;
    this.#negotiate();
  }

  /** The server's answer to an offer. @param {Answer} message */
  answered(message) {
    if (this.#exchange?.is(message.request)) this.#exchange.answered(message);
  }

  /** The server's error about an offer; true if it is dealt with. @param {number} request @param {ClientError} error */
  failed(request, error) {
    if (!this.#exchange?.is(request)) return false;
    return this.#exchange.failed(request, error);
  }

  /** The signalling is lost: offers wait. */
  suspend() {
    this.#suspended = true;
    this.#exchange?.suspend();
  }

  /**
   * The signalling is back, and the server still knows this client.
   * @param {{own: TrackInfo[], moved: boolean}} news `own`: what the server takes from us; `moved`: the path is doubtful
   */
  resume({ own, moved }) {
    this.#suspended = false;
    this.#own = own.map(({ id }) => id);
    if (!this.#negotiating) this.#takeBack(); // else once the answer is used that there may be
    const exchange = this.#exchange;
    exchange?.resume(() => {
      this.#takeBack();
      for (const { track } of exchange.message.subscribe) this.#host.tell({ type: 'unsubscribe', track });
    });
    for (const section of this.#sections) {
      section.wanted = null; // until the server says it again: what it said meanwhile may be lost
      tune(section);
    }
    if (moved || !['connected', 'new'].includes(this.#pc.connectionState)) this.restartIce();
    this.#negotiate();
  }

  /** @param {ClientError} error What promises that are open are told. */
  close(error) {
    this.#over = error;
    this.#watch.stop();
    clearTimeout(this.#retireTimer);
    clearTimeout(this.#repairTimer);
    this.#pc.close();
    this.#exchange?.reject(error);
    this.#own = [];
    for (const intent of this.#intents.splice(0)) intent.reject(error);
  }

  /** @param {RTCPeerConnectionState} state */
  #onConnectionState(state) {
    clearTimeout(this.#repairTimer);
    if (state === 'connected') this.#restarts = 0;
    if (state === 'disconnected') this.#repairLater(() => this.restartIce(), DISCONNECTED_MS);
    this.#host.connectionState(state);
    if (state !== 'failed') return;
    if (this.#suspended) return; // `resume` restarts it
    if (++this.#restarts > MAX_RESTARTS) {
      this.#host.end('The media connection failed');
    } else {
      this.restartIce();
    }
  }

  /** Unless the path's state changes, or this ends. @param {() => void} repair @param {number} time */
  #repairLater(repair, time) {
    clearTimeout(this.#repairTimer);
    this.#repairTimer = setTimeout(repair, time);
  }

  /** @param {Wish} wish @returns {Promise<any>} */
  #intend(wish) {
    if (this.#over) return Promise.reject(new ClientError('closed', 'Not in a room'));
    return new Promise((resolve, reject) => {
      this.#intents.push({ wish, resolve, reject });
      this.#negotiate();
    });
  }

  /** @param {Section | undefined} section */
  #retire(section) {
    if (!section || this.#over) return;
    retire(section, this.#sections);
    clearTimeout(this.#retireTimer);
    this.#retireTimer = setTimeout(() => {
      this.#stale ||= this.#sections.some((s) => s.state === 'retiring' || s.state === 'stopped'); // unless an offer went out meanwhile
      this.#negotiate();
    }, RETIRE_DELAY_MS);
  }

  /** What is taken from us without our knowing is of an offer whose answer was lost, or was unpublished without a connection. */
  #takeBack() {
    const known = new Set(this.#sections.map(({ track }) => track));
    for (const track of this.#own.splice(0)) if (!known.has(track)) this.#host.tell({ type: 'unpublish', track });
  }

  // ---- offers: one at a time ----

  async #negotiate() {
    if (this.#negotiating) return; // the loop below will see to it
    this.#negotiating = true;
    await null; // intents of one task share an offer
    while (!this.#over && !this.#suspended && (this.#intents.length > 0 || this.#stale)) {
      const wanted = this.#intents.splice(0).filter((intent) => this.#isWanted(intent));
      if (giveBack(this.#sections, wanted.map(({ wish }) => wish))) await this.#offerOnce([]);
      const batch = await this.#place(wanted);
      if (this.#over || (batch.length === 0 && !this.#stale)) continue;
      this.#stale = false;
      await this.#offerOnce(batch);
      this.#takeBack();
    }
    this.#negotiating = false;
    this.#takeBack();
  }

  /** @param {Intent} intent */
  #isWanted({ wish, reject }) {
    const isWanted = wish.role === 'send' || wish.isWanted();
    if (!isWanted) reject(new ClientError('refused', 'The track is gone'));
    return isWanted;
  }

  /** Those that have a section now. What the browser cannot do for one of them is not the others' fault. @param {Intent[]} batch */
  async #place(batch) {
    /** @type {Intent[]} */ const placed = [];
    for (const intent of batch) {
      try {
        intent.section = await place(this.#pc, this.#sections, intent.wish, (track) => this.#host.codecOf(track));
        placed.push(intent);
      } catch (error) {
        const failure = this.#over ?? clientError(error);
        intent.reject(failure);
        if (!this.#over && !(error instanceof ClientError)) this.#host.problem(failure);
      }
    }
    if (this.#over) for (const { reject } of placed) reject(this.#over);
    return placed;
  }

  /** @param {Intent[]} batch */
  async #offerOnce(batch) {
    const pc = this.#pc;
    try {
      const retired = this.#sections.filter((s) => s.state === 'retiring');
      const stopped = this.#sections.filter((s) => s.state === 'stopped');
      await pc.setLocalDescription();
      const sdp = askForLostSound(pc.localDescription?.sdp ?? '');
      const answer = await this.#ask(sdp, batch);
      await pc.setRemoteDescription({ type: 'answer', sdp: answer.sdp });
      for (const section of retired) section.state = 'free';
      this.#sections = this.#sections.filter((s) => !stopped.includes(s));
      for (const intent of batch) this.#settle(intent, answer.sections);
      for (const section of this.#sections) tune(section); // an answer may have switched layers on
    } catch (error) {
      await this.#undo(batch, error);
    }
  }

  /** Sends an offer and waits for the answer. @param {string} sdp @param {Intent[]} batch @returns {Promise<Answer>} */
  async #ask(sdp, batch) {
    /** @type {import('./protocol.js').Publish[]} */ const publish = [];
    /** @type {import('./protocol.js').Subscribe[]} */ const subscribe = [];
    for (const { wish, section } of batch) {
      const mid = section?.transceiver.mid ?? '';
      if (wish.role === 'send') publish.push({ mid, source: wish.options.source ?? 'other', ...(section && this.#keyFramesOf(section)) });
      else subscribe.push({ mid, track: wish.track });
    }
    const exchange = new Exchange({ sdp, publish, subscribe }, {
      tell: this.#host.tell,
      number: () => ++this.#requests,
      isHealthy: () => ['new', 'connecting', 'connected'].includes(this.#pc.connectionState),
      silent: this.#host.silent,
    });
    this.#exchange = exchange;
    if (!this.#suspended) exchange.send();
    try {
      return await exchange.answer;
    } finally {
      exchange.suspend();
      this.#exchange = undefined;
    }
  }

  /** Whether its encoder begins anew where key frames are needed: text on a screen would be blurred for a moment. @param {Section} section */
  #keyFramesOf(section) {
    const begins = this.#host.tellsOfKeyFrames() && hasSeveralLayers(section) && section.options.source !== 'screen';
    return begins ? { key_frames: true } : {};
  }

  /** @param {Intent} intent @param {SectionResult[]} results */
  #settle({ wish, section, resolve, reject }, results) {
    if (!section) return;
    const result = results.find((r) => r.mid === section.transceiver.mid);
    section.state = 'used';
    section.track = result?.track?.id;
    // A track that ended, or that the page let go, while its answer was on the way.
    const ended = section.transceiver.currentDirection === 'inactive';
    const unwanted = wish.role === 'receive' && !wish.isWanted();
    if (!result?.track || ended || unwanted) {
      if (result?.track && unwanted) this.#host.tell({ type: 'unsubscribe', track: wish.track });
      this.#retire(section);
      const words = wish.role === 'send' ? 'The room has ended it' : 'The track is gone';
      reject(new ClientError('refused', result?.reason ?? words));
    } else {
      resolve(wish.role === 'send' ? result.track : section.transceiver.receiver.track);
    }
  }

  /** The server refused the offer as a whole, or the browser could not make or use a description.
   *  @param {Intent[]} batch @param {unknown} error */
  async #undo(batch, error) {
    const failure = this.#over ?? clientError(error);
    for (const intent of batch) intent.reject(failure);
    if (this.#over) return;
    if (this.#pc.signalingState === 'have-local-offer') await this.#pc.setLocalDescription({ type: 'rollback' });
    for (const { section } of batch) {
      // One that no answer knows is kept for later: Chromium mixes up the mids after a transceiver that was stopped then.
      if (section?.transceiver.currentDirection) this.#retire(section);
      else if (section) free(section);
    }
    // A restart that got no answer leaves the path `failed` without another event.
    if (this.#pc.connectionState === 'failed') this.#repairLater(() => this.#onConnectionState('failed'), RETIRE_DELAY_MS);
    if (!(error instanceof ClientError)) this.#host.problem(failure);
  }
}
