// @ts-check
/**
 * The signalling connection of one stay, over as many WebSockets as it takes: when one is lost, the next goes on with the
 * ticket of the last `joined`, or joins anew when the ticket is no longer good. In a cluster the room is on one of several
 * servers: `moved` says on which, and when that one is gone, the addresses that the page has given are tried in turn.
 *
 * @typedef {import('./protocol.js').ClientMessage} ClientMessage
 * @typedef {import('./protocol.js').ServerMessage} ServerMessage
 * @typedef {Extract<ServerMessage, {type: 'joined'}>} Joined
 *
 * What a `Signal` needs of who owns it. `ended` is the end of the stay, said once.
 * @typedef {{receive: (message: ServerMessage) => void, reconnecting: (reason: string, moved: boolean) => void,
 *            ended: (code: import('./errors.js').ClientErrorCode, reason: string) => void}} Host
 */
import { Pace } from './pace.js';
import { Watchdog } from './watchdog.js';

/** Time for a socket to open and for the server to answer the first message, on the way back. */
const CONNECT_MS = 10_000;
/** The same for the very first time, when the room's policy may take a while to decide. */
const JOIN_MS = 30_000;
/** Time for a socket to open where there are other servers to try. */
const OPEN_MS = 2000;
/** Pauses between attempts grow from the first to the last of these. The very first attempt is made at once. */
const FIRST_PAUSE_MS = 250;
const LONGEST_PAUSE_MS = 8000;
/** A room whose home died is elsewhere after about a second: who has just missed that is to try again soon. */
const PAUSE_GROWTH = 1.5;
/** Connections that do not last this long are followed by pauses, too: a server that lets in and cuts off is not asked in a circle. */
const STEADY_MS = 10_000;
/** After `restarting` everybody comes back: spread over this long. */
const RESTART_SPREAD_MS = 1000;
/** From server to server without a pause, before it begins anew at the first address: whoever sends us on has to know better. */
const MOST_HOPS = 3;
/** A stay that could not be taken up again for this long is over, unless `giveUpAfterS` says otherwise. */
export const GIVE_UP_AFTER_S = 300;

export class Signal {
  /** The page's addresses. @type {string[]} */ #entries;
  /** Where the room is, as far as we know. @type {string} */ #at;
  /** Which address is next: 0 is `#at`. */ #turn = 0;
  /** How often we were sent on since we were last in. */ #hops = 0;
  /** There are several servers: one that is gone does not end the first join. */ #patient;
  #join;
  #host;
  #giveUpMs;
  /** @type {WebSocket | undefined} */ #socket;
  /** Of the socket there is, once it is up. @type {Pace | undefined} */ #pace;
  /** @type {Watchdog | undefined} */ #watchdog;
  /** @type {string | undefined} */ #ticket;
  /** `joined`, until its last page has come. @type {Joined | undefined} */ #roster;
  /** `joined` has come on the socket there is. */ #up = false;
  /** `joined` has come at all: what is lost from now on is taken up again. */ #stays = false;
  /** The server tells of key frames that it needs, whose publisher says that it makes them. */ tellsOfKeyFrames = false;
  #over = false;
  #attempt = 0;
  /** Connections in a row that were short. */ #short = 0;
  #upAt = 0;
  #lostAt = 0;
  #retry = 0;
  #deadline = 0;

  /**
   * @param {string | string[]} url
   * @param {Extract<ClientMessage, {type: 'join'}>} join
   * @param {Host} host
   * @param {number} [giveUpAfterS]
   */
  constructor(url, join, host, giveUpAfterS = GIVE_UP_AFTER_S) {
    this.#entries = [url].flat();
    this.#at = this.#entries[0];
    this.#patient = this.#entries.length > 1;
    this.#join = join;
    this.#host = host;
    this.#giveUpMs = giveUpAfterS * 1000;
    this.#lostAt = performance.now();
    this.#open();
  }

  /** Whether a message would reach the room now. */
  get up() {
    return this.#up && this.#isOpen();
  }

  /** Says it, if the connection is up, at the server's pace; false if it is not, or too much is waiting. @param {ClientMessage} message */
  tell(message) {
    return this.up && Boolean(this.#pace?.say(message));
  }

  /** The socket is not to be trusted any more: another one takes over. @param {string} why */
  renew(why) {
    if (!this.#stays || this.#over) return;
    this.#attempt = 0;
    if (this.#up || this.#socket) this.#lose(why, 0, true);
    else this.#schedule(0); // between two attempts: the next one now
  }

  /** Ends the connection without another word to the host; the server is told unless it has ended the stay itself. */
  close() {
    if (this.#over) return;
    // Also behind a `join` or a `resume` whose answer is on its way: we would be in the room, and its ticket lost.
    if (this.#isOpen()) this.#socket?.send(JSON.stringify({ type: 'leave' }));
    else if (this.#ticket) this.#leaveByTicket(this.#ticket);
    this.#up = false;
    this.#over = true;
    clearTimeout(this.#retry);
    this.#watchdog?.stop();
    this.#detach();
  }

  #isOpen() {
    return this.#socket?.readyState === WebSocket.OPEN;
  }

  // ---- one socket after the other ----

  #open() {
    clearTimeout(this.#retry);
    this.#detach();
    const addresses = [...new Set([this.#at, ...this.#entries])];
    const url = addresses[this.#turn % addresses.length];
    const others = addresses.length > 1;
    const wait = (/** @type {number} */ ms) => {
      this.#deadline = setTimeout(() => this.#fail('The server does not answer'), ms);
    };
    /** @type {WebSocket} */ let socket;
    try {
      socket = new WebSocket(url);
    } catch (error) {
      return void Promise.resolve().then(() => this.#end('lost', `No WebSocket to ${url}: ${error}`));
    }
    this.#roster = undefined;
    this.#socket = socket;
    socket.onopen = () => {
      clearTimeout(this.#deadline);
      wait(this.#stays ? CONNECT_MS : JOIN_MS);
      const first = this.#ticket ? { type: 'resume', ticket: this.#ticket } : this.#join;
      socket.send(JSON.stringify(first));
    };
    socket.onmessage = ({ data }) => this.#receive(data, url);
    socket.onclose = ({ code, reason }) => this.#fail(reason || words(code, this.#stays));
    wait(others ? OPEN_MS : this.#stays ? CONNECT_MS : JOIN_MS);
  }

  /** The connection is lost, or could not be made: then the next address has its turn. @param {string} reason */
  #fail(reason) {
    this.#turn = this.#up ? 0 : this.#turn + 1;
    this.#lose(reason);
  }

  /** @param {unknown} data @param {string} url */
  #receive(data, url) {
    // After a sleep the socket still has what the server said long ago, for example that we are gone.
    if (this.#watchdog?.check()) return;
    /** @type {ServerMessage} */ let message;
    try {
      message = JSON.parse(String(data));
    } catch {
      return this.#lose('The server sent no JSON');
    }
    if (message.type === 'joined' || message.type === 'roster') {
      const whole = this.#paged(message);
      if (!whole) return;
      message = whole;
    }
    switch (message.type) {
      case 'joined':
        this.#joined(message, url);
        break;
      case 'moved':
        return this.#move(message.url);
      case 'error':
        if (!this.#up && (this.#stays || message.code === 'try_again')) return this.#refusedAgain(message);
        if (!this.#up) {
          this.#host.receive(message);
          return this.#end(message.code, message.message);
        }
        break;
      case 'rejected':
      case 'kicked':
      case 'closing':
        this.#host.receive(message);
        return this.#end(message.type, message.reason);
      case 'resume': // the ticket is good, at the same address or at another server's
        if (message.url) this.#at = message.url;
        this.#turn = 0;
        return this.#lose(message.url ? 'Another server goes on' : 'The server goes on in another process', 0);
      case 'restarting':
        this.#host.receive(message);
        if (this.#over) return; // the host has had enough
        this.#ticket = undefined; // of a server that will not know it
        this.#turn = 1; // another one, if there is one
        return this.#lose(message.reason, Math.random() * RESTART_SPREAD_MS);
    }
    this.#host.receive(message);
  }

  /**
   * `joined` with all of its pages, once the last one has come.
   * @param {Joined | Extract<ServerMessage, {type: 'roster'}>} message
   */
  #paged(message) {
    if (message.type === 'joined') {
      this.#roster = message;
      this.#ticket = message.ticket; // the one before is used
    } else if (this.#roster) {
      this.#roster.clients.push(...message.clients);
      this.#roster.tracks.push(...message.tracks);
    }
    if (message.more || !this.#roster) return;
    const { more, ...whole } = this.#roster;
    this.#roster = undefined;
    return whole;
  }

  /** The room is on another server. @param {string} url */
  #move(url) {
    this.#patient = true;
    if (this.#up) this.#ticket = undefined; // the stay here has ended
    this.#turn = 0;
    if (++this.#hops > MOST_HOPS) {
      this.#hops = 0;
      this.#at = this.#entries[0];
      return this.#lose('The servers do not agree on where the room is');
    }
    this.#at = url;
    this.#attempt--; // it is the same attempt
    this.#lose('The room is on another server', 0);
  }

  /** @param {Joined} message @param {string} url */
  #joined(message, url) {
    clearTimeout(this.#deadline);
    this.#at = url;
    this.#turn = 0;
    this.#hops = 0;
    this.#ticket = message.ticket;
    this.#up = true;
    this.#pace = new Pace((text) => this.#socket?.send(text), message.messages_per_s);
    this.tellsOfKeyFrames = Boolean(message.key_frames);
    this.#stays = true;
    this.#upAt = performance.now();
    this.#watchdog ??= new Watchdog((why) => this.renew(why));
  }

  /** An attempt to come back was answered with an error. @param {Extract<ServerMessage, {type: 'error'}>} error */
  #refusedAgain(error) {
    if (error.code === 'protocol') return this.#end(error.code, error.message);
    this.#patient = true;
    if (error.code === 'try_again') this.#attempt = Math.max(1, this.#attempt);
    const expired = this.#ticket !== undefined;
    this.#ticket = undefined;
    this.#lose(error.message, expired ? 0 : undefined);
  }

  /** @param {string} reason @param {number} [pause] @param {boolean} [moved] The media path is doubtful, too. */
  #lose(reason, pause, moved = false) {
    this.#detach();
    if (!this.#stays && !this.#patient) return this.#end('lost', reason);
    const wasUp = this.#up;
    this.#up = false;
    if (wasUp) {
      this.#lostAt = performance.now();
      if (this.#lostAt - this.#upAt >= STEADY_MS) this.#short = 0;
      this.#attempt = this.#short++;
      this.#host.reconnecting(reason, moved);
    }
    if (this.#over) return; // the host has had enough
    const patience = this.#stays ? this.#giveUpMs : Math.min(JOIN_MS, this.#giveUpMs);
    if (performance.now() - this.#lostAt > patience) return this.#end('lost', reason);
    this.#schedule(pause ?? this.#pause());
  }

  /** The next pause, at random between a half and the whole of it. */
  #pause() {
    if (this.#attempt <= 0) return 0;
    return Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * PAUSE_GROWTH ** (this.#attempt - 1)) * (0.5 + Math.random() / 2);
  }

  /** @param {number} pause */
  #schedule(pause) {
    clearTimeout(this.#retry);
    this.#retry = setTimeout(() => {
      this.#attempt++;
      this.#open();
    }, pause);
  }

  /** @param {import('./errors.js').ClientErrorCode} code @param {string} reason */
  #end(code, reason) {
    if (this.#over) return;
    this.#detach();
    this.#ticket = undefined;
    this.close();
    this.#host.ended(code, reason);
  }

  #detach() {
    clearTimeout(this.#deadline);
    this.#pace?.stop();
    this.#pace = undefined;
    const socket = this.#socket;
    this.#socket = undefined;
    if (!socket) return;
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close();
  }

  /** Who leaves while the connection is lost does not stay in the room until the ticket expires. @param {string} ticket */
  #leaveByTicket(ticket, url = this.#at, hops = MOST_HOPS) {
    const socket = new WebSocket(url);
    const give = setTimeout(() => socket.close(), CONNECT_MS);
    socket.onopen = () => socket.send(JSON.stringify({ type: 'resume', ticket }));
    socket.onmessage = ({ data }) => {
      const answer = /** @type {ServerMessage} */ (JSON.parse(data));
      if (answer.type !== 'moved' && answer.type !== 'resume') socket.send(JSON.stringify({ type: 'leave' }));
      else if (hops > 0) this.#leaveByTicket(ticket, answer.url ?? url, hops - 1);
      socket.close();
    };
    socket.onclose = () => clearTimeout(give);
  }
}

/** @param {number} code @param {boolean} stays */
function words(code, stays) {
  if (code !== 1006) return 'The server closed the connection';
  return stays ? 'The connection to the server was lost' : 'The server cannot be reached';
}
