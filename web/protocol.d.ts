/**
 * The messages of the signalling protocol, version 1, as src/signal/message.rs defines them. Written by hand until it is
 * generated from those Rust types: the generated `protocol.ts` has the same names and replaces this file.
 */

export type ClientId = string;
export type RoomId = string;
export type TrackId = string;
/** `RTCRtpTransceiver.mid`. */
export type Mid = string;

export type Kind = 'audio' | 'video';
export type Source = 'camera' | 'microphone' | 'screen' | 'screen_audio' | 'other';
export type CodecName = 'opus' | 'vp8' | 'vp9' | 'h264' | 'av1';

/** A track that somebody publishes. */
export type TrackInfo = {
  id: TrackId;
  client: ClientId;
  kind: Kind;
  source: Source;
  codec: CodecName;
  /** Simulcast or spatial layers; 1 when there is one. */
  layers: number;
  /** 1 when unknown. */
  temporal_layers: number;
  muted: boolean;
};

export type Participant = {
  client: ClientId;
  /** Any JSON value that the client gave when it joined. */
  metadata: any;
};

/** A section of an offer that newly publishes. */
export type Publish = { mid: Mid; source: Source };
/** A section of an offer that newly receives. */
export type Subscribe = { mid: Mid; track: TrackId };

/** What became of one section that an offer named: a track, or the reason of the refusal. */
export type SectionResult = { mid: Mid; track?: TrackInfo; reason?: string };

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
  | 'ticket';

/** Why a subscribed track is not sent for now. */
export type PauseReason = 'bandwidth' | 'hidden' | 'overload';

export type ClientMessage =
  | { type: 'join'; room: RoomId; token: string; metadata: any; protocol?: number }
  | { type: 'resume'; ticket: string }
  | { type: 'offer'; request: number; sdp: string; publish: Publish[]; subscribe: Subscribe[] }
  | { type: 'unpublish'; track: TrackId }
  | { type: 'unsubscribe'; track: TrackId }
  | { type: 'mute'; track: TrackId; muted: boolean }
  | { type: 'layer'; track: TrackId; layer: number | null }
  | { type: 'view'; track: TrackId; width: number; height: number }
  | { type: 'message'; value: any }
  | { type: 'leave' };

export type ServerMessage =
  | {
      type: 'joined';
      client: ClientId;
      room: RoomId;
      clients: Participant[];
      tracks: TrackInfo[];
      protocol: number;
      /** Opaque, good for one `resume`. */
      ticket: string;
      /** Seconds the stay is kept after the socket is lost. */
      resume_s: number;
      resumed: boolean;
      /** The client's own published tracks. */
      own: TrackInfo[];
    }
  | { type: 'rejected'; reason: string }
  | { type: 'answer'; request: number; sdp: string; sections: SectionResult[] }
  | { type: 'connected' }
  | { type: 'client_joined'; client: ClientId; metadata: any }
  | { type: 'client_left'; client: ClientId }
  | { type: 'track_published'; track: TrackInfo }
  | { type: 'track_changed'; track: TrackInfo }
  | { type: 'track_unpublished'; track: TrackId }
  | { type: 'track_paused'; track: TrackId; reason: PauseReason }
  | { type: 'track_resumed'; track: TrackId }
  | { type: 'wanted_layers'; track: TrackId; layers: number[] }
  | { type: 'active_speakers'; clients: ClientId[] }
  | { type: 'message'; value: any }
  | { type: 'kicked'; reason: string }
  | { type: 'restarting'; reason: string }
  | { type: 'closing'; reason: string }
  | { type: 'error'; code: ErrorCode; message: string; request?: number };
