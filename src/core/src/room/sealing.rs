//! How one packet leaves: a new header, and the shared plaintext encrypted straight into the place it leaves from.

use std::time::{Duration, Instant};

use super::form::{Form, Redundancy};
use super::forward::Outgoing;
use super::history::{History, MAX_DESCRIPTOR, Packet};
use super::kept_headers::Keeping;
use moonring_wire::id::{Pt, Ssrc};
use moonring_wire::media::{CodecName, Extension, ExtensionIds};
use moonring_wire::packet::{AddressPair, MAX_DATAGRAM, SendBatch};
use moonring_wire::rtp::extension::{abs_send_time, transport_sequence};
use moonring_wire::rtp::header::{NewHeader, pad, write_header_with};
use moonring_wire::rtp::red;
use moonring_wire::rtp::rtx::OSN_LEN;
use moonring_wire::transport::Transport;
use moonring_wire::transport::srtp::SrtpOut;

/// What the loop needs of the moment.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// Now.
    pub now: Instant,
    /// Time since the shard started: what `abs-send-time` counts.
    pub since_start: Duration,
    /// Nothing is kept back for later, as there is none here.
    pub is_last: bool,
    /// There is so little time that sends are saved at the expense of bytes.
    pub is_pressed: bool,
    /// The shard has more clients than the caches hold.
    pub reads_ahead: bool,
}

/// Where a client's packets go, and what they are sealed with.
#[derive(Clone, Copy)]
pub struct Destination<'a> {
    /// Its selected address.
    pub address: AddressPair,
    /// Its keys.
    pub srtp: &'a SrtpOut,
}

impl<'a> Destination<'a> {
    /// Where packets for a client go; `None` before its transport is up.
    pub fn of(transport: Option<&'a Transport>) -> Option<Self> {
        let transport = transport?;
        Some(Self { address: transport.selected()?, srtp: transport.srtp_out()? })
    }
}

/// One packet about to leave.
pub(super) struct OutgoingPacket<'a> {
    pub(super) header: NewHeader,
    /// The SRTP index in the stream of `header.ssrc`.
    pub(super) index: u64,
    pub(super) codec: CodecName,
    pub(super) history: &'a History,
    pub(super) packet: &'a Packet,
    pub(super) outgoing: Outgoing,
    /// The sequence number a retransmission carries in front of its payload (RFC 4588 section 4).
    pub(super) resend_of: Option<u16>,
}

/// What follows the header of a packet.
pub(super) struct Body<'a> {
    pub(super) payload: &'a [u8],
    pub(super) form: Form,
}

impl Body<'_> {
    /// Writes it into the packet `buf` from `at` on; its end. `None` when `overhead` bytes more do not fit.
    #[inline]
    pub(super) fn write(&self, buf: &mut [u8], at: usize, overhead: usize) -> Option<usize> {
        let Form { padding, codec, pictures, redundancy } = self.form;
        // What has no payload of its own was not kept.
        let payload = match redundancy {
            Redundancy::Removed => red::primary(self.payload).unwrap_or_default(),
            _ => self.payload,
        };
        let payload_end = at + payload.len();
        let end = payload_end + usize::from(padding);
        if end + overhead > buf.len() {
            return None;
        }
        buf[at..payload_end].copy_from_slice(payload);
        pictures.apply(codec, &mut buf[at..payload_end]);
        if let Redundancy::Kept { inner, .. } = redundancy {
            red::renumber(&mut buf[at..payload_end], inner);
        }
        if padding > 0 {
            pad(&mut buf[..end], padding);
        }
        Some(end)
    }
}

/// Writes and encrypts one packet, with the header extensions that have `ids`; its bytes, 0 when it cannot leave.
#[inline]
pub(super) fn seal(
    moment: &Moment,
    sealed: &OutgoingPacket<'_>,
    (number, keeping): (Option<u16>, Option<Keeping<'_>>),
    (to, ids): (&Destination<'_>, &ExtensionIds),
    out: &mut SendBatch,
) -> usize {
    let Destination { address, srtp } = *to;
    let Some(mut slot) = out.slot(address, MAX_DATAGRAM) else { return 0 };
    let buf = slot.bytes();
    let header_len = write_with_extensions(moment, sealed, number, ids, buf);
    let mut at = header_len;
    if let Some(sequence) = sealed.resend_of {
        buf[at..at + OSN_LEN].copy_from_slice(&sequence.to_be_bytes());
        at += OSN_LEN;
    }
    let (payload, padding) = match sealed.outgoing.is_filler {
        true => (&[][..], 1),
        false => (sealed.history.payload(sealed.packet), sealed.packet.padding),
    };
    let Outgoing { pictures, redundancy, .. } = sealed.outgoing;
    let form = Form { padding, codec: sealed.codec, pictures, redundancy };
    let body = Body { payload, form };
    let Some(end) = body.write(buf, at, srtp.rtp_overhead()) else { return 0 };
    if let Some(keeping) = keeping {
        keeping.note(&buf[..header_len], sealed.index, form);
    }
    let len = srtp.protect_rtp(buf, header_len, end, sealed.index);
    slot.commit(len);
    len
}

/// Writes the header with the extensions that the client knows; its length.
fn write_with_extensions(
    moment: &Moment,
    sealed: &OutgoingPacket<'_>,
    number: Option<u16>,
    ids: &ExtensionIds,
    buf: &mut [u8],
) -> usize {
    let kept = &sealed.packet.kept;
    let sent_at = abs_send_time(moment.since_start);
    let number = number.map(transport_sequence);
    let mut copy;
    let descriptor = match sealed.history.descriptor(sealed.packet) {
        of if of.is_empty() || sealed.outgoing.is_filler => &[][..],
        of => {
            copy = [0; MAX_DESCRIPTOR];
            copy[..of.len()].copy_from_slice(of);
            sealed.outgoing.pictures.apply_to_descriptor(&mut copy);
            &copy[..of.len()]
        }
    };
    write_header_with(buf, &sealed.header, |writer| {
        let mut add = |extension, value: &[u8]| writer.add(ids.get(extension).unwrap_or_default(), value);
        if let Some(number) = &number {
            add(Extension::TransportSequence, number);
        }
        add(Extension::AbsSendTime, &sent_at);
        if let Some(level) = kept.audio_level {
            add(Extension::AudioLevel, &[level]);
        }
        if let Some(orientation) = kept.orientation {
            add(Extension::VideoOrientation, &[orientation]);
        }
        if let Some(delay) = &kept.playout_delay {
            add(Extension::PlayoutDelay, delay);
        }
        if !descriptor.is_empty() {
            add(Extension::DependencyDescriptor, descriptor);
        }
    })
}

pub(super) fn header(payload_type: Pt, index: u64, outgoing: &Outgoing, ssrc: Ssrc) -> NewHeader {
    NewHeader { marker: outgoing.marker, payload_type, sequence: index as u16, timestamp: outgoing.timestamp, ssrc }
}
