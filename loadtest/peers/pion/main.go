// An SFU as Pion's users build one, to stand beside moonring in loadtest/compare.py: WHIP in, WHEP out, one
// TrackLocalStaticRTP per published track, the default interceptors, key frames asked of the publisher.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/pion/dtls/v2"
	"github.com/pion/interceptor"
	"github.com/pion/rtcp"
	"github.com/pion/webrtc/v3"
)

const (
	maxOffer       = 1 << 20
	socketBuffer   = 4 << 20          // the kernel's net.core.rmem_max and wmem_max still apply
	publisherInput = 10 * time.Second // how long a WHEP client waits for the tracks it asks for
)

var profiles = map[string]dtls.SRTPProtectionProfile{
	"aes-128-gcm":        dtls.SRTP_AEAD_AES_128_GCM,
	"aes-128-cm-sha1-80": dtls.SRTP_AES128_CM_HMAC_SHA1_80,
}

// track is what a publisher sends, and what asks it for a key frame.
type track struct {
	local *webrtc.TrackLocalStaticRTP
	pli   func()
}

type room struct {
	tracks  []*track
	changed chan struct{} // closed, and made anew, when tracks changes
}

type server struct {
	api    *webrtc.API
	socket *selfAnswering
	mutex  sync.Mutex
	rooms  map[string]*room
	peers  map[string]session
}

type session struct {
	*webrtc.PeerConnection
	offer string
}

func main() {
	listen := flag.String("listen", "127.0.0.1:18180", "address of HTTP, and of UDP for media")
	profile := flag.String("srtp", "aes-128-gcm", "the SRTP profile that is accepted: aes-128-gcm or aes-128-cm-sha1-80")
	flag.Parse()
	runtime.GOMAXPROCS(1) // one core against one shard
	socket, err := bind(*listen)
	if err != nil {
		log.Fatal(err)
	}
	api, err := newAPI(socket, *profile)
	if err != nil {
		log.Fatal(err)
	}
	s := &server{api: api, socket: socket, rooms: map[string]*room{}, peers: map[string]session{}}
	log.Printf("Pion v3 on %s, %s, SRTP %s alone", *listen, runtime.Version(), *profile)
	log.Fatal(http.ListenAndServe(*listen, s))
}

func bind(listen string) (*selfAnswering, error) {
	address, err := net.ResolveUDPAddr("udp", listen)
	if err != nil {
		return nil, err
	}
	socket, err := net.ListenUDP("udp", address)
	if err != nil {
		return nil, err
	}
	// Best effort: the kernel may give less.
	_, _ = socket.SetReadBuffer(socketBuffer), socket.SetWriteBuffer(socketBuffer)
	return newSelfAnswering(socket), nil
}

func newAPI(socket *selfAnswering, profile string) (*webrtc.API, error) {
	chosen, known := profiles[profile]
	if !known {
		return nil, fmt.Errorf("unknown SRTP profile %q", profile)
	}
	settings := webrtc.SettingEngine{}
	settings.SetLite(true)
	settings.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4})
	settings.SetIncludeLoopbackCandidate(true)
	settings.SetIPFilter(func(ip net.IP) bool { return ip.Equal(socket.LocalAddr().(*net.UDPAddr).IP) })
	settings.SetICEUDPMux(webrtc.NewICEUDPMux(nil, socket))
	settings.SetSRTPProtectionProfiles(chosen)
	media, interceptors := &webrtc.MediaEngine{}, &interceptor.Registry{}
	if err := media.RegisterDefaultCodecs(); err != nil {
		return nil, err
	}
	if err := webrtc.RegisterDefaultInterceptors(media, interceptors); err != nil {
		return nil, err
	}
	return webrtc.NewAPI(webrtc.WithSettingEngine(settings), webrtc.WithMediaEngine(media),
		webrtc.WithInterceptorRegistry(interceptors)), nil
}

// ServeHTTP knows POST /whip/{room}, POST /whep/{room} and DELETE of what they answer as Location.
func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	if r.Method == http.MethodDelete {
		s.leave(r.URL.Path)
		return
	}
	if r.Method != http.MethodPost || len(parts) != 2 || parts[0] != "whip" && parts[0] != "whep" {
		http.NotFound(w, r)
		return
	}
	offer, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxOffer))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	location, answer, err := s.join(parts[0], parts[1], string(offer))
	if err != nil {
		log.Printf("%s: %v", r.URL.Path, err)
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/sdp")
	w.Header().Set("Location", location)
	w.WriteHeader(http.StatusCreated)
	_, _ = io.WriteString(w, answer) // a client that went away is found by ICE
}

func (s *server) join(kind, name, offer string) (string, string, error) {
	peer, err := s.api.NewPeerConnection(webrtc.Configuration{})
	if err != nil {
		return "", "", err
	}
	s.socket.learn(offer)
	location := fmt.Sprintf("/%s/%s/%p", kind, name, peer)
	s.mutex.Lock()
	s.peers[location] = session{peer, offer}
	s.mutex.Unlock()
	peer.OnConnectionStateChange(func(state webrtc.PeerConnectionState) {
		if state == webrtc.PeerConnectionStateFailed || state == webrtc.PeerConnectionStateClosed {
			s.leave(location)
		}
	})
	answer, err := s.negotiate(peer, kind, name, offer)
	if err != nil {
		s.leave(location)
	}
	return location, answer, err
}

func (s *server) negotiate(peer *webrtc.PeerConnection, kind, name, offer string) (string, error) {
	if kind == "whip" {
		peer.OnTrack(func(remote *webrtc.TrackRemote, _ *webrtc.RTPReceiver) { s.forward(peer, name, remote) })
	}
	if err := peer.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeOffer, SDP: offer}); err != nil {
		return "", err
	}
	if kind == "whep" {
		if err := s.subscribe(peer, name); err != nil {
			return "", err
		}
	}
	answer, err := peer.CreateAnswer(nil)
	if err != nil {
		return "", err
	}
	gathered := webrtc.GatheringCompletePromise(peer)
	if err := peer.SetLocalDescription(answer); err != nil {
		return "", err
	}
	<-gathered
	return peer.LocalDescription().SDP, nil
}

// forward copies what a publisher sends to all who subscribed, until it ends.
func (s *server) forward(peer *webrtc.PeerConnection, name string, remote *webrtc.TrackRemote) {
	codec, kind := remote.Codec().RTPCodecCapability, remote.Kind().String()
	local, err := webrtc.NewTrackLocalStaticRTP(codec, kind, remote.StreamID())
	if err != nil {
		log.Print(err)
		return
	}
	pli := []rtcp.Packet{&rtcp.PictureLossIndication{MediaSSRC: uint32(remote.SSRC())}}
	published := &track{local, func() { _ = peer.WriteRTCP(pli) }} // fails once the publisher has gone
	s.change(name, func(r *room) { r.tracks = append(r.tracks, published) })
	defer s.change(name, func(r *room) {
		for i, known := range r.tracks {
			if known == published {
				r.tracks = append(r.tracks[:i:i], r.tracks[i+1:]...)
				return
			}
		}
	})
	buffer := make([]byte, 1500)
	for {
		n, _, err := remote.Read(buffer)
		if err != nil {
			return
		}
		// A subscriber that is just leaving is no reason to end.
		if _, err := local.Write(buffer[:n]); err != nil && !errors.Is(err, io.ErrClosedPipe) {
			log.Print(err)
		}
	}
}

// subscribe adds as many of the room's tracks as were asked for, once they are there.
func (s *server) subscribe(peer *webrtc.PeerConnection, name string) error {
	patience := time.After(publisherInput)
	for {
		var tracks []*track
		var changed chan struct{}
		s.with(name, func(r *room) { tracks, changed = r.tracks, r.changed })
		if wanted := len(peer.GetTransceivers()); len(tracks) >= wanted {
			return add(peer, tracks[:wanted])
		}
		select {
		case <-changed:
		case <-patience:
			return errors.New("nobody publishes that much there")
		}
	}
}

func add(peer *webrtc.PeerConnection, tracks []*track) error {
	for _, track := range tracks {
		sender, err := peer.AddTrack(track.local)
		if err != nil {
			return err
		}
		pli := track.pli
		go func() {
			for { // the interceptors see RTCP as it is read
				packets, _, err := sender.ReadRTCP()
				if err != nil {
					return
				}
				for _, packet := range packets {
					switch packet.(type) {
					case *rtcp.PictureLossIndication, *rtcp.FullIntraRequest:
						pli()
					}
				}
			}
		}()
	}
	return nil
}

func (s *server) change(name string, change func(*room)) {
	s.with(name, func(r *room) {
		change(r)
		close(r.changed)
		r.changed = make(chan struct{})
	})
}

func (s *server) with(name string, look func(*room)) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if s.rooms[name] == nil {
		s.rooms[name] = &room{changed: make(chan struct{})}
	}
	look(s.rooms[name])
}

func (s *server) leave(location string) {
	s.mutex.Lock()
	left, known := s.peers[location]
	delete(s.peers, location)
	s.mutex.Unlock()
	if known {
		s.socket.forget(left.offer)
		_ = left.Close() // nothing is left to do about it
	}
}
