// What runs inside a browser's page. `install` is sent there as text, so it uses nothing from outside.

/** Puts `window.peer` there: `publish(options)`, `receive(options)`, `counts()`, `hold()`, `run()`, `leave()`. */
export function install() {
  const SAMPLES_20_MS = 960;
  let pc;
  let resource;
  let running = true;
  /** Of what was received since `run()`. */
  let lowest;
  let sound;

  /** A canvas whose frames come when asked for. */
  function picture({ width, height, fps }) {
    const canvas = Object.assign(document.createElement('canvas'), { width, height });
    document.body.append(canvas);
    const context = canvas.getContext('2d');
    const stream = canvas.captureStream(0);
    const [track] = stream.getVideoTracks();
    const source = track.requestFrame ? track : stream; // Firefox has it where the draft once had it
    let number = 0;
    setInterval(() => {
      if (!running) return;
      number += 1;
      context.fillStyle = `hsl(${number % 360} 60% 50%)`;
      context.fillRect(0, 0, width, height);
      context.fillStyle = 'white';
      context.fillRect((number * 5) % width, 0, 20, height);
      context.fillText(String(number), 20, 20);
      source.requestFrame();
    }, 1_000 / fps);
    return track;
  }

  function tone() {
    const context = new AudioContext();
    void context.resume();
    const oscillator = context.createOscillator();
    const destination = context.createMediaStreamDestination();
    oscillator.connect(destination);
    oscillator.start();
    return destination.stream.getAudioTracks()[0];
  }

  /** Offers only this codec, in all its profiles, with retransmission; with `others` behind it if that is wanted. */
  function prefer(transceiver, codec, capabilities, others = false) {
    const wanted = [`video/${codec}`, 'video/rtx'];
    const codecs = capabilities.codecs.filter(({ mimeType }) => wanted.includes(mimeType.toLowerCase()));
    if (codecs.every(({ mimeType }) => mimeType.endsWith('rtx'))) throw new Error(`this browser has no ${codec}`);
    const rest = others ? capabilities.codecs.filter((one) => !codecs.includes(one)) : [];
    transceiver.setCodecPreferences([...codecs, ...rest]);
  }

  async function connect({ url, token, overTcp }) {
    await pc.setLocalDescription();
    const headers = { 'Content-Type': 'application/sdp', Authorization: `Bearer ${token}` };
    const response = await fetch(url, { method: 'POST', headers, body: pc.localDescription.sdp });
    const text = await response.text();
    if (response.status !== 201) throw new Error(`POST ${url}: ${response.status} ${text.trim()}`);
    resource = new URL(response.headers.get('location'), url);
    const sdp = overTcp ? text.replaceAll(/^a=candidate:\S+ \d+ udp .*\r\n/gm, '') : text;
    await pc.setRemoteDescription({ type: 'answer', sdp });
    await new Promise((done, failed) => {
      const look = () => {
        console.log(`connection ${pc.connectionState}, ICE ${pc.iceConnectionState}`);
        if (pc.connectionState === 'connected') done();
        if (pc.connectionState === 'failed') failed(new Error(`the connection failed, ICE is ${pc.iceConnectionState}`));
      };
      pc.onconnectionstatechange = look;
      look();
    });
  }

  function send(options) {
    pc = new RTCPeerConnection({ bundlePolicy: 'max-bundle' });
    if (options.audio) {
      const track = tone();
      const { sender } = pc.addTransceiver(track, { direction: 'sendonly' });
      sound = { track, sender };
    }
    if (options.video) {
      const transceiver = pc.addTransceiver(picture(options), { direction: 'sendonly' });
      prefer(transceiver, options.video, RTCRtpSender.getCapabilities('video'), options.others);
    }
  }

  function show() {
    pc = new RTCPeerConnection({ bundlePolicy: 'max-bundle' });
    pc.ontrack = ({ track }) => {
      const element = document.createElement(track.kind);
      Object.assign(element, { srcObject: new MediaStream([track]), autoplay: true, playsInline: true });
      document.body.append(element);
      element.play().catch((error) => console.error(`play: ${error}`));
    };
  }

  /** The connection's own description, with all of its candidates. */
  async function described() {
    await pc.setLocalDescription();
    while (pc.iceGatheringState !== 'complete') await new Promise((done) => setTimeout(done, 20));
    return pc.localDescription.sdp;
  }

  window.peer = {
    async publish(options) {
      send(options);
      await connect(options);
    },
    async receive(options) {
      show();
      if (options.audio) pc.addTransceiver('audio', { direction: 'recvonly' });
      if (options.video) {
        const transceiver = pc.addTransceiver('video', { direction: 'recvonly' });
        prefer(transceiver, options.video, RTCRtpReceiver.getCapabilities('video'));
      }
      await connect(options);
    },
    /** Frames sent, or decoded; of sound 20 ms each, from the samples that were neither concealed nor stretched. */
    async counts() {
      const counts = {};
      for (const s of (await pc.getStats()).values()) {
        if (s.type === 'outbound-rtp') counts[s.kind] = s.kind === 'video' ? (s.framesSent ?? s.framesEncoded) : s.packetsSent;
        if (s.type !== 'inbound-rtp') continue;
        const stretched = (s.insertedSamplesForDeceleration ?? 0) - (s.removedSamplesForAcceleration ?? 0);
        const samples = (s.totalSamplesReceived ?? 0) - (s.concealedSamples ?? 0) - stretched;
        counts[s.kind] = s.kind === 'video' ? (s.framesDecoded ?? 0) : Math.floor(samples / SAMPLES_20_MS);
        if (s.kind === 'video' && s.frameHeight) lowest = Math.min(lowest ?? s.frameHeight, s.frameHeight);
      }
      return { ...counts, lowest };
    },
    hold() {
      running = false;
      void sound?.sender.replaceTrack(null);
    },
    run() {
      [running, lowest] = [true, undefined];
      void sound?.sender.replaceTrack(sound.track);
    },
    async leave({ token }) {
      await fetch(resource, { method: 'DELETE', headers: { Authorization: `Bearer ${token}` } });
      pc.close();
    },
    /** Connected to another browser instead of a server: one makes the offer and sends, the other answers, the first takes it. */
    async offerTo(options) {
      send({ ...options, others: true }); // Chromium refuses Firefox's retransmission of codecs that are left out
      return described();
    },
    async answerTo(sdp) {
      show();
      await pc.setRemoteDescription({ type: 'offer', sdp });
      return described();
    },
    take: (sdp) => pc.setRemoteDescription({ type: 'answer', sdp }),
    /** What the encoder makes, and what it says of why. */
    async encoding() {
      const all = [...(await pc.getStats()).values()];
      const s = all.find(({ type, kind }) => type === 'outbound-rtp' && kind === 'video') ?? {};
      const { frameHeight, framesPerSecond, framesEncoded, totalEncodeTime, bytesSent, qualityLimitationReason } = s;
      const encodeMs = framesEncoded ? Math.round((totalEncodeTime / framesEncoded) * 1_000) : undefined;
      return { encoded: frameHeight, fps: framesPerSecond, framesEncoded, encodeMs, bytesSent, qualityLimitationReason };
    },
    async decoding() {
      const all = [...(await pc.getStats()).values()];
      const s = all.find(({ type, kind }) => type === 'inbound-rtp' && kind === 'video') ?? {};
      return { shown: s.frameHeight, decoded: s.framesDecoded };
    },
    sdp: () => `${pc.localDescription.sdp}\n----\n${pc.remoteDescription.sdp}`,
  };
}
