//! Bounds of what is read of one text.

/// Longest line, in bytes; the longest ones that browsers send are `a=fmtp` and `a=ssrc`, below 300.
pub(super) const MAX_LINE_BYTES: usize = 4096;
/// Most lines of one text; Chrome writes about 120 for a video section.
pub(super) const MAX_LINES: usize = 16 * 1024;
/// Most attributes of one section, or of the session part, candidates left out: each format looks through all of them.
pub(super) const MAX_ATTRIBUTES: usize = 1_024;
/// Most formats of one `m=` line: payload types are seven bits.
pub(super) const MAX_FORMATS: usize = 128;
/// Most SSRCs of one section: three layers, their retransmissions and their FEC leave room.
pub(super) const MAX_SSRCS: usize = 16;
/// Most simulcast layers of one section.
pub(super) const MAX_RIDS: usize = 8;
