// @ts-check
/**
 * An own track in the room. It outlives a lost connection: when the client has to join anew it is published again, muted
 * or not as it was, under another id.
 */

/**
 * @typedef {import('./layers.js').VideoOptions & {source?: import('./protocol.js').Source}} PublishOptions
 * @typedef {import('./protocol.js').TrackInfo} TrackInfo
 *
 * What a `Publication` needs of who owns it. `known`: its id is; what was said of it before is to be said now.
 * @typedef {{tell: (message: import('./protocol.js').ClientMessage) => void,
 *            media: () => import('./media.js').Media | undefined,
 *            known: (publication: Publication) => void,
 *            mutedByRoom: (publication: Publication) => void,
 *            ended: (publication: Publication, reason: string) => void,
 *            forget: (publication: Publication) => void}} Host
 */
import { ClientError, told } from './errors.js';
import { beginAnew, tune } from './section.js';

/** The server only says that a track is muted, not by whom: this long it may still be the echo of our own wish. */
const ECHO_MS = 1500;

export class Publication {
  /** The server's id of it; empty until it is published, and while it is not. */
  id = '';
  /** @type {MediaStreamTrack} */ media;
  /** Whether we have muted it. */ muted = false;
  /** Whether the room's policy mutes it, whatever we say. */ mutedByRoom = false;
  /** @readonly @type {PublishOptions} */ options;

  /** @type {Host} */ #host;
  /** What the server says. */ #isMuted = false;
  #wishedAt = -Infinity;
  #timer = 0;
  #live = true;
  /** Settles once: when the room has taken it or refused it. @type {Promise<Publication>} */ published;
  /** @type {(publication: Publication) => void} */ #resolve = () => {};
  /** @type {(error: unknown) => void} */ #reject = () => {};
  #settled = false;

  /** @param {MediaStreamTrack} media @param {PublishOptions} options @param {Host} host */
  constructor(media, options, host) {
    this.media = media;
    this.options = { ...options };
    this.#host = host;
    this.published = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    this.published.catch(() => {}); // whoever wants to know asks `publish`
  }

  get kind() {
    return /** @type {'audio'|'video'} */ (this.media.kind);
  }

  /** Its sender, for `getStats()`. */
  get sender() {
    return this.#section?.transceiver.sender;
  }

  /** Mutes or unmutes it, here and in everybody's picture of us. @param {boolean} muted */
  setMuted(muted) {
    this.muted = Boolean(muted);
    this.media.enabled = !muted;
    this.#wishedAt = performance.now();
    if (!this.id) return; // said when it is published
    this.#host.tell({ type: 'mute', track: this.id, muted: this.muted });
    this.#judge();
  }

  /** Sends other media instead, without an offer; as muted as it was. @param {MediaStreamTrack} media */
  async replace(media) {
    const before = this.media;
    if (media.kind !== this.kind) { // the browser would find out, but of what is pending only when its answer has come
      throw new TypeError(`A track of ${this.kind} cannot be replaced by one of ${media.kind}: publish that by itself`);
    }
    media.enabled = !this.muted;
    this.media = media;
    const section = this.#section;
    if (!section) return;
    try {
      await section.transceiver.sender.replaceTrack(media);
    } catch (error) {
      if (this.media === media) {
        this.media = before; // it is sent still: muting has to be about it
        before.enabled = !this.muted;
      }
      throw error;
    }
    tune(section);
  }

  /** Stops publishing. The media track goes on; stop it yourself. */
  unpublish() {
    if (!this.#live) return;
    if (this.id) this.#host.tell({ type: 'unpublish', track: this.id });
    this.#end(new ClientError('closed', 'It was unpublished'));
  }

  // ---- for the client ----

  /** Publishes it, for the first time or again. */
  async start() {
    clearTimeout(this.#timer);
    this.id = '';
    this.#isMuted = false;
    const media = this.#host.media();
    try {
      if (!media) throw new ClientError('closed', 'Not in a room');
      told('source', this.options.source ?? 'other'); // else the others of its offer would fail with it
      const track = await media.send({ kind: this.kind, media: this.media, options: this.options });
      if (!this.#live) {
        this.#host.tell({ type: 'unpublish', track: track.id });
        return media.stop('send', track.id);
      }
      this.id = track.id;
      if (media.section('send', track.id)?.transceiver.sender.track !== this.media) await this.replace(this.media);
      if (this.id !== track.id) return; // it was ended, or is published anew
      this.reconcile(track);
      this.#host.known(this);
      if (!this.#live) return;
      this.#settled = true;
      this.#resolve(this);
    } catch (error) {
      if (!this.#live || (error instanceof ClientError && error.code === 'reconnecting')) return;
      this.refused(error instanceof Error ? error : new Error(String(error)));
    }
  }

  /** What the server knows of it, when it may have missed what we said. @param {TrackInfo} track */
  reconcile(track) {
    if (track.muted !== this.muted) {
      this.#wishedAt = performance.now();
      this.#host.tell({ type: 'mute', track: this.id, muted: this.muted });
    }
    this.changed(track);
  }

  /** The server says that it is as it says. @param {TrackInfo} track */
  changed(track) {
    this.#isMuted = track.muted;
    const section = this.#section;
    if (section && section.told !== track.layers) {
      section.told = track.layers;
      tune(section);
    }
    this.#judge();
  }

  /** The layers that somebody receives. @param {number[]} layers */
  want(layers) {
    const section = this.#section;
    if (!section) return;
    section.wanted = layers;
    tune(section);
  }

  /** Key frames of all its layers are needed. */
  beginAnew() {
    const section = this.#section;
    if (section) beginAnew(section);
  }

  /** The room does not take it, or no more. @param {Error} error */
  refused(error) {
    if (!this.#live) return;
    const wasIn = this.#settled;
    this.#end(error);
    if (wasIn) this.#host.ended(this, error.message);
  }

  /** The stay has ended. @param {ClientError} error */
  close(error) {
    this.#live = false;
    clearTimeout(this.#timer);
    this.#reject(error);
    this.id = '';
  }

  /** @param {Error} error */
  #end(error) {
    if (this.id) this.#host.media()?.stop('send', this.id);
    this.#host.forget(this);
    this.#live = false;
    clearTimeout(this.#timer);
    this.#reject(error);
    this.id = '';
  }

  get #section() {
    return this.id ? this.#host.media()?.section('send', this.id) : undefined;
  }

  /** Says who mutes it, once that can be told. */
  #judge() {
    clearTimeout(this.#timer);
    const wait = this.#wishedAt + ECHO_MS - performance.now();
    if (wait > 0) return void (this.#timer = setTimeout(() => this.#judge(), wait));
    const byRoom = this.#isMuted;
    if (byRoom === this.mutedByRoom || (byRoom && this.muted)) return; // muted by both looks like by us
    this.mutedByRoom = byRoom;
    this.#host.mutedByRoom(this);
  }
}
