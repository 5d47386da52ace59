// @ts-check
/**
 * What a client knows of its room: who is there, what they publish, and what of it is received.
 *
 * @typedef {import('./protocol.js').ServerMessage} ServerMessage
 * @typedef {import('./protocol.js').Participant} Participant
 * @typedef {import('./protocol.js').TrackInfo} TrackInfo
 * @typedef {Extract<ServerMessage, {type: 'joined'}>} Joined
 * @typedef {import('./events.js').ClientEvents} ClientEvents
 *
 * What a `Room` needs of who owns it.
 * @typedef {{emit: <Name extends keyof ClientEvents>(name: Name, detail: ClientEvents[Name]) => void,
 *            media: () => import('./media.js').Media | undefined,
 *            tell: (message: import('./protocol.js').ClientMessage) => void}} Host
 *
 * A wish to receive a track; it outlives the peer connection. `settled`: the promise is. `codec`: of the track when it was
 * asked for, the only one that its section takes.
 * @typedef {{promise: Promise<MediaStreamTrack>, resolve: (media: MediaStreamTrack) => void,
 *            reject: (error: Error) => void, settled: boolean,
 *            codec?: import('./protocol.js').CodecName}} Subscription
 */
import { ClientError, clientError } from './errors.js';

/** Somebody as the page sees them. @param {Participant} who @returns {Participant} */
const participant = ({ client, metadata, attributes = {} }) => ({ client, metadata, attributes });

export class Room {
  /** @type {Map<string, Participant>} */ clients = new Map();
  /** @type {Map<string, TrackInfo>} */ tracks = new Map();
  /** @type {Map<string, import('./protocol.js').PauseReason>} */ paused = new Map();
  /** @type {(track: TrackInfo) => boolean} */ autoSubscribe = () => false;
  /** @type {Map<string, Subscription>} */ #subscriptions = new Map();
  /** Tracks that the page has let go: `autoSubscribe` does not choose them again. @type {Set<string>} */ #declined = new Set();
  #mayReceive = true;
  /** What `setLayer` was asked. @type {Map<string, number | null>} */ #layers = new Map();
  #host;

  /** @param {Host} host */
  constructor(host) {
    this.#host = host;
  }

  /** Takes in a message, before anybody else hears of it. @param {ServerMessage} message @param {string} me */
  hear(message, me) {
    switch (message.type) {
      case 'client_joined':
        this.clients.set(message.client, participant(message));
        break;
      case 'client_changed': {
        const known = this.clients.get(message.client);
        if (known) this.clients.set(message.client, { ...known, attributes: message.attributes });
        break;
      }
      case 'client_left':
        this.clients.delete(message.client);
        break;
      case 'track_published':
      case 'track_changed':
        if (message.track.client !== me) this.tracks.set(message.track.id, message.track);
        break;
      case 'track_unpublished':
        this.#forget(message.track);
        break;
      case 'unsubscribed':
        this.#drop(message.track, new ClientError('refused', message.reason));
        break;
      case 'track_paused':
        // One that was let go meanwhile is not waited for.
        if (this.#subscriptions.has(message.track)) this.paused.set(message.track, message.reason);
        break;
      case 'track_resumed':
        this.paused.delete(message.track);
        break;
    }
  }

  /** After everybody has heard of a message. @param {ServerMessage} message @param {string} me */
  heard(message, me) {
    if (message.type === 'track_published' && message.track.client !== me) this.#offerTo(message.track);
    if (message.type !== 'rights') return;
    const isNew = message.subscribe && !this.#mayReceive;
    this.#mayReceive = message.subscribe;
    if (isNew) for (const track of this.tracks.values()) this.#offerTo(track);
  }

  /**
   * Takes in a fresh snapshot; returns what changed against what was known, as the messages that would have said so.
   * @param {Joined} joined
   */
  update(joined) {
    const clients = new Map(joined.clients.map((who) => [who.client, participant(who)]));
    const tracks = new Map(joined.tracks.filter(({ client }) => client !== joined.client).map((track) => [track.id, track]));
    /** @type {ServerMessage[]} */ const gone = [];
    /** @type {ServerMessage[]} */ const fresh = [];
    for (const track of this.tracks.keys()) if (!tracks.has(track)) gone.push({ type: 'track_unpublished', track });
    for (const client of this.clients.keys()) if (!clients.has(client)) gone.push({ type: 'client_left', client });
    for (const [id, who] of clients) {
      const known = this.clients.get(id);
      if (!known) fresh.push({ type: 'client_joined', ...who });
      else if (JSON.stringify(known.attributes) !== JSON.stringify(who.attributes)) {
        fresh.push({ type: 'client_changed', client: id, attributes: who.attributes });
      }
    }
    for (const [id, track] of tracks) {
      const known = this.tracks.get(id);
      if (!known) fresh.push({ type: 'track_published', track });
      else if (JSON.stringify(known) !== JSON.stringify(track)) fresh.push({ type: 'track_changed', track });
    }
    for (const message of gone) this.hear(message, joined.client);
    // Until the server says it again: that a pause is over may have been lost.
    for (const track of this.paused.keys()) gone.push({ type: 'track_resumed', track });
    this.paused.clear();
    this.clients = clients;
    this.tracks = tracks;
    return { gone, fresh };
  }

  /** The server has kept us: it is told what it may have missed. @param {ServerMessage[]} fresh what is new in the room @param {string} me */
  resume(fresh, me) {
    for (const track of this.#layers.keys()) this.#tellLayer(track);
    for (const [track, { codec }] of this.#subscriptions) {
      if (!codec || codec === this.tracks.get(track)?.codec) continue;
      this.#host.tell({ type: 'unsubscribe', track }); // that the server has ended it may have been lost
      this.renew(track);
    }
    for (const message of fresh) this.heard(message, me);
  }

  /** What is subscribed now. @returns {[string, Subscription][]} */
  get subscriptions() {
    return [...this.#subscriptions];
  }

  /**
   * The server does not know us: what was subscribed is subscribed again, and what `autoSubscribe` chooses.
   * @param {boolean} mayReceive @param {[string, Subscription][]} before what was subscribed when the media began anew
   */
  restart(mayReceive, before) {
    this.#mayReceive = mayReceive;
    for (const [track, subscription] of before) if (this.#subscriptions.get(track) === subscription) this.#receive(track);
    for (const track of this.tracks.values()) this.#offerTo(track);
  }

  /** The highest layer to receive; it is kept. @param {string} track @param {number | null} layer */
  setLayer(track, layer) {
    this.#layers.set(track, layer);
    this.#tellLayer(track);
  }

  /** Of a track that is not received yet the server knows no layers: it is told once it is. @param {string} track */
  #tellLayer(track) {
    const layer = this.#layers.get(track);
    if (layer !== undefined && this.#host.media()?.section('receive', track)) this.#host.tell({ type: 'layer', track, layer });
  }

  /** @param {string} track @returns {Promise<MediaStreamTrack>} */
  subscribe(track) {
    this.#declined.delete(track);
    const known = this.#subscriptions.get(track);
    if (known) return known.promise;
    if (!this.tracks.has(track)) return Promise.reject(new ClientError('unknown_track', `There is no track ${track}`));
    /** @type {any} */ const subscription = { settled: false };
    subscription.promise = new Promise((resolve, reject) => Object.assign(subscription, { resolve, reject }));
    subscription.promise.catch(() => {}); // whoever wants to know asks `subscribe`
    this.#subscriptions.set(track, subscription);
    this.#receive(track);
    return subscription.promise;
  }

  /** @param {string} track */
  unsubscribe(track) {
    if (this.tracks.has(track)) this.#declined.add(track);
    if (!this.#subscriptions.has(track)) return;
    this.#host.tell({ type: 'unsubscribe', track });
    this.#drop(track, new ClientError('refused', 'It was unsubscribed'));
  }

  /**
   * The server has ended a subscription: as the track has another codec now, which its section does not take, it is received
   * anew. False if that is not why.
   * @param {string} track
   */
  renew(track) {
    const known = this.#subscriptions.get(track);
    const info = this.tracks.get(track);
    if (!known || !info || known.codec === info.codec) return false;
    this.paused.delete(track);
    this.#host.media()?.stop('receive', track);
    this.#subscriptions.set(track, { ...known }); // what is under way for the one before is not used
    this.#receive(track);
    return true;
  }

  /** The clients of whom something is paused for want of bandwidth. */
  starved() {
    const tracks = [...this.paused].filter(([, reason]) => reason === 'bandwidth').map(([track]) => this.tracks.get(track));
    return new Set(tracks.flatMap((track) => (track ? [track.client] : [])));
  }

  /** @param {ClientError} error */
  close(error) {
    for (const { reject } of this.#subscriptions.values()) reject(error);
    this.#subscriptions.clear();
  }

  /** @param {TrackInfo} track */
  #offerTo(track) {
    if (!this.#declined.has(track.id) && this.#isChosen(track)) this.subscribe(track.id);
  }

  /** Whether the page wants it by itself; as with listeners, a mistake of the page's there is told and stops nothing else.
   *  @param {TrackInfo} track */
  #isChosen(track) {
    try {
      return this.autoSubscribe(track);
    } catch (error) {
      reportError(error);
      return false;
    }
  }

  /** @param {string} id */
  async #receive(id) {
    const subscription = this.#subscriptions.get(id);
    const track = this.tracks.get(id);
    const media = this.#host.media();
    if (!subscription || !track || !media) return;
    subscription.codec = track.codec;
    try {
      const isWanted = () => this.tracks.has(id) && this.#subscriptions.get(id) === subscription;
      const received = await media.receive({ kind: track.kind, track: id, isWanted });
      if (!isWanted()) return;
      this.#tellLayer(id);
      if (subscription.settled) subscription.promise = Promise.resolve(received);
      subscription.settled = true;
      subscription.resolve(received);
      this.#host.emit('media', { track: this.tracks.get(id) ?? track, media: received });
    } catch (thrown) {
      const error = clientError(thrown);
      if (error.code === 'reconnecting' || this.#subscriptions.get(id) !== subscription) return;
      const isSilent = subscription.settled || this.#isChosen(track);
      this.#drop(id, error);
      if (isSilent) this.#host.emit('subscription_failed', { track, error });
    }
  }

  /** @param {string} track */
  #forget(track) {
    this.tracks.delete(track);
    this.#declined.delete(track);
    this.#drop(track, new ClientError('refused', 'The track is gone'));
  }

  /** @param {string} track @param {ClientError} error */
  #drop(track, error) {
    this.paused.delete(track);
    this.#layers.delete(track);
    this.#subscriptions.get(track)?.reject(error);
    this.#subscriptions.delete(track);
    this.#host.media()?.stop('receive', track);
  }
}
