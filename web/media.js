// @ts-check
/**
 * The media half of client.js: one RTCPeerConnection, its sections, one offer at a time, and the repair of its path.
 * It knows neither the WebSocket nor the room: what it has to say goes to its host, what the server says about offers
 * comes in through `answered` and `failed`.
 *
 * @typedef {import('./client.js').TrackInfo} TrackInfo
 * @typedef {import('./client.js').PublishOptions} PublishOptions
 * @typedef {{mid: string, track?: TrackInfo, reason?: string}} SectionResult
 *
 * What a `Media` needs of who owns it.
 * @typedef {{tell: (message: object) => void, emit: (name: string, detail: any) => void,
 *            end: (reason: string) => void, codecOf: (track: string) => string | undefined,
 *            wants: (track: string) => boolean}} Host
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
 * What a rejected promise of a client carries. `code`: `rejected` (the room's policy did not let us in), `refused`
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

/** The media of one stay in one room. */
export class Media {
  /** @type {Host} */ #host;
  /** @type {RTCPeerConnection} */ #pc;
  #closed = false;
  /** @type {Section[]} */ #sections = [];
  /** @type {Intent[]} */ #intents = [];
  /** The offer that waits for its answer. @type {{request: number, resolve: (answer: any) => void,
   *  reject: (error: ClientError) => void} | undefined} */ #offer;
  #requests = 0;
  #negotiating = false;
  /** Something but an intent asks for an offer: a restart, a retired section. */
  #stale = false;
  #restarts = 0;
  #retireTimer = 0;
  #disconnectTimer = 0;
  #onNetworkChange = () => this.restartIce();

  /** @param {Host} host */
  constructor(host) {
    this.#host = host;
    // The server is ICE-lite on a public address: neither STUN nor TURN servers are needed to reach it.
    const pc = new RTCPeerConnection({ bundlePolicy: 'max-bundle', rtcpMuxPolicy: 'require' });
    this.#pc = pc;
    pc.onconnectionstatechange = () => this.#onConnectionState(pc.connectionState);
    addEventListener('online', this.#onNetworkChange);
  }

  get peerConnection() {
    return this.#pc;
  }

  /**
   * Publishes or receives with the next offer; resolves to the published track's info or the received media.
   * @param {Omit<Intent, 'resolve'|'reject'>} intent
   * @returns {Promise<any>}
   */
  intend(intent) {
    if (this.#closed) return Promise.reject(new ClientError('closed', 'Not in a room'));
    return new Promise((resolve, reject) => {
      this.#intents.push({ ...intent, resolve, reject });
      this.#negotiate();
    });
  }

  /** The section that a track goes through. @param {'send'|'receive'} role @param {string} track */
  section(role, track) {
    return this.#sections.find((s) => s.role === role && s.track === track && s.state === 'used');
  }

  /** Stops sending or receiving a track. @param {'send'|'receive'} role @param {string} track */
  stop(role, track) {
    this.#retire(this.section(role, track));
  }

  /** Looks for a new network path; media goes on meanwhile if the old one still works. */
  restartIce() {
    if (this.#closed || !this.#pc.remoteDescription) return;
    this.#pc.restartIce();
    this.#stale = true;
    this.#negotiate();
  }

  /** The server's answer to an offer. @param {any} message */
  answered(message) {
    if (this.#offer?.request === message.request) this.#offer.resolve(message);
  }

  /** The server's error about an offer. @param {number} request @param {ClientError} error */
  failed(request, error) {
    if (this.#offer?.request === request) this.#offer.reject(error);
  }

  /** @param {ClientError} error What promises that are open are told. */
  close(error) {
    this.#closed = true;
    removeEventListener('online', this.#onNetworkChange);
    clearTimeout(this.#retireTimer);
    clearTimeout(this.#disconnectTimer);
    this.#pc.close();
    this.#offer?.reject(error);
    for (const intent of this.#intents.splice(0)) intent.reject(error);
  }

  /** @param {RTCPeerConnectionState} state */
  #onConnectionState(state) {
    clearTimeout(this.#disconnectTimer);
    if (state === 'connected') this.#restarts = 0;
    if (state === 'disconnected') this.#disconnectTimer = setTimeout(() => this.restartIce(), DISCONNECTED_MS);
    this.#host.emit('connection_state', { state });
    if (state !== 'failed') return;
    if (++this.#restarts > MAX_RESTARTS) {
      this.#host.end('The media connection failed');
    } else {
      this.restartIce();
    }
  }

  // ---- sections ----

  /** Gives an intent a section: a free one if it fits, else a new one. @param {Intent} intent @returns {Section} */
  #place(intent) {
    const { role, kind, options } = intent;
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
      const transceiver = this.#pc.addTransceiver(kind, /** @type {RTCRtpTransceiverInit} */ (init));
      section = { transceiver, role, kind, state: 'fresh', simulcast };
      this.#sections.push(section);
    }
    section.state = 'fresh';
    if (role === 'receive') narrowCodecs(section.transceiver, kind, this.#host.codecOf(intent.track ?? ''));
    return section;
  }

  /** @param {Section | undefined} section */
  #retire(section) {
    if (!section || this.#closed) return;
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
    while (!this.#closed && (this.#intents.length > 0 || this.#stale)) {
      this.#stale = false;
      await this.#offerOnce(this.#intents.splice(0));
    }
    this.#negotiating = false;
  }

  /** @param {Intent[]} batch */
  async #offerOnce(batch) {
    const pc = this.#pc;
    try {
      for (const intent of batch) {
        intent.section = this.#place(intent);
        if (intent.media) await attach(intent.section, intent.media, intent.options);
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
    this.#host.tell({ type: 'offer', request, sdp: this.#pc.localDescription?.sdp, publish, subscribe });
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
    const gone = intent.track !== undefined && !this.#host.wants(intent.track);
    if (!result?.track || gone) {
      this.#retire(section);
      intent.reject(new ClientError('refused', result?.reason ?? 'The track is gone'));
    } else {
      intent.resolve(intent.role === 'send' ? result.track : section.transceiver.receiver.track);
    }
  }

  /** The server refused the offer as a whole, or the browser could not make or use a description.
   *  @param {Intent[]} batch @param {any} error */
  async #undo(batch, error) {
    const failure = error instanceof ClientError ? error : new ClientError('browser', String(error?.message ?? error));
    for (const intent of batch) intent.reject(failure);
    if (this.#closed) return;
    if (this.#pc.signalingState === 'have-local-offer') await this.#pc.setLocalDescription({ type: 'rollback' });
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
    if (this.#pc.connectionState === 'failed') setTimeout(() => this.#onConnectionState('failed'), RETIRE_DELAY_MS);
    if (!(error instanceof ClientError)) {
      this.#host.emit('error', { type: 'error', code: 'browser', message: failure.message });
    }
  }
}

/** @param {Section} section @param {MediaStreamTrack} media @param {PublishOptions} options */
async function attach(section, media, options) {
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
