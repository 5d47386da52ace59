package main

import (
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/pion/stun"
)

// selfAnswering is a socket whose own connectivity checks succeed. moonring-loadtest answers no checks, since an
// ICE-lite server sends none (RFC 8445 section 2.5); Pion, lite or not, takes no pair before a check of its own was
// answered. So Pion is handed the answer here. Media pass untouched: all that they pay is a look at two bytes.
type selfAnswering struct {
	*net.UDPConn
	passwords sync.Map // of clients, by their ufrag
	answers   chan answer
}

type answer struct {
	message []byte
	from    net.Addr
}

func newSelfAnswering(socket *net.UDPConn) *selfAnswering {
	return &selfAnswering{UDPConn: socket, answers: make(chan answer, 1024)}
}

// learn takes a client's credentials from its offer.
func (s *selfAnswering) learn(offer string) {
	s.passwords.Store(value(offer, "a=ice-ufrag:"), value(offer, "a=ice-pwd:"))
}

func (s *selfAnswering) forget(offer string) {
	s.passwords.Delete(value(offer, "a=ice-ufrag:"))
}

func (s *selfAnswering) WriteTo(b []byte, to net.Addr) (int, error) {
	if len(b) > 1 && b[0] == 0 && b[1] == 1 { // a Binding request (RFC 8489 section 5)
		s.answer(b, to)
		return len(b), nil
	}
	return s.UDPConn.WriteTo(b, to)
}

func (s *selfAnswering) ReadFrom(b []byte) (int, net.Addr, error) {
	for {
		select {
		case answer := <-s.answers:
			return copy(b, answer.message), answer.from, nil
		default:
		}
		n, from, err := s.UDPConn.ReadFrom(b)
		if !os.IsTimeout(err) {
			return n, from, err
		}
		if err := s.SetReadDeadline(time.Time{}); err != nil {
			return 0, nil, err
		}
	}
}

// answer puts the success response to a request where ReadFrom finds it, and wakes that.
func (s *selfAnswering) answer(raw []byte, to net.Addr) {
	request := &stun.Message{Raw: append([]byte{}, raw...)}
	var user stun.Username
	if request.Decode() != nil || user.GetFrom(request) != nil {
		return
	}
	ufrag, _, _ := strings.Cut(string(user), ":")
	password, known := s.passwords.Load(ufrag)
	own, isUDP := s.LocalAddr().(*net.UDPAddr)
	if !known || !isUDP {
		return
	}
	response, err := stun.Build(request, stun.BindingSuccess, &stun.XORMappedAddress{IP: own.IP, Port: own.Port},
		stun.NewShortTermIntegrity(password.(string)), stun.Fingerprint)
	if err != nil {
		return
	}
	select {
	case s.answers <- answer{response.Raw, to}:
		_ = s.SetReadDeadline(time.Unix(1, 0)) // fails on a closed socket only
	default: // lost, as on any network
	}
}

// value is what follows the first line that starts with name.
func value(sdp, name string) string {
	_, rest, _ := strings.Cut(sdp, "\n"+name)
	line, _, _ := strings.Cut(rest, "\n")
	return strings.TrimSpace(line)
}
