// @ts-check
/**
 * The events of a client, with the type of each one's `detail`.
 *
 * Each message of the server that is not between it and these files is an event named after its `type`, with the message as
 * `detail`. Of the client's own:
 * - `state`: the stay's state, and why it changed;
 * - `closed`: once, whatever ended the stay;
 * - `connection_state`: the RTCPeerConnection's connectionState;
 * - `media`: a subscribed track has media to show, for the first time or, after joining anew, again;
 * - `subscription_failed`: a track that `autoSubscribe` chose, or that is subscribed again, was refused;
 * - `publication_ended`: the room has ended an own track, or did not take it again after joining anew;
 * - `muted_by_room`: the room's policy mutes an own track, or does so no more (see `publication.mutedByRoom`);
 * - `quality`: how good the network of a client is, from 1 (bad) to 5 (good); see `client.quality`.
 */

/**
 * @typedef {import('./protocol.js').ServerMessage} ServerMessage
 * @typedef {import('./publication.js').Publication} Publication
 * @typedef {import('./errors.js').ClientError} ClientError
 * @typedef {'new'|'joining'|'joined'|'reconnecting'|'closed'} State
 *
 * @typedef {'answer' | 'moved' | 'restart_ice' | 'resume' | 'roster'} Hidden what is between the server and these files
 * @typedef {{[Name in Exclude<ServerMessage['type'], Hidden>]: Extract<ServerMessage, {type: Name}>}} ServerEvents
 * @typedef {{
 *   state: {state: State, reason?: string},
 *   closed: {reason: string, code: import('./errors.js').ClientErrorCode},
 *   connection_state: {state: RTCPeerConnectionState},
 *   media: {track: import('./protocol.js').TrackInfo, media: MediaStreamTrack},
 *   subscription_failed: {track: import('./protocol.js').TrackInfo, error: ClientError},
 *   publication_ended: {publication: Publication, reason: string},
 *   muted_by_room: {publication: Publication, muted: boolean},
 *   quality: {client: string, quality: number},
 *   browser_error: {error: ClientError},
 * }} OwnEvents
 * @typedef {ServerEvents & OwnEvents} ClientEvents
 */

/**
 * @template {keyof ClientEvents} Name
 * @typedef {((event: CustomEvent<ClientEvents[Name]>) => void)
 *           | {handleEvent: (event: CustomEvent<ClientEvents[Name]>) => void} | null} Listener
 */

/** An EventTarget whose events are `CustomEvent`s of known detail. */
export class ClientEventTarget extends EventTarget {
  /**
   * @template {keyof ClientEvents} Name
   * @param {Name} name
   * @param {Listener<Name>} listener
   * @param {boolean | AddEventListenerOptions} [options]
   * @override
   */
  addEventListener(name, listener, options) {
    super.addEventListener(name, /** @type {any} */ (listener), options);
  }

  /**
   * @template {keyof ClientEvents} Name
   * @param {Name} name
   * @param {Listener<Name>} listener
   * @param {boolean | EventListenerOptions} [options]
   * @override
   */
  removeEventListener(name, listener, options) {
    super.removeEventListener(name, /** @type {any} */ (listener), options);
  }

  /**
   * Calls `listener` with the detail of each such event; returns a function that ends it.
   * @template {keyof ClientEvents} Name
   * @param {Name} name
   * @param {(detail: ClientEvents[Name]) => void} listener
   * @returns {() => void}
   */
  on(name, listener) {
    const heard = (/** @type {CustomEvent<ClientEvents[Name]>} */ { detail }) => listener(detail);
    this.addEventListener(name, heard);
    return () => this.removeEventListener(name, heard);
  }

  /**
   * @template {keyof ClientEvents} Name
   * @param {Name} name
   * @param {ClientEvents[Name]} detail
   * @protected
   */
  emit(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}
