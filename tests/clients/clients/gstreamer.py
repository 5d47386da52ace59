"""GStreamer's webrtcbin publishes or receives: python3 gstreamer.py [ecdsa] OPTIONS

It has the certificate that it makes by default (RSA-2048 before GStreamer 1.28), or, with "ecdsa", one of P-256.
"""
import hashlib
import os
import re
import ssl
import subprocess
import sys
import time

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstWebRTC", "1.0")
gi.require_version("GstSdp", "1.0")
from gi.repository import Gst, GstSdp, GstWebRTC  # noqa: E402

from contract import SAMPLES_20_MS, Contract, fail  # noqa: E402

contract = Contract()
PATIENCE_S = 25
OPUS_RATE = 48_000
OPUS = "application/x-rtp,media=audio,encoding-name=OPUS,clock-rate=48000,payload=111,encoding-params=(string)2"
VIDEO = "application/x-rtp,media=video,clock-rate=90000,payload=96,encoding-name="
# Per codec: encoder and payloader, depayloader and decoder, what the caps of an offer have to say.
CODECS = {
    "vp8": ("vp8enc deadline=1 keyframe-max-dist=60 ! rtpvp8pay name=vpay", "rtpvp8depay ! vp8dec", "VP8"),
    "vp9": ("vp9enc deadline=1 cpu-used=8 lag-in-frames=0 keyframe-max-dist=60 ! rtpvp9pay name=vpay", "rtpvp9depay ! vp9dec", "VP9"),
    "h264": (
        "x264enc tune=zerolatency speed-preset=ultrafast key-int-max=60 ! video/x-h264,profile=constrained-baseline"
        " ! rtph264pay name=vpay config-interval=-1 aggregate-mode=zero-latency",
        "rtph264depay ! h264parse ! avdec_h264",
        "H264,packetization-mode=(string)1,profile-level-id=(string)42e01f",
    ),
}


def count_buffers(pad, kind):
    def probe(_pad, info):
        if kind == "audio" and not contract.publishes:
            samples = round(info.get_buffer().duration * OPUS_RATE / Gst.SECOND)
            contract.count("audio", samples // SAMPLES_20_MS)
        else:
            contract.count(kind)
        return Gst.PadProbeReturn.OK

    pad.add_probe(Gst.PadProbeType.BUFFER, probe)


def publishing_pipeline():
    parts = ["webrtcbin name=peer bundle-policy=max-bundle"]
    if contract.audio:
        parts.append(f"audiotestsrc is-live=true ! audio/x-raw,rate=48000,channels=2 ! valve name=avalve ! queue"
                     f" ! opusenc ! rtpopuspay name=apay pt=111 ! {OPUS} ! peer.")
    if contract.video:
        encoder, _, caps = CODECS[contract.video]
        size = f"width={contract.width},height={contract.height},framerate={contract.fps}/1"
        parts.append(f"videotestsrc is-live=true pattern=ball ! video/x-raw,format=I420,{size} ! valve name=vvalve ! queue"
                     f" ! {encoder} pt=96 ! {VIDEO}{caps.split(',')[0]} ! peer.")
    pipeline = Gst.parse_launch("  ".join(parts))
    for kind, name in (("audio", "apay"), ("video", "vpay")):
        if element := pipeline.get_by_name(name):
            count_buffers(element.get_static_pad("sink"), kind)
    for transceiver in transceivers(pipeline.get_by_name("peer")):
        transceiver.set_property("direction", GstWebRTC.WebRTCRTPTransceiverDirection.SENDONLY)
    return pipeline


def transceivers(peer):
    found = []
    while (transceiver := peer.emit("get-transceiver", len(found))) is not None:
        found.append(transceiver)
    return found


def receiving_pipeline():
    pipeline = Gst.Pipeline.new()
    peer = Gst.parse_launch("webrtcbin name=peer bundle-policy=max-bundle")
    pipeline.add(peer)
    only = GstWebRTC.WebRTCRTPTransceiverDirection.RECVONLY
    if contract.audio:
        peer.emit("add-transceiver", only, Gst.Caps.from_string(OPUS))
    if contract.video:
        peer.emit("add-transceiver", only, Gst.Caps.from_string(VIDEO + CODECS[contract.video][2]))

    def added(_peer, pad):
        if pad.direction != Gst.PadDirection.SRC:
            return
        kind = pad.get_current_caps().get_structure(0).get_string("media")
        decoder = CODECS[contract.video][1] if kind == "video" else "rtpopusdepay ! opusdec"
        branch = Gst.parse_bin_from_description(f"queue ! {decoder} ! fakesink name=end sync=false", True)
        pipeline.add(branch)
        count_buffers(branch.get_by_name("end").get_static_pad("sink"), kind)
        pad.link(branch.get_static_pad("sink"))
        branch.sync_state_with_parent()

    peer.connect("pad-added", added)
    return pipeline


class EcdsaCertificate:
    """A certificate of P-256 for the DTLS elements, of which there is one pair, as all is bundled."""

    def __init__(self, pipeline):
        key = subprocess.check_output(["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"])
        request = ["openssl", "req", "-new", "-x509", "-key", "/dev/stdin", "-days", "30", "-subj", "/CN=clients"]
        certificate = subprocess.check_output(request, input=key).decode()
        self.pem = certificate + key.decode()
        self.digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(certificate)).digest()
        pipeline.connect("deep-element-added", self._added)

    def _added(self, _pipeline, _bin, element):
        factory = element.get_factory()
        name = factory.get_name() if factory is not None else ""
        if name == "dtlssrtpdec":
            element.set_property("pem", self.pem)
        if name in ("dtlssrtpenc", "dtlssrtpdec"):  # the pair finds its connection, and so its certificate, by this
            element.set_property("connection-id", "ecdsa")

    def in_offer(self, offer):
        """The offer with this certificate's fingerprint: webrtcbin has taken the one of its own."""
        return re.sub(r"(a=fingerprint:sha-256 )\S+", r"\g<1>" + self.digest.hex(":").upper(), offer)


def wait_for(what, check, bus):
    end = time.monotonic() + PATIENCE_S
    while not check():
        look_at(bus)
        if time.monotonic() > end:
            fail(what())
        time.sleep(0.02)


def look_at(bus):
    """Errors of elements end the client."""
    while message := bus.pop_filtered(Gst.MessageType.ERROR | Gst.MessageType.WARNING):
        error, details = message.parse_error() if message.type == Gst.MessageType.ERROR else message.parse_warning()
        print(f"{message.src.get_name()}: {error.message}: {details}", file=sys.stderr, flush=True)
        if message.type == Gst.MessageType.ERROR:
            fail(f"{message.src.get_name()}: {error.message}")


def ask(peer, signal, argument):
    """Emits a signal that answers with a promise. Keep the promise and the reply while its values are used: they own them."""
    promise = Gst.Promise.new()
    peer.emit(signal, argument, promise)
    promise.wait()
    return promise, promise.get_reply()


def negotiate(peer, bus, certificate):
    state = lambda name: peer.get_property(name).value_nick  # noqa: E731
    _promise, reply = ask(peer, "create-offer", None)
    ask(peer, "set-local-description", reply.get_value("offer"))
    wait_for(lambda: "no candidates", lambda: state("ice-gathering-state") == "complete", bus)
    offer = peer.get_property("local-description").sdp.as_text()
    answer = contract.post(certificate.in_offer(offer) if certificate else offer)
    _, message = GstSdp.SDPMessage.new_from_text(answer)
    answer = GstWebRTC.WebRTCSessionDescription.new(GstWebRTC.WebRTCSDPType.ANSWER, message)
    _promise, reply = ask(peer, "set-remote-description", answer)
    if reply is not None and reply.has_field("error"):
        fail(f"webrtcbin refuses the answer: {reply.to_string()}")
    words = lambda: f"the connection is {state('connection-state')}, ICE {state('ice-connection-state')}"  # noqa: E731
    wait_for(words, lambda: state("connection-state") == "connected", bus)


def apply_hold(pipeline):
    for name in ("avalve", "vvalve"):
        if valve := pipeline.get_by_name(name):
            valve.set_property("drop", not contract.running.is_set())


def main():
    Gst.init(None)
    pipeline = publishing_pipeline() if contract.publishes else receiving_pipeline()
    certificate = EcdsaCertificate(pipeline) if "ecdsa" in sys.argv else None
    bus = pipeline.get_bus()
    pipeline.set_state(Gst.State.PLAYING)
    peer = pipeline.get_by_name("peer")
    if contract.publishes:  # until caps have reached it, it has nothing to offer
        ready = lambda: all(p.get_current_caps() for p in peer.sinkpads)  # noqa: E731
        wait_for(lambda: "no media reached webrtcbin", ready, bus)
    negotiate(peer, bus, certificate)
    contract.connected(Gst.version_string())
    contract.obey()
    while not contract.stopped.wait(0.02):
        look_at(bus)
        apply_hold(pipeline)
    contract.leave()
    sys.stdout.flush()
    os._exit(0)  # the pipeline's own end can take seconds


main()
