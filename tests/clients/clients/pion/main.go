// Pion publishes or receives with its default engine: pion OPTIONS. It has no codecs: frames come from and go to files.
package main

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/rtp"
	"github.com/pion/rtp/codecs"
	"github.com/pion/webrtc/v3"
	"github.com/pion/webrtc/v3/pkg/media"
	"github.com/pion/webrtc/v3/pkg/media/samplebuilder"
)

const (
	patience  = 25 * time.Second
	reportGap = 100 * time.Millisecond
	soundTime = 20 * time.Millisecond
	maxLate   = 64 // packets
	ivfHeader = 32
)

type files struct{ Video, Audio string }

// options are the driver's (README, "The contract").
type options struct {
	Direction, URL, Token, Video string
	Audio                        bool
	FPS                          int
	Source, Sink                 files
}

// counter is how many frames have been sent, or received.
type counter struct{ video, audio int64 }

func (c *counter) of(kind string) *int64 {
	if kind == "video" {
		return &c.video
	}
	return &c.audio
}

var mimeTypes = map[string]string{
	"vp8": webrtc.MimeTypeVP8, "vp9": webrtc.MimeTypeVP9, "h264": webrtc.MimeTypeH264, "opus": webrtc.MimeTypeOpus,
}

var output sync.Mutex

func say(message map[string]interface{}) {
	line, _ := json.Marshal(message)
	output.Lock()
	defer output.Unlock()
	fmt.Println(string(line))
}

func fail(err error) {
	say(map[string]interface{}{"error": err.Error()})
	os.Exit(1)
}

func must(err error) {
	if err != nil {
		fail(err)
	}
}

func main() {
	log.SetFlags(0)
	var o options
	must(json.Unmarshal([]byte(os.Args[len(os.Args)-1]), &o))
	pc, err := webrtc.NewPeerConnection(webrtc.Configuration{})
	must(err)
	connected := make(chan struct{})
	pc.OnConnectionStateChange(func(state webrtc.PeerConnectionState) {
		log.Printf("connection: %s", state)
		switch state {
		case webrtc.PeerConnectionStateConnected:
			close(connected)
		case webrtc.PeerConnectionStateFailed:
			fail(fmt.Errorf("the connection failed, ICE is %s", pc.ICEConnectionState()))
		}
	})
	var counts counter
	var running int32 = 1
	start := func() {}
	if o.Direction == "publish" {
		start = publish(pc, o, &counts, &running)
	} else {
		receive(pc, o, &counts)
	}
	resource := negotiate(pc, o)
	select {
	case <-connected:
	case <-time.After(patience):
		fail(fmt.Errorf("the connection is %s, ICE %s", pc.ConnectionState(), pc.ICEConnectionState()))
	}
	say(map[string]interface{}{"state": "connected", "version": "Pion 3.1.56 (Debian)"})
	start()
	go report(&counts)
	obey(&running)
	request(http.MethodDelete, resource, o.Token, "")
	_ = pc.Close()
}

func report(counts *counter) {
	for range time.Tick(reportGap) {
		say(map[string]interface{}{"video": atomic.LoadInt64(&counts.video), "audio": atomic.LoadInt64(&counts.audio)})
	}
}

// obey returns when the driver says stop, or is gone.
func obey(running *int32) {
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		switch lines.Text() {
		case "hold":
			atomic.StoreInt32(running, 0)
		case "run":
			atomic.StoreInt32(running, 1)
		case "stop":
			return
		}
	}
}

func request(method, address, token, body string) (*http.Response, string) {
	r, err := http.NewRequest(method, address, strings.NewReader(body))
	must(err)
	r.Header.Set("Authorization", "Bearer "+token)
	r.Header.Set("Content-Type", "application/sdp")
	client := http.Client{Timeout: patience}
	response, err := client.Do(r)
	must(err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	must(err)
	return response, string(text)
}

// negotiate posts the offer and takes the answer; the resource's address is returned.
func negotiate(pc *webrtc.PeerConnection, o options) string {
	offer, err := pc.CreateOffer(nil)
	must(err)
	must(pc.SetLocalDescription(offer))
	response, text := request(http.MethodPost, o.URL, o.Token, pc.LocalDescription().SDP)
	if os.Getenv("CLIENTS_SDP") != "" {
		log.Printf("%s\n---- %d\n%s", pc.LocalDescription().SDP, response.StatusCode, text)
	}
	if response.StatusCode != http.StatusCreated {
		fail(fmt.Errorf("POST %s: %d %s", o.URL, response.StatusCode, strings.TrimSpace(text)))
	}
	must(pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: text}))
	base, err := url.Parse(o.URL)
	must(err)
	resource, err := base.Parse(response.Header.Get("Location"))
	must(err)
	return resource.String()
}

// publish adds the tracks; what it returns starts to send.
func publish(pc *webrtc.PeerConnection, o options, counts *counter, running *int32) func() {
	type stream struct {
		kind  string
		step  time.Duration
		file  string
		track *webrtc.TrackLocalStaticSample
	}
	var streams []stream
	add := func(kind, codec, file string, step time.Duration) {
		capability := webrtc.RTPCodecCapability{MimeType: mimeTypes[codec]}
		track, err := webrtc.NewTrackLocalStaticSample(capability, kind, "clients")
		must(err)
		sender, err := pc.AddTrack(track)
		must(err)
		go drain(sender)
		streams = append(streams, stream{kind, step, file, track})
	}
	if o.Audio {
		add("audio", "opus", o.Source.Audio, soundTime)
	}
	if o.Video != "" {
		add("video", o.Video, o.Source.Video, time.Second/time.Duration(o.FPS))
	}
	return func() {
		for _, s := range streams {
			frames := readFrames(s.file)
			go play(s.track, frames, s.step, counts.of(s.kind), running)
		}
	}
}

// drain reads RTCP, which is what makes Pion's interceptors see it.
func drain(sender *webrtc.RTPSender) {
	buffer := make([]byte, 1500)
	for {
		if _, _, err := sender.Read(buffer); err != nil {
			return
		}
	}
}

func play(track *webrtc.TrackLocalStaticSample, frames [][]byte, step time.Duration, count *int64, running *int32) {
	next := 0
	for range time.Tick(step) {
		if atomic.LoadInt32(running) == 0 {
			continue
		}
		must(track.WriteSample(media.Sample{Data: frames[next%len(frames)], Duration: step}))
		next++
		atomic.AddInt64(count, 1)
	}
}

func receive(pc *webrtc.PeerConnection, o options, counts *counter) {
	way := webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionRecvonly}
	if o.Audio {
		_, err := pc.AddTransceiverFromKind(webrtc.RTPCodecTypeAudio, way)
		must(err)
	}
	if o.Video != "" {
		_, err := pc.AddTransceiverFromKind(webrtc.RTPCodecTypeVideo, way)
		must(err)
	}
	pc.OnTrack(func(track *webrtc.TrackRemote, _ *webrtc.RTPReceiver) {
		log.Printf("track: %s, %s", track.Kind(), track.Codec().MimeType)
		kind, file, codec := track.Kind().String(), o.Sink.Audio, "opus"
		if kind == "video" {
			file, codec = o.Sink.Video, o.Video
		}
		take(track, codec, newWriter(file, codec, o), counts.of(kind))
	})
}

func depacketizer(codec string) rtp.Depacketizer {
	switch codec {
	case "vp8":
		return &codecs.VP8Packet{}
	case "vp9":
		return &codecs.VP9Packet{}
	case "h264":
		return &codecs.H264Packet{}
	}
	return &codecs.OpusPacket{}
}

func take(track *webrtc.TrackRemote, codec string, write func([]byte), count *int64) {
	builder := samplebuilder.New(maxLate, depacketizer(codec), track.Codec().ClockRate)
	for {
		packet, _, err := track.ReadRTP()
		if err != nil {
			return
		}
		builder.Push(packet)
		for sample := builder.Pop(); sample != nil; sample = builder.Pop() {
			if len(sample.Data) == 0 {
				continue
			}
			write(sample.Data)
			atomic.AddInt64(count, 1)
		}
	}
}

// readFrames returns the frames of an IVF file.
func readFrames(path string) [][]byte {
	bytes, err := os.ReadFile(path)
	must(err)
	var frames [][]byte
	for at := ivfHeader; at+12 <= len(bytes); {
		end := at + 12 + int(binary.LittleEndian.Uint32(bytes[at:]))
		if end > len(bytes) {
			break
		}
		frames = append(frames, bytes[at+12:end])
		at = end
	}
	return frames
}

// newWriter starts an IVF file whose frames are numbered from 0.
func newWriter(path, codec string, o options) func([]byte) {
	file, err := os.Create(path)
	must(err)
	header := make([]byte, ivfHeader)
	copy(header, "DKIF")
	binary.LittleEndian.PutUint16(header[6:], ivfHeader)
	copy(header[8:], map[string]string{"vp8": "VP80", "vp9": "VP90", "h264": "H264", "opus": "OPUS"}[codec])
	binary.LittleEndian.PutUint32(header[16:], uint32(o.FPS))
	binary.LittleEndian.PutUint32(header[20:], 1)
	_, err = file.Write(header)
	must(err)
	number := uint64(0)
	return func(frame []byte) {
		head := make([]byte, 12, 12+len(frame))
		binary.LittleEndian.PutUint32(head, uint32(len(frame)))
		binary.LittleEndian.PutUint64(head[4:], number)
		number++
		_, err := file.Write(append(head, frame...))
		must(err)
	}
}
