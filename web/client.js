// @ts-check
/**
 * moonring's browser client: the signalling protocol (src/signal/message.rs) over one WebSocket; media.js beside it has
 * the one RTCPeerConnection that goes with it. No dependencies, no build step.
 *
 * ```js
 * const client = new Client();
 * client.addEventListener('track_published', async ({ detail }) => {
 *   video.srcObject = new MediaStream([await client.subscribe(detail.track.id)]);
 * });
 * const { tracks } = await client.join({ url: 'wss://host:8080/ws', room: 'demo', token: 'moonring' });
 * await client.publish(camera.getVideoTracks()[0], { source: 'camera' });
 * ```
 *
 * A `Client` serves one stay in one room. It never reconnects by itself: on `closed`, make a new one if the page
 * wants to come back. It does repair the media path (ICE restart) while the WebSocket lives.
 *
 * Events are `CustomEvent`s. Each message of the server is an event named after its `type`, with the message as
 * `detail`: `joined`, `rejected`, `connected`, `client_joined`, `client_left`, `track_published`, `track_changed`,
 * `track_unpublished`, `active_speakers`, `message`, `kicked`, `error`. Of the client's own:
 * - `connection_state`: `{state}`, the RTCPeerConnection's connectionState;
 * - `muted_by_room`: `{track, muted}`, the room's policy mutes an own track, or does so no more (see `mutedByRoom`);
 * - `closed`: `{reason}`, once, whatever ended the stay.
 *
 * @typedef {{client: string, metadata: any}} Participant
 * @typedef {'camera'|'microphone'|'screen'|'screen_audio'|'other'} Source
 * @typedef {{id: string, client: string, kind: 'audio'|'video', source: Source, codec: string, layers: number,
 *            muted: boolean}} TrackInfo
 * @typedef {{client: string, room: string, clients: Participant[], tracks: TrackInfo[], protocol: number}} Joined
 * @typedef {{source?: Source, simulcast?: boolean, maxBitrate?: number}} PublishOptions
 *
 * What is known of an own track. `wish`: we muted it. `muted`: the server says it is.
 * @typedef {{wish: boolean, muted: boolean, timer: number}} Own
 */
import { ClientError, Media } from './media.js';

export { ClientError };

/** The version of the protocol that this file speaks. */
export const PROTOCOL_VERSION = 1;

/** The server only says that a track is muted, not by whom: this long it may still be the echo of our own wish. */
const ECHO_MS = 300;

/** One stay in one room. */
export class Client extends EventTarget {
  /** Our own id, once joined. @type {string} */
  id = '';
  /** Everybody else in the room. @type {Map<string, Participant>} */
  clients = new Map();
  /** Everything others publish. @type {Map<string, TrackInfo>} */
  tracks = new Map();
  /** The own tracks that the room's policy mutes, whatever we say. @type {Set<string>} */
  mutedByRoom = new Set();

  /** @type {WebSocket | undefined} */ #socket;
  /** @type {Media | undefined} */ #media;
  /** @type {'new'|'joining'|'joined'|'closed'} */ #state = 'new';
  /** @type {{resolve: (joined: Joined) => void, reject: (error: ClientError) => void} | undefined} */ #joining;
  /** @type {Map<string, Promise<MediaStreamTrack>>} */ #subscriptions = new Map();
  /** @type {Map<string, Own>} */ #own = new Map();
  /** Why the server ended it, if it said so. @type {string | undefined} */ #farewell;

  /** The peer connection, for `getStats()`. */
  get peerConnection() {
    return this.#media?.peerConnection;
  }

  /** True between `joined` and `closed`. */
  get joined() {
    return this.#state === 'joined';
  }

  /**
   * Enters a room. Rejects with the policy's reason (code `rejected`).
   * @param {{url: string, room: string, token?: string, metadata?: any}} options
   * @returns {Promise<Joined>}
   */
  join({ url, room, token = '', metadata = null }) {
    if (this.#state !== 'new') return Promise.reject(new ClientError('out_of_order', 'This client was used already'));
    this.#state = 'joining';
    return new Promise((resolve, reject) => {
      this.#joining = { resolve, reject };
      const socket = new WebSocket(url);
      this.#socket = socket;
      socket.onopen = () => this.#tell({ type: 'join', room, token, metadata, protocol: PROTOCOL_VERSION });
      socket.onmessage = ({ data }) => this.#receive(JSON.parse(data));
      socket.onclose = ({ code, reason }) =>
        this.#close(reason || (code === 1006 ? 'The connection to the server was lost' : 'The server closed'));
    });
  }

  /**
   * Publishes a local track; resolves to the server's id of it. Rejects with the policy's reason (code `refused`).
   * @param {MediaStreamTrack} media
   * @param {PublishOptions} [options]
   * @returns {Promise<string>}
   */
  async publish(media, options = {}) {
    const track = await this.#intend({ role: 'send', kind: media.kind, media, options });
    this.#judge(track.id, this.#known(track)); // the policy may have muted it at once
    return track.id;
  }

  /** Stops publishing. @param {string} track */
  unpublish(track) {
    this.#tell({ type: 'unpublish', track });
    this.#disown(track);
  }

  /**
   * Receives a track of somebody else. Asking twice gives the same track. Rejects with the policy's reason.
   * @param {string} track
   * @returns {Promise<MediaStreamTrack>}
   */
  subscribe(track) {
    const running = this.#subscriptions.get(track);
    if (running) return running;
    const info = this.tracks.get(track);
    if (!info) return Promise.reject(new ClientError('unknown_track', `There is no track ${track}`));
    const promise = this.#intend({ role: 'receive', kind: info.kind, track, options: {} });
    this.#subscriptions.set(track, promise);
    promise.catch(() => this.#subscriptions.delete(track));
    return promise;
  }

  /** Stops receiving. @param {string} track */
  unsubscribe(track) {
    if (this.#subscriptions.delete(track)) this.#tell({ type: 'unsubscribe', track });
    this.#media?.stop('receive', track);
  }

  /** Mutes or unmutes an own track, here and in everybody's picture of us. @param {string} track @param {boolean} muted */
  setMuted(track, muted) {
    const media = this.sender(track)?.track;
    if (media) media.enabled = !muted;
    this.#tell({ type: 'mute', track, muted });
    const own = this.#own.get(track);
    if (!own) return;
    own.wish = muted;
    this.#judge(track, own);
  }

  /** Puts other media into a published track, without an offer. @param {string} track @param {MediaStreamTrack} media */
  async replace(track, media) {
    await this.sender(track)?.replaceTrack(media);
  }

  /** The highest simulcast layer to receive, 0 the lowest; null for no limit. @param {string} track @param {number | null} layer */
  setLayer(track, layer) {
    this.#tell({ type: 'layer', track, layer });
  }

  /** Sends a value to the room's policy (`on_message`). @param {any} value */
  send(value) {
    this.#tell({ type: 'message', value });
  }

  /** Says goodbye. */
  leave() {
    if (this.#state === 'joined') this.#tell({ type: 'leave' });
    this.#close('You left');
  }

  /** The receiver of a subscribed track, for `getStats()`. @param {string} track */
  receiver(track) {
    return this.#media?.section('receive', track)?.transceiver.receiver;
  }

  /** The sender of a published track, for `getStats()`. @param {string} track */
  sender(track) {
    return this.#media?.section('send', track)?.transceiver.sender;
  }

  /** Looks for a new network path; media goes on meanwhile if the old one still works. */
  restartIce() {
    this.#media?.restartIce();
  }

  // ---- signalling ----

  /** @param {Parameters<Media['intend']>[0]} intent @returns {Promise<any>} */
  #intend(intent) {
    return this.#media?.intend(intent) ?? Promise.reject(new ClientError('closed', 'Not in a room'));
  }

  /** @param {object} message */
  #tell(message) {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(message));
  }

  /** @param {any} message */
  #receive(message) {
    switch (message.type) {
      case 'joined':
        this.#enter(message);
        break;
      case 'rejected':
        this.#farewell = message.reason;
        this.#joining?.reject(new ClientError('rejected', message.reason));
        break;
      case 'answer':
        this.#media?.answered(message);
        return; // between the server and these files
      case 'error': {
        const error = new ClientError(message.code, message.message);
        if (message.request !== undefined) this.#media?.failed(message.request, error);
        if (this.#state === 'joining') this.#joining?.reject(error);
        break;
      }
      case 'client_joined':
        this.clients.set(message.client, { client: message.client, metadata: message.metadata });
        break;
      case 'client_left':
        this.clients.delete(message.client);
        break;
      case 'track_published':
      case 'track_changed':
        if (message.track.client === this.id) this.#changed(message.track);
        else this.tracks.set(message.track.id, message.track);
        break;
      case 'track_unpublished':
        this.tracks.delete(message.track);
        this.#subscriptions.delete(message.track);
        this.#media?.stop('receive', message.track);
        this.#disown(message.track); // the server's doing
        break;
      case 'kicked':
        this.#farewell = message.reason;
        break;
    }
    this.#emit(message.type, message);
  }

  /** @param {Joined} joined */
  #enter(joined) {
    this.#state = 'joined';
    this.id = joined.client;
    for (const participant of joined.clients) this.clients.set(participant.client, participant);
    for (const track of joined.tracks) this.tracks.set(track.id, track);
    this.#media = new Media({
      tell: (message) => this.#tell(message),
      emit: (name, detail) => this.#emit(name, detail),
      end: (reason) => this.#close(reason),
      codecOf: (track) => this.tracks.get(track)?.codec,
      wants: (track) => this.tracks.has(track) && this.#subscriptions.has(track),
    });
    this.#joining?.resolve(joined);
  }

  /** @param {string} name @param {any} detail */
  #emit(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }

  /** @param {string} reason */
  #close(reason) {
    if (this.#state === 'closed') return;
    this.#state = 'closed';
    const error = new ClientError('closed', this.#farewell ?? reason);
    for (const { timer } of this.#own.values()) clearTimeout(timer);
    this.#socket?.close();
    this.#media?.close(error);
    this.#joining?.reject(error);
    this.#emit('closed', { reason: error.message });
  }

  // ---- own tracks ----

  /** @param {TrackInfo} track @returns {Own} */
  #known(track) {
    const own = this.#own.get(track.id) ?? { wish: false, muted: track.muted, timer: 0 };
    this.#own.set(track.id, own);
    return own;
  }

  /** @param {TrackInfo} track */
  #changed(track) {
    const own = this.#known(track);
    own.muted = track.muted;
    this.#judge(track.id, own);
  }

  /** Says who mutes a track, once that can be told. @param {string} track @param {Own} own */
  #judge(track, own) {
    clearTimeout(own.timer);
    own.timer = setTimeout(() => {
      const { muted } = own;
      if (muted === this.mutedByRoom.has(track) || (muted && own.wish)) return; // muted by both looks like by us
      if (muted) this.mutedByRoom.add(track);
      else this.mutedByRoom.delete(track);
      this.#emit('muted_by_room', { track, muted });
    }, ECHO_MS);
  }

  /** @param {string} track */
  #disown(track) {
    clearTimeout(this.#own.get(track)?.timer);
    this.#own.delete(track);
    this.mutedByRoom.delete(track);
    this.#media?.stop('send', track);
  }
}
