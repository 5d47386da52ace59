"""aiortc publishes or receives: python aiortc_peer.py OPTIONS"""
import asyncio
import fractions
import math
import time

import aiortc
import av
from aiortc import MediaStreamTrack, RTCPeerConnection, RTCRtpReceiver, RTCRtpSender, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError

from contract import SAMPLES_20_MS, Contract, fail

contract = Contract()
PATIENCE_S = 25
RATE = 48_000


class Paced(MediaStreamTrack):
    """Makes a frame per step of time, none while the driver says hold."""

    def __init__(self, kind, step):
        super().__init__()
        self.kind = kind
        self.step = step
        self.started = self.due = time.monotonic()
        self.number = 0

    async def recv(self):
        while True:
            now = time.monotonic()
            if contract.running.is_set() and now >= self.due:
                break
            if not contract.running.is_set():
                self.due = now
            await asyncio.sleep(max(0.002, min(self.due - now, 0.02)))
        self.due = max(self.due, now - 1) + self.step
        self.number += 1
        contract.count(self.kind)
        return self.make(now - self.started)


class Picture(Paced):
    def __init__(self):
        super().__init__("video", 1 / contract.fps)

    def make(self, at):
        frame = av.VideoFrame(contract.width, contract.height, "yuv420p")
        for index, plane in enumerate(frame.planes):
            row = bytes((x + self.number * 3 * (index + 1)) % 256 for x in range(plane.line_size))
            plane.update(row * plane.height)
        frame.pts, frame.time_base = int(at * 90_000), fractions.Fraction(1, 90_000)
        return frame


class Tone(Paced):
    def __init__(self):
        super().__init__("audio", SAMPLES_20_MS / RATE)

    def make(self, at):
        frame = av.AudioFrame("s16", "mono", SAMPLES_20_MS)
        first = self.number * SAMPLES_20_MS
        wave = (int(8000 * math.sin(2 * math.pi * 440 * (first + n) / RATE)) for n in range(SAMPLES_20_MS))
        frame.planes[0].update(b"".join(sample.to_bytes(2, "little", signed=True) for sample in wave))
        frame.sample_rate, frame.pts, frame.time_base = RATE, first, fractions.Fraction(1, RATE)
        return frame


async def take(track):
    """Counts what the decoder gives."""
    samples = 0
    try:
        while True:
            frame = await track.recv()
            if track.kind == "video":
                contract.count("video")
                continue
            samples += frame.samples
            contract.count("audio", samples // SAMPLES_20_MS)
            samples %= SAMPLES_20_MS
    except MediaStreamError:
        pass


def add(pc, kind, track):
    way = "sendonly" if contract.publishes else "recvonly"
    transceiver = pc.addTransceiver(track or kind, direction=way)
    if kind == "video":
        side = RTCRtpSender if contract.publishes else RTCRtpReceiver
        wanted = (f"video/{contract.video}", "video/rtx")
        codecs = side.getCapabilities("video").codecs
        transceiver.setCodecPreferences([c for c in codecs if c.mimeType.lower() in wanted])


async def main():
    pc = RTCPeerConnection()
    pc.on("track", lambda track: asyncio.ensure_future(take(track)))
    if contract.audio:
        add(pc, "audio", Tone() if contract.publishes else None)
    if contract.video:
        add(pc, "video", Picture() if contract.publishes else None)
    await pc.setLocalDescription(await pc.createOffer())
    answer = await asyncio.to_thread(contract.post, pc.localDescription.sdp)
    await pc.setRemoteDescription(RTCSessionDescription(answer, "answer"))
    end = time.monotonic() + PATIENCE_S
    while pc.connectionState != "connected":
        if pc.connectionState in ("failed", "closed") or time.monotonic() > end:
            fail(f"the connection is {pc.connectionState}, ICE {pc.iceConnectionState}")
        await asyncio.sleep(0.05)
    contract.connected(f"aiortc {aiortc.__version__}")
    contract.obey()
    while not contract.stopped.is_set():
        await asyncio.sleep(0.1)
    await asyncio.to_thread(contract.leave)
    await pc.close()


asyncio.run(main())
