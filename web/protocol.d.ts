/**
 * The messages of the signalling protocol, made from the Rust types in src/wire/src/message.rs: change those, and the test
 * in src/wire/src/message/typescript.rs says how to bring this file up to date.
 */

/** A client's name, chosen by the server. */
export type ClientId = string;

/** A room's name, chosen by who joins it. */
export type RoomId = string;

/** A track's name, chosen by the server. */
export type TrackId = string;

/** A media section's identification tag (RFC 8843, `a=mid`). */
export type Mid = string;

/** What a track carries. */
export type Kind = 'audio' | 'video';

/** Where a track's media comes from, as its publisher says. */
export type Source = 'camera' | 'microphone' | 'screen' | 'screen_audio' | 'other';

/** A codec the forwarder can look into as far as it needs (key frames, layers). */
export type CodecName = 'opus' | 'vp8' | 'vp9' | 'h264' | 'av1';

/** Why nothing is sent of a track that a client has subscribed to. */
export type PauseReason = 'bandwidth' | 'hidden' | 'overload';

/** What everybody is told of a track. */
export type TrackInfo = {
  /** The server's name for it. */
  id: TrackId;
  /** Who publishes it. */
  client: ClientId;
  /** Sound or pictures. */
  kind: Kind;
  /** What its publisher says it shows. */
  source: Source;
  /** The codec it is sent in. */
  codec: CodecName;
  /** Number of simulcast or spatial layers; 1 when there is one encoding only. */
  layers: number;
  /** Number of temporal layers of each; 1 when unknown. */
  temporal_layers: number;
  /** True while its publisher or the policy has muted it. */
  muted: boolean;
};

/** A client as others see it. */
export type Participant = {
  /** Its id. */
  client: ClientId;
  /** What it said of itself. */
  metadata: any;
  /** What the room's policy says of it, an object: unlike metadata, nothing that the client could have made up. */
  attributes?: any;
};

/** What a client may do. Without a word of the policy's, everything; its hooks are still asked about each
 * request. */
export type Rights = {
  /** The sources that it may publish. */
  publish: Source[];
  /** Whether it may receive tracks. */
  subscribe: boolean;
  /** Whether it may send messages to the room's policy. */
  message: boolean;
};

/** A section of an offer that newly publishes. */
export type Publish = {
  /** `RTCRtpTransceiver.mid`. */
  mid: Mid;
  /** What it shows. */
  source: Source;
  /** Of several encodings in VP8: the client is told `key_frame` when key frames of them are needed, and asked
   * for them by RTCP only where none comes then. For servers whose `joined` says that they know of it. */
  key_frames?: boolean;
};

/** A section of an offer that newly receives. */
export type Subscribe = {
  /** `RTCRtpTransceiver.mid`. */
  mid: Mid;
  /** Which track. */
  track: TrackId;
};

/** What became of one section that an offer named. */
export type SectionResult = {
  /** Which section. */
  mid: Mid;
  /** The track published or received there, unless refused. */
  track?: TrackInfo;
  /** Why it was refused, in words for the user. */
  reason?: string;
};

/** Kinds of errors. */
export type ErrorCode =
  | 'bad_message'
  | 'too_large'
  | 'out_of_order'
  | 'bad_sdp'
  | 'unknown_track'
  | 'busy'
  | 'message_dropped'
  | 'limit'
  | 'protocol'
  | 'ticket'
  | 'try_again';

/** From the client. */
export type ClientMessage =
  | {
      type: 'join';
      /** The room's id: 1 to 64 letters, digits, `-`, `_` and, not in front, `.`. */
      room: RoomId;
      /** What the room's policy checks (`on_client_connect`'s `auth_token`). */
      token: string;
      /** Anything about the client: others and the policy see it. */
      metadata: any;
      /** `PROTOCOL_VERSION`, when the client wants to be refused by a server that speaks another. */
      protocol?: number;
    }
  | {
      type: 'resume';
      /** The ticket of the last `joined`. */
      ticket: string;
    }
  | {
      type: 'offer';
      /** A number of the client's choice, echoed in the answer. */
      request: number;
      /** The description (`RTCSessionDescription.sdp`). */
      sdp: string;
      /** The sections that newly publish. */
      publish: Publish[];
      /** The sections that newly receive. */
      subscribe: Subscribe[];
    }
  | {
      type: 'unpublish';
      /** Which, of the client's own. */
      track: TrackId;
    }
  | {
      type: 'unsubscribe';
      /** Which. */
      track: TrackId;
    }
  | {
      type: 'mute';
      /** Which, of the client's own. */
      track: TrackId;
      /** Whether. */
      muted: boolean;
    }
  | {
      type: 'layer';
      /** Which. */
      track: TrackId;
      /** Highest layer; `null` for no limit. */
      layer: number | null;
    }
  | {
      type: 'view';
      /** Which. */
      track: TrackId;
      /** Width. */
      width: number;
      /** Height. */
      height: number;
    }
  | {
      type: 'message';
      /** Anything. */
      value: any;
    }
  | { type: 'leave' };

/** From the server. */
export type ServerMessage =
  | {
      type: 'joined';
      /** The id the server gave to the client. */
      client: ClientId;
      /** The room. */
      room: RoomId;
      /** Everybody else there. */
      clients: Participant[];
      /** Everything that others publish there. */
      tracks: TrackInfo[];
      /** The client's own published tracks; empty when it has just joined. */
      own: TrackInfo[];
      /** The client's own attributes, see `Participant.attributes`. */
      attributes: any;
      /** What the client may do. */
      rights: Rights;
      /** The proof for `ClientMessage.Resume`: opaque, good for one use; empty when `resume_s` is 0. */
      ticket: string;
      /** Seconds for which the stay is kept after the WebSocket is lost; 0: it ends with the WebSocket. */
      resume_s: number;
      /** Messages a second that the server takes of the client, and ten times as many at once; 16 KiB of a message
       * count as one more. */
      messages_per_s?: number;
      /** The server knows `Publish.key_frames`. */
      key_frames?: boolean;
      /** True when this continues an earlier stay. */
      resumed: boolean;
      /** `PROTOCOL_VERSION`. */
      protocol: number;
      /** True when `clients` and `tracks` are the first page only: `ServerMessage.Roster` follows. */
      more?: boolean;
    }
  | {
      type: 'roster';
      /** Further clients. */
      clients: Participant[];
      /** Further tracks. */
      tracks: TrackInfo[];
      /** True when another page follows. */
      more?: boolean;
    }
  | {
      type: 'rejected';
      /** In the policy's words. */
      reason: string;
    }
  | {
      type: 'answer';
      /** The offer's number. */
      request: number;
      /** The description. */
      sdp: string;
      /** What became of each section that the offer named. */
      sections: SectionResult[];
    }
  | { type: 'connected' }
  | { type: 'restart_ice' }
  | {
      type: 'client_joined';
      /** Its id. */
      client: ClientId;
      /** What it said of itself. */
      metadata: any;
      /** What the room's policy says of it, an object: unlike metadata, nothing that the client could have made up. */
      attributes?: any;
    }
  | {
      type: 'client_changed';
      /** Of whom. */
      client: ClientId;
      /** See `Participant.attributes`. */
      attributes: any;
    }
  | {
      type: 'client_left';
      /** Who. */
      client: ClientId;
    }
  | {
      type: 'track_published';
      /** Which. */
      track: TrackInfo;
    }
  | {
      type: 'track_changed';
      /** Which. */
      track: TrackInfo;
    }
  | {
      type: 'track_unpublished';
      /** Which. */
      track: TrackId;
      /** Of the client's own track, which it has not ended itself: why. */
      reason?: string;
    }
  | {
      type: 'unsubscribed';
      /** Which. */
      track: TrackId;
      /** Why, in words for the user. */
      reason: string;
    }
  | {
      type: 'rights';
      /** The sources that it may publish. */
      publish: Source[];
      /** Whether it may receive tracks. */
      subscribe: boolean;
      /** Whether it may send messages to the room's policy. */
      message: boolean;
    }
  | {
      type: 'track_paused';
      /** The track. */
      track: TrackId;
      /** Why. */
      reason: PauseReason;
    }
  | {
      type: 'track_resumed';
      /** The track. */
      track: TrackId;
    }
  | {
      type: 'wanted_layers';
      /** The track. */
      track: TrackId;
      /** The layers, 0 the lowest; empty: nobody receives the track. */
      layers: number[];
    }
  | {
      type: 'key_frame';
      /** The track. */
      track: TrackId;
    }
  | {
      type: 'active_speakers';
      /** Who. */
      clients: ClientId[];
    }
  | {
      type: 'message';
      /** What the script sent. */
      value: any;
    }
  | {
      type: 'kicked';
      /** In the policy's words, or the technical reason. */
      reason: string;
    }
  | {
      type: 'restarting';
      /** For the user. */
      reason: string;
    }
  | {
      type: 'resume';
      /** The WebSockets of the node of the cluster that goes on, if that is another one. */
      url?: string;
    }
  | {
      type: 'closing';
      /** For the user. */
      reason: string;
    }
  | {
      type: 'moved';
      /** The address of that node's WebSockets: `wss://n2.example.com:8080/ws`. */
      url: string;
    }
  | {
      type: 'error';
      /** Which kind of error. */
      code: ErrorCode;
      /** What and where, in words. */
      message: string;
      /** The offer's number, when it was one. */
      request?: number;
    };
