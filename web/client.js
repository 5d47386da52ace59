// @ts-check
/**
 * moonring's browser client. No dependencies, no build step: import this file from the server itself, or from npm.
 *
 * ```js
 * const client = new Client();
 * client.on('media', ({ track, media }) => {
 *   element.srcObject = new MediaStream([media]);
 *   client.watch(track.id, element); // the server sends the layer that is worth the element's size
 * });
 * await client.join({ url: 'wss://host:8080/ws', room: 'demo', token: 'moonring', autoSubscribe: true });
 * const camera = await client.publish(stream.getVideoTracks()[0], { source: 'camera', simulcast: true });
 * ```
 *
 * A `Client` is one stay in one room, until `leave()`, or until the server ends it. A lost connection does not end it: the
 * state becomes `reconnecting`, media goes on if it can, and the client goes on where it was or, when the server has
 * forgotten it, joins anew: `publish`ed tracks are published again, muted or not as they were, and tracks that are still
 * there are subscribed again (`media` brings the new MediaStreamTrack). What changed meanwhile comes as the ordinary events.
 * events.js lists the events, docs/client.md explains them with examples.
 */

/**
 * @typedef {import('./protocol.js').Participant} Participant
 * @typedef {import('./protocol.js').TrackInfo} TrackInfo
 * @typedef {import('./protocol.js').PauseReason} PauseReason
 * @typedef {import('./protocol.js').Rights} Rights
 * @typedef {import('./protocol.js').ServerMessage} ServerMessage
 * @typedef {import('./publication.js').PublishOptions} PublishOptions
 * @typedef {import('./events.js').State} State
 * @typedef {Extract<ServerMessage, {type: 'joined'}>} Joined
 *
 * - `url`: of a cluster, the addresses of several servers: where one is gone, the next is tried.
 * - `autoSubscribe`: true for every track, or a function that says which; they come as `media`.
 * - `giveUpAfterS`: a lost connection ends the stay after this many seconds; 300 unless given.
 * @typedef {{url: string | string[], room: string, token?: string, metadata?: any,
 *            autoSubscribe?: boolean | ((track: TrackInfo) => boolean), giveUpAfterS?: number}} JoinOptions
 */
import { ClientError, told } from './errors.js';
import { ClientEventTarget } from './events.js';
import { Media } from './media.js';
import { Publication } from './publication.js';
import { PERIOD_MS, Quality } from './quality.js';
import { Room } from './room.js';
import { tune } from './section.js';
import { Signal } from './signal.js';
import { Views } from './views.js';

export { ClientError, Publication };

/** The version of the protocol that this file speaks. */
export const PROTOCOL_VERSION = 1;

/** One stay in one room. */
export class Client extends ClientEventTarget {
  /** Our own id, once joined; another one after joining anew. */ id = '';
  /** @type {State} */ state = 'new';
  /** Our own tracks in the room. @readonly @type {Set<Publication>} */ publications = new Set();

  #room = new Room({
    emit: (name, detail) => {
      this.emit(name, detail);
      if (name === 'media') this.#views.refresh();
    },
    media: () => this.#media,
    tell: (message) => this.#signal?.tell(message),
  });
  /** @type {Signal | undefined} */ #signal;
  /** @type {Media | undefined} */ #media;
  #views = new Views((track, size) => this.#tellView(track, size));
  #quality = new Quality((client, quality) => this.emit('quality', { client, quality }));
  #qualityTimer = 0;
  #moved = false;
  /** What was said of own tracks that nobody here knows yet. @type {{track: string, tell: (to: Publication) => void}[]} */
  #early = [];
  /** @type {{resolve: (joined: Joined) => void, reject: (error: ClientError) => void} | undefined} */ #joining;
  #onPageHide = () => this.leave();

  /** What the room's policy says of us, see `attributes` of a Participant. @type {any} */ attributes = {};
  /** What we may do; the event `rights` says when it changes. @type {Rights} */
  rights = { publish: ['camera', 'microphone', 'screen', 'screen_audio', 'other'], subscribe: true, message: true };

  /** Everybody else in the room. @returns {ReadonlyMap<string, Participant>} */
  get clients() {
    return this.#room.clients;
  }

  /** Everything others publish. @returns {ReadonlyMap<string, TrackInfo>} */
  get tracks() {
    return this.#room.tracks;
  }

  /** The subscribed tracks that the server does not send for now, and why. @returns {ReadonlyMap<string, PauseReason>} */
  get paused() {
    return this.#room.paused;
  }

  /** How good the network is, 1 to 5: our own under our id, and of those we receive from. @returns {ReadonlyMap<string, number>} */
  get quality() {
    return this.#quality.grades;
  }

  /** The peer connection, for `getStats()`; another one after joining anew. */
  get peerConnection() {
    return this.#media?.peerConnection;
  }

  /** True while in the room with a connection; see also `state`. */
  get joined() {
    return this.state === 'joined';
  }

  /**
   * Enters a room. Rejects with the policy's reason (code `rejected`), or when there is no such server (code `lost`).
   * @param {JoinOptions} options
   * @returns {Promise<Joined>}
   */
  join({ url, room, token = '', metadata = null, autoSubscribe = false, giveUpAfterS }) {
    if (this.state !== 'new') return Promise.reject(new ClientError('out_of_order', 'This client was used already'));
    this.#room.autoSubscribe = typeof autoSubscribe === 'function' ? autoSubscribe : () => autoSubscribe;
    // Not async: what a page publishes when it is in shares the offer of what it receives.
    return new Promise((resolve, reject) => {
      const said = { room: told('room', room), token: told('token', token), metadata: told('metadata', metadata) };
      this.#joining = { resolve, reject };
      this.#setState('joining');
      if (this.state !== 'joining') return; // who heard of it has left
      this.#signal = new Signal(url, { type: 'join', ...said, protocol: PROTOCOL_VERSION }, {
        receive: (message) => this.#receive(message),
        reconnecting: (reason, moved) => this.#reconnecting(reason, moved),
        ended: (code, reason) => this.#close(code, reason),
      }, giveUpAfterS);
      addEventListener('pagehide', this.#onPageHide);
    });
  }

  /**
   * Publishes a local track. Rejects with the policy's reason (code `refused`).
   * @param {MediaStreamTrack} media
   * @param {PublishOptions & {muted?: boolean}} [options] `muted`: from the beginning
   * @returns {Promise<Publication>}
   */
  publish(media, { muted = !media.enabled, ...options } = {}) {
    if (!this.#isIn()) return Promise.reject(new ClientError('closed', 'Not in a room'));
    const publication = new Publication(media, options, {
      tell: (message) => this.#signal?.tell(message),
      media: () => this.#media,
      known: (p) => this.#repeatEarly(p),
      mutedByRoom: (p) => this.emit('muted_by_room', { publication: p, muted: p.mutedByRoom }),
      ended: (p, reason) => this.emit('publication_ended', { publication: p, reason }),
      forget: (p) => this.publications.delete(p),
    });
    publication.setMuted(muted);
    this.publications.add(publication);
    publication.start();
    return publication.published;
  }

  /**
   * Receives a track of somebody else. Asking twice gives the same track. Rejects with the policy's reason.
   * @param {string} track
   * @returns {Promise<MediaStreamTrack>}
   */
  subscribe(track) {
    if (!this.#isIn()) return Promise.reject(new ClientError('closed', 'Not in a room'));
    return this.#room.subscribe(track);
  }

  /** Stops receiving. @param {string} track */
  unsubscribe(track) {
    this.#room.unsubscribe(track);
    this.#views.forget(track);
  }

  /**
   * Says that a subscribed track is shown in an element, until `unwatch` or another `watch`: the server then sends the
   * layer that is worth the element's size, and nothing while it is out of sight.
   * @param {string} track @param {HTMLElement} element
   */
  watch(track, element) {
    this.#views.watch(track, element);
  }

  /** @param {HTMLElement} element */
  unwatch(element) {
    this.#views.unwatch(element);
  }

  /** The highest layer to receive, 0 the lowest; null for no limit. @param {string} track @param {number | null} [layer] */
  setLayer(track, layer = null) {
    this.#room.setLayer(track, told('layer', layer));
  }

  /** Sends a value to the room's policy (`on_message`); false if there is no connection, or too many wait to be sent. @param {any} value */
  send(value) {
    return Boolean(this.#signal?.tell({ type: 'message', value: told('value', value) }));
  }

  /** Says goodbye. The page's end (`pagehide`) does so by itself. */
  leave() {
    this.#close('left', 'You left');
  }

  /** The receiver of a subscribed track, for `getStats()`. @param {string} track */
  receiver(track) {
    return this.#media?.section('receive', track)?.transceiver.receiver;
  }

  /** Looks for a new network path; media goes on meanwhile if the old one still works. */
  restartIce() {
    this.#media?.restartIce();
  }

  /** Takes the connection up again on another WebSocket, for example after a change of networks that browsers don't tell. */
  reconnect() {
    this.#signal?.renew('Asked to');
  }

  // ---- signalling ----

  #isIn() {
    return this.state === 'joined' || this.state === 'reconnecting';
  }

  /** @param {State} state @param {string} [reason] */
  #setState(state, reason) {
    if (this.state === 'closed') return;
    this.state = state;
    this.emit('state', { state, reason });
  }

  /** @param {ServerMessage} message */
  #receive(message) {
    switch (message.type) {
      case 'joined':
        return this.#enter(message);
      case 'answer':
        return this.#media?.answered(message); // between the server and these files
      case 'restart_ice': // we go on at another address of the server's
        return this.restartIce();
      case 'error':
        if (message.request != null && this.#media?.failed(message.request, new ClientError(message.code, message.message))) return;
        break;
      case 'track_changed':
        if (message.track.client === this.id) this.#tellOwn(message.track.id, (own) => own.changed(message.track));
        break;
      case 'wanted_layers':
        this.#tellOwn(message.track, (own) => own.want(message.layers));
        break;
      case 'key_frame':
        this.#tellOwn(message.track, (own) => own.beginAnew());
        break;
      case 'track_unpublished':
        this.#views.forget(message.track);
        this.#tellOwn(message.track, (own) => own.refused(new ClientError('refused', message.reason ?? 'The room has ended it')));
        break;
      case 'unsubscribed':
        if (this.#room.renew(message.track)) return this.#views.repeat();
        this.#views.forget(message.track);
        break;
      case 'client_changed':
        if (message.client === this.id) this.attributes = message.attributes;
        break;
      case 'rights':
        this.rights = { publish: message.publish, subscribe: message.subscribe, message: message.message };
        break;
    }
    this.#room.hear(message, this.id);
    this.emit(/** @type {any} */ (message.type), message);
    if (this.#isIn()) this.#room.heard(message, this.id);
  }

  /** Says something of an own track; later, while the answer that makes it known is awaited or just being used.
   *  @param {string} track @param {(to: Publication) => void} tell */
  #tellOwn(track, tell) {
    const publications = [...this.publications];
    const known = publications.find(({ id }) => id === track);
    if (known) tell(known);
    else if (publications.some(({ id }) => !id) && !this.tracks.has(track)) this.#early.push({ track, tell });
  }

  /** @param {Publication} publication which was just published */
  #repeatEarly(publication) {
    for (const { track, tell } of this.#early) if (track === publication.id) tell(publication);
    if ([...this.publications].every(({ id }) => id)) this.#early = []; // the rest is of tracks that we have ended
  }

  /** @param {Joined} joined */
  #enter(joined) {
    const isFirst = this.state === 'joining';
    const before = { attributes: this.attributes, rights: this.rights };
    this.id = joined.client;
    this.attributes = joined.attributes ?? {};
    this.rights = joined.rights ?? this.rights;
    const resumed = Boolean(joined.resumed) && this.#media !== undefined;
    this.#early = [];
    const changes = this.#room.update(joined);
    if (isChanged(before.attributes, this.attributes)) changes.fresh.push({ type: 'client_changed', client: this.id, attributes: this.attributes });
    if (isChanged(before.rights, this.rights)) changes.fresh.push({ type: 'rights', ...this.rights });
    if (!resumed) this.#beginMedia();
    // What the page publishes or asks for from here on, while it is told, begins by itself.
    const [publications, subscriptions] = [[...this.publications], this.#room.subscriptions];
    this.#views.repeat();
    for (const gone of changes.gone) {
      if (gone.type === 'track_unpublished') this.#views.forget(gone.track);
      this.emit(/** @type {any} */ (gone.type), gone);
    }
    if (!this.#isIn() && !isFirst) return; // who heard of it has left
    this.#setState('joined');
    this.emit('joined', joined);
    this.#joining?.resolve(joined);
    this.#joining = undefined;
    if (!isFirst) for (const fresh of changes.fresh) this.emit(/** @type {any} */ (fresh.type), fresh);
    if (!this.#isIn()) return;
    if (resumed) {
      this.#takeUp(joined.own);
      this.#room.resume(changes.fresh, this.id);
    } else {
      this.#room.restart(this.rights.subscribe, subscriptions);
      for (const publication of publications) if (this.publications.has(publication)) publication.start();
    }
    this.#moved = false;
  }

  #beginMedia() {
    this.#media?.close(new ClientError('reconnecting', 'The connection was lost'));
    this.#media = new Media({
      tell: (message) => this.#signal?.tell(message),
      connectionState: (state) => this.emit('connection_state', { state }),
      problem: (error) => this.emit('browser_error', { error }),
      end: (reason) => this.#close('media', reason),
      silent: () => this.#signal?.renew('Nothing comes from the server'),
      codecOf: (track) => this.tracks.get(track)?.codec,
      tellsOfKeyFrames: () => Boolean(this.#signal?.tellsOfKeyFrames),
    });
    clearInterval(this.#qualityTimer);
    this.#qualityTimer = setInterval(() => this.#look(), PERIOD_MS);
  }

  /** The server has kept us: what it takes from us may have changed meanwhile. @param {TrackInfo[]} own */
  #takeUp(own) {
    const known = [...this.publications].map(({ id }) => id);
    for (const publication of [...this.publications]) {
      if (!publication.id) continue; // its answer is not used yet
      const info = own.find(({ id }) => id === publication.id);
      if (info) publication.reconcile(info);
      else publication.refused(new ClientError('refused', 'The room has ended it'));
    }
    for (const info of own) if (!known.includes(info.id)) this.#tellOwn(info.id, (to) => to.changed(info));
    this.#media?.resume({ own, moved: this.#moved });
  }

  /** @param {string} reason @param {boolean} moved */
  #reconnecting(reason, moved) {
    this.#moved = moved;
    this.#media?.suspend();
    this.#setState('reconnecting', reason);
  }

  /** @param {string} track @param {{width: number, height: number}} size */
  #tellView(track, size) {
    if (!this.#signal?.up || !this.#media?.section('receive', track)) return false;
    this.#signal.tell({ type: 'view', track, ...size });
    return true;
  }

  /** Looks at how the network does, and at whether a picture's size has changed. */
  async #look() {
    const media = this.#media;
    if (!media) return;
    for (const section of media.sections) tune(section);
    const report = await media.peerConnection.getStats();
    if (media !== this.#media) return;
    const publishers = new Map(media.sections.map((s) => [s.transceiver.receiver.track.id, this.tracks.get(s.track ?? '')?.client]));
    const publisherOf = (/** @type {string} */ id) => publishers.get(id);
    const connected = media.peerConnection.connectionState === 'connected' || media.sections.length === 0;
    this.#quality.read(report, { id: this.id, publisherOf, starved: this.#room.starved(), connected });
  }

  /** @param {import('./errors.js').ClientErrorCode} code @param {string} reason */
  #close(code, reason) {
    if (this.state === 'closed') return;
    this.#signal?.close();
    removeEventListener('pagehide', this.#onPageHide);
    clearInterval(this.#qualityTimer);
    const error = new ClientError(code, reason);
    this.#views.close();
    this.#media?.close(error);
    for (const publication of this.publications) publication.close(error);
    this.#room.close(error);
    this.#joining?.reject(error);
    this.#setState('closed', reason);
    this.emit('closed', { reason, code });
    this.emit = () => {}; // it was the last one, whatever is still under way
  }
}

/** @param {any} before @param {any} now */
const isChanged = (before, now) => JSON.stringify(before) !== JSON.stringify(now);
