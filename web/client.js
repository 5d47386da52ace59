// @ts-check
/**
 * moonring's browser client: the signalling protocol (src/signal/message.rs) over one WebSocket, and the one
 * RTCPeerConnection that goes with it. No dependencies, no build step.
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
 * - `closed`: `{reason}`, once, whatever ended the stay.
 *
 * @typedef {{client: string, metadata: any}} Participant
 * @typedef {'camera'|'microphone'|'screen'|'screen_audio'|'other'} Source
 * @typedef {{id: string, client: string, kind: 'audio'|'video', source: Source, codec: string, layers: number,
 *            muted: boolean}} TrackInfo
 * @typedef {{client: string, room: string, clients: Participant[], tracks: TrackInfo[], protocol: number}} Joined
 * @typedef {{mid: string, track?: TrackInfo, reason?: string}} SectionResult
 * @typedef {{source?: Source, simulcast?: boolean, maxBitrate?: number}} PublishOptions
 *
 * A media section and what it is used for. `fresh`: no answer has confirmed it. `used`. `retiring`: stopped, the
 * next offer says `inactive`. `free`: an answer has confirmed that, so it can be used again.
 * @typedef {{transceiver: RTCRtpTransceiver, role: 'send'|'receive', kind: string,
 *            state: 'fresh'|'used'|'retiring'|'free', simulcast: boolean, track?: string}} Section
 *
 * A publish or subscribe that waits for an answer.
 * @typedef {{role: 'send'|'receive', kind: string, media?: MediaStreamTrack, track?: string, options: PublishOptions,
 *            section?: Section, resolve: (value: any) => void, reject: (error: ClientError) => void}} Intent
 */

/** The version of the protocol that this file speaks. */
export const PROTOCOL_VERSION = 1;

/** The layers of a simulcast, lowest first, as the server counts them. */
const SIMULCAST = [
  { rid: 'q', scaleResolutionDownBy: 4, maxBitrate: 150_000 },
  { rid: 'h', scaleResolutionDownBy: 2, maxBitrate: 500_000 },
  { rid: 'f', scaleResolutionDownBy: 1, maxBitrate: 2_500_000 },
];
/** Offers that only say `inactive` wait this long for company: a leaving crowd costs one offer, not one each. */
const RETIRE_DELAY_MS = 1000;
/** A path that is `disconnected` this long is restarted without waiting for `failed`. */
const DISCONNECTED_MS = 3000;
/** ICE restarts in a row that did not help, after which the client gives up. */
const MAX_RESTARTS = 5;

/**
 * What a rejected promise of this module carries. `code`: `rejected` (the room's policy did not let us in), `refused`
 * (it did not let us publish or subscribe; the message is its reason), `closed`, or an error code of the server.
 */
export class ClientError extends Error {
  /** @param {string} code @param {string} message */
  constructor(code, message) {
    super(message);
    this.name = 'ClientError';
    this.code = code;
  }
}

/** One stay in one room. */
export class Client extends EventTarget {
  /** Our own id, once joined. @type {string} */
  id = '';
  /** Everybody else in the room. @type {Map<string, Participant>} */
  clients = new Map();
  /** Everything others publish. @type {Map<string, TrackInfo>} */
  tracks = new Map();

  /** @type {WebSocket | undefined} */ #socket;
  /** @type {RTCPeerConnection | undefined} */ #pc;
  /** @type {'new'|'joining'|'joined'|'closed'} */ #state = 'new';
  /** @type {{resolve: (joined: Joined) => void, reject: (error: ClientError) => void} | undefined} */ #joining;
  /** @type {Section[]} */ #sections = [];
  /** @type {Intent[]} */ #intents = [];
  /** @type {Map<string, Promise<MediaStreamTrack>>} */ #subscriptions = new Map();
  /** The offer that waits for its answer. @type {{request: number, resolve: (answer: any) => void,
   *  reject: (error: ClientError) => void} | undefined} */ #offer;
  #requests = 0;
  #negotiating = false;
  /** Something but an intent asks for an offer: a restart, a retired section. */
  #stale = false;
  #restarts = 0;
  #retireTimer = 0;
  #disconnectTimer = 0;
  /** Why the server ended it, if it said so. @type {string | undefined} */ #farewell;
  #onNetworkChange = () => this.restartIce();

  /** The peer connection, for `getStats()`. */
  get peerConnection() {
    return this.#pc;
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
  publish(media, options = {}) {
    return this.#intend({ role: 'send', kind: media.kind, media, options });
  }

  /** Stops publishing. @param {string} track */
  unpublish(track) {
    this.#tell({ type: 'unpublish', track });
    this.#retire(this.#section('send', track));
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
    this.#retire(this.#section('receive', track));
  }

  /** Mutes or unmutes an own track, here and in everybody's picture of us. @param {string} track @param {boolean} muted */
  setMuted(track, muted) {
    const media = this.#section('send', track)?.transceiver.sender.track;
    if (media) media.enabled = !muted;
    this.#tell({ type: 'mute', track, muted });
  }

  /** Puts other media into a published track, without an offer. @param {string} track @param {MediaStreamTrack} media */
  async replace(track, media) {
    await this.#section('send', track)?.transceiver.sender.replaceTrack(media);
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
    return this.#section('receive', track)?.transceiver.receiver;
  }

  /** The sender of a published track, for `getStats()`. @param {string} track */
  sender(track) {
    return this.#section('send', track)?.transceiver.sender;
  }

  /** Looks for a new network path; media goes on meanwhile if the old one still works. */
  restartIce() {
    if (this.#state !== 'joined' || !this.#pc?.remoteDescription) return;
    this.#pc.restartIce();
    this.#stale = true;
    this.#negotiate();
  }

  // ---- signalling ----

  /** @param {object} message */
  #tell(message) {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(message));
  }

  /** @param {any} message */
  #receive(message) {
    switch (message.type) {
      case 'joined':
        this.#state = 'joined';
        this.id = message.client;
        for (const participant of message.clients) this.clients.set(participant.client, participant);
        for (const track of message.tracks) this.tracks.set(track.id, track);
        this.#connect();
        this.#joining?.resolve(message);
        break;
      case 'rejected':
        this.#farewell = message.reason;
        this.#joining?.reject(new ClientError('rejected', message.reason));
        break;
      case 'answer':
        if (this.#offer?.request === message.request) this.#offer.resolve(message);
        return; // between the server and this file
      case 'error':
        if (message.request !== undefined && this.#offer?.request === message.request) {
          this.#offer.reject(new ClientError(message.code, message.message));
        }
        if (this.#state === 'joining') this.#joining?.reject(new ClientError(message.code, message.message));
        break;
      case 'client_joined':
        this.clients.set(message.client, { client: message.client, metadata: message.metadata });
        break;
      case 'client_left':
        this.clients.delete(message.client);
        break;
      case 'track_published':
      case 'track_changed':
        if (message.track.client !== this.id) this.tracks.set(message.track.id, message.track);
        break;
      case 'track_unpublished':
        this.tracks.delete(message.track);
        this.#subscriptions.delete(message.track);
        this.#retire(this.#section('receive', message.track));
        this.#retire(this.#section('send', message.track)); // the policy's doing
        break;
      case 'kicked':
        this.#farewell = message.reason;
        break;
    }
    this.#emit(message.type, message);
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
    removeEventListener('online', this.#onNetworkChange);
    clearTimeout(this.#retireTimer);
    clearTimeout(this.#disconnectTimer);
    this.#socket?.close();
    this.#pc?.close();
    this.#joining?.reject(error);
    this.#offer?.reject(error);
    for (const intent of this.#intents.splice(0)) intent.reject(error);
    this.#emit('closed', { reason: error.message });
  }

  // ---- media sections ----

  #connect() {
    // The server is ICE-lite on a public address: neither STUN nor TURN servers are needed to reach it.
    const pc = new RTCPeerConnection({ bundlePolicy: 'max-bundle', rtcpMuxPolicy: 'require' });
    this.#pc = pc;
    pc.onconnectionstatechange = () => this.#onConnectionState(pc.connectionState);
    addEventListener('online', this.#onNetworkChange);
  }

  /** @param {RTCPeerConnectionState} state */
  #onConnectionState(state) {
    clearTimeout(this.#disconnectTimer);
    if (state === 'connected') this.#restarts = 0;
    if (state === 'disconnected') this.#disconnectTimer = setTimeout(() => this.restartIce(), DISCONNECTED_MS);
    this.#emit('connection_state', { state });
    if (state !== 'failed') return;
    if (++this.#restarts > MAX_RESTARTS) {
      this.#close('The media connection failed');
    } else {
      this.restartIce();
    }
  }

  /** @param {'send'|'receive'} role @param {string} track */
  #section(role, track) {
    return this.#sections.find((s) => s.role === role && s.track === track && s.state === 'used');
  }

  /** @param {Omit<Intent, 'resolve'|'reject'>} intent @returns {Promise<any>} */
  #intend(intent) {
    if (this.#state !== 'joined') return Promise.reject(new ClientError('closed', 'Not in a room'));
    return new Promise((resolve, reject) => {
      this.#intents.push({ ...intent, resolve, reject });
      this.#negotiate();
    });
  }

  /** Gives an intent a section: a free one if it fits, else a new one. @param {Intent} intent @returns {Section} */
  #place(intent) {
    const pc = /** @type {RTCPeerConnection} */ (this.#pc);
    const { role, kind, media, options } = intent;
    const direction = role === 'send' ? 'sendonly' : 'recvonly';
    const simulcast = Boolean(options.simulcast) && kind === 'video';
    // The number of encodings is fixed when a transceiver is made, so simulcast always gets a new one.
    let section = this.#sections.find(
      (s) => s.state === 'free' && s.role === role && s.kind === kind && !s.simulcast && !simulcast,
    );
    if (section) {
      section.transceiver.direction = direction;
    } else {
      const encodings = simulcast ? SIMULCAST.map((layer) => ({ ...layer })) : [{}];
      const init = role === 'send' ? { direction, sendEncodings: encodings } : { direction };
      const transceiver = pc.addTransceiver(kind, /** @type {RTCRtpTransceiverInit} */ (init));
      section = { transceiver, role, kind, state: 'fresh', simulcast };
      this.#sections.push(section);
    }
    section.state = 'fresh';
    if (role === 'receive') narrowCodecs(section.transceiver, kind, this.tracks.get(intent.track ?? '')?.codec);
    return section;
  }

  /** @param {Section | undefined} section */
  #retire(section) {
    if (!section || this.#state === 'closed') return;
    section.state = 'retiring';
    section.track = undefined;
    section.transceiver.direction = 'inactive';
    if (section.role === 'send') section.transceiver.sender.replaceTrack(null).catch(() => {});
    clearTimeout(this.#retireTimer);
    this.#retireTimer = setTimeout(() => {
      this.#stale = this.#sections.some((s) => s.state === 'retiring'); // unless an offer went out meanwhile
      this.#negotiate();
    }, RETIRE_DELAY_MS);
  }

  // ---- offers: one at a time ----

  async #negotiate() {
    if (this.#negotiating) return; // the loop below will see to it
    this.#negotiating = true;
    await null; // intents of one task share an offer
    while (this.#state === 'joined' && (this.#intents.length > 0 || this.#stale)) {
      this.#stale = false;
      await this.#offerOnce(this.#intents.splice(0));
    }
    this.#negotiating = false;
  }

  /** @param {Intent[]} batch */
  async #offerOnce(batch) {
    const pc = /** @type {RTCPeerConnection} */ (this.#pc);
    try {
      for (const intent of batch) {
        intent.section = this.#place(intent);
        if (intent.media) await this.#attach(intent.section, intent.media, intent.options);
      }
      const retired = this.#sections.filter((s) => s.state === 'retiring');
      await pc.setLocalDescription();
      const answer = await this.#exchange(batch);
      await pc.setRemoteDescription({ type: 'answer', sdp: answer.sdp });
      for (const section of retired) section.state = 'free';
      for (const intent of batch) this.#settle(intent, answer.sections);
    } catch (error) {
      await this.#undo(batch, error);
    }
  }

  /** @param {Section} section @param {MediaStreamTrack} media @param {PublishOptions} options */
  async #attach(section, media, options) {
    const { sender } = section.transceiver;
    await sender.replaceTrack(media);
    const parameters = sender.getParameters();
    if (section.simulcast || !parameters.encodings?.length) return;
    if (options.maxBitrate) {
      parameters.encodings[0].maxBitrate = options.maxBitrate;
    } else {
      delete parameters.encodings[0].maxBitrate; // of the section's former life
    }
    await sender.setParameters(parameters);
  }

  /** Sends the local description and waits for the answer. @param {Intent[]} batch */
  #exchange(batch) {
    const request = ++this.#requests;
    const mid = (/** @type {Intent} */ intent) => intent.section?.transceiver.mid;
    const publish = batch
      .filter((intent) => intent.role === 'send')
      .map((intent) => ({ mid: mid(intent), source: intent.options.source ?? 'other' }));
    const subscribe = batch
      .filter((intent) => intent.role === 'receive')
      .map((intent) => ({ mid: mid(intent), track: intent.track }));
    const answer = new Promise((resolve, reject) => {
      this.#offer = { request, resolve, reject };
    });
    this.#tell({ type: 'offer', request, sdp: this.#pc?.localDescription?.sdp, publish, subscribe });
    return answer.finally(() => {
      this.#offer = undefined;
    });
  }

  /** @param {Intent} intent @param {SectionResult[]} results */
  #settle(intent, results) {
    const section = /** @type {Section} */ (intent.section);
    const result = results.find((r) => r.mid === section.transceiver.mid);
    section.state = 'used';
    section.track = result?.track?.id;
    // A track that ended, or that the page let go, while its answer was on the way.
    const gone = intent.track !== undefined && !(this.tracks.has(intent.track) && this.#subscriptions.has(intent.track));
    if (!result?.track || gone) {
      this.#retire(section);
      intent.reject(new ClientError('refused', result?.reason ?? 'The track is gone'));
    } else {
      intent.resolve(intent.role === 'send' ? result.track.id : section.transceiver.receiver.track);
    }
  }

  /** The server refused the offer as a whole, or the browser could not make or use a description.
   *  @param {Intent[]} batch @param {any} error */
  async #undo(batch, error) {
    const failure = error instanceof ClientError ? error : new ClientError('browser', String(error?.message ?? error));
    for (const intent of batch) intent.reject(failure);
    if (this.#state === 'closed') return;
    if (this.#pc?.signalingState === 'have-local-offer') await this.#pc.setLocalDescription({ type: 'rollback' });
    for (const { section } of batch) {
      if (!section) continue;
      if (section.transceiver.currentDirection) {
        this.#retire(section);
      } else {
        section.transceiver.stop();
        this.#sections.splice(this.#sections.indexOf(section), 1);
      }
    }
    // A restart that got no answer leaves the path `failed` without another event.
    if (this.#pc?.connectionState === 'failed') setTimeout(() => this.#onConnectionState('failed'), RETIRE_DELAY_MS);
    if (!(error instanceof ClientError)) this.#emit('error', { type: 'error', code: 'browser', message: failure.message });
  }
}

/**
 * Lets a receiving section name only its track's codec (and retransmission): a video section with everything that a
 * browser knows is 5 KB of SDP, and a big room has a hundred of them.
 * @param {RTCRtpTransceiver} transceiver @param {string} kind @param {string | undefined} codec
 */
function narrowCodecs(transceiver, kind, codec) {
  const all = RTCRtpReceiver.getCapabilities(kind)?.codecs ?? [];
  const wanted = all.filter(({ mimeType }) => mimeType.toLowerCase() === `${kind}/${codec}`);
  if (wanted.length === 0 || !transceiver.setCodecPreferences) return;
  transceiver.setCodecPreferences([...wanted, ...all.filter(({ mimeType }) => /\/rtx$/i.test(mimeType))]);
}
