package admin

import (
	"encoding/json"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/causeway-p2p/causeway/internal/virtual"
	"github.com/causeway-p2p/causeway/node"
)

// TestUpgradeIsTold: an upgrade is told once, where it belongs: before the
// first ping that is direct, even if word of it comes a moment later.
func TestUpgradeIsTold(t *testing.T) {
	relayed, direct := node.Path{Relay: someRelay(t), Transport: "quic"}, node.Path{Transport: "quic"}
	type step struct {
		event node.Event
		after time.Duration // the event comes that long after
		ping  node.Path
		err   string
	}
	upgrade := func(who peer.ID) node.Event {
		return node.PathChanged{Peer: who, From: relayed, To: direct, Held: 312 * time.Millisecond}
	}
	for _, tt := range []struct {
		name  string
		steps []step
		want  string
	}{
		{"between two pings", []step{{ping: relayed}, {event: upgrade("p")}, {ping: direct}}, "relay upgrade direct"},
		{"before the first, so that one ping is one line", []step{{event: upgrade("p")}, {ping: direct}}, "direct"},
		{"an answer was on its way meanwhile", []step{{ping: relayed}, {event: upgrade("p")}, {ping: relayed}, {ping: direct}}, "relay relay upgrade direct"},
		{"an answer to the first was", []step{{event: upgrade("p")}, {ping: relayed}, {ping: direct}}, "relay upgrade direct"},
		{"word comes late", []step{{ping: relayed}, {event: upgrade("p"), after: 20 * time.Millisecond}, {ping: direct}}, "relay upgrade direct"},
		{"word never comes", []step{{ping: relayed}, {ping: direct}, {ping: direct}}, "relay direct direct"},
		{"another peer's", []step{{ping: relayed}, {event: upgrade("q")}, {ping: relayed}}, "relay relay"},
		{"another change", []step{{event: node.PathChanged{Peer: "p", To: relayed}}, {ping: relayed}, {event: node.Joined{}}, {ping: relayed}}, "relay relay"},
		{"twice", []step{{ping: relayed}, {event: upgrade("p")}, {ping: direct}, {ping: relayed}, {event: upgrade("p")}, {ping: direct}}, "relay upgrade direct fallback relay upgrade direct"},
		{"back and no word of it", []step{{ping: direct}, {err: "gone"}, {ping: relayed}, {ping: relayed}}, "direct error fallback relay relay"},
		{"an upgrade that no ping came to use", []step{{ping: relayed}, {event: upgrade("p")}, {ping: relayed}, {ping: relayed}}, "relay relay relay"},
		{"no answer between", []step{{ping: relayed}, {err: "gone"}, {event: upgrade("p")}, {ping: direct}}, "relay error upgrade direct"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			virtual.Test(t, func(t *testing.T) {
				events := make(chan node.Event, 10)
				w := httptest.NewRecorder()
				p := pinging{lines: newLineWriter(w), peer: "p", events: events}
				for _, s := range tt.steps {
					var err error
					switch {
					case s.event != nil && s.after > 0:
						time.AfterFunc(s.after, func() { events <- s.event })
					case s.event != nil:
						events <- s.event
					case s.err != "":
						err = p.write(PingLine{Error: &Error{Unreachable, s.err}})
					default:
						err = p.write(PingLine{Ping: node.Ping{Path: s.ping}})
					}
					if err != nil {
						t.Fatal(err)
					}
				}
				if got := said(t, w.Body.String()); got != tt.want {
					t.Errorf("got %s, want %s", got, tt.want)
				}
			})
		})
	}
}

func someRelay(t *testing.T) peer.ID {
	t.Helper()
	id, err := peer.Decode("12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X")
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// said names the lines of a ping.
func said(t *testing.T, body string) string {
	t.Helper()
	var names []string
	for line := range strings.Lines(body) {
		var l PingLine
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		switch {
		case l.Upgrade != nil:
			names = append(names, "upgrade")
			if !l.Upgrade.From.Relayed() || !l.Upgrade.To.Direct() {
				t.Errorf("upgrade on the wire: %s", line)
			}
			if strings.Contains(line, "rtt") {
				t.Errorf("an upgrade has no round trip: %s", line)
			}
		case l.Fallback != nil:
			names = append(names, "fallback")
			if !l.Fallback.From.Direct() || !l.Fallback.To.Relayed() || strings.Contains(line, "rtt") {
				t.Errorf("fallback on the wire: %s", line)
			}
		case l.Error != nil:
			names = append(names, "error")
		case l.Path.Direct():
			names = append(names, "direct")
		default:
			names = append(names, "relay")
		}
	}
	return strings.Join(names, " ")
}

// TestUpgradeAfter: the time is that since the first ping over the relay was
// sent, whatever became of the connection meanwhile.
func TestUpgradeAfter(t *testing.T) {
	virtual.Test(t, func(t *testing.T) {
		relayed := node.Path{Relay: someRelay(t), Transport: "quic"}
		events := make(chan node.Event, 1)
		w := httptest.NewRecorder()
		p := pinging{lines: newLineWriter(w), peer: "p", events: events}
		for range 26 {
			if err := p.write(PingLine{Ping: node.Ping{RTT: 40 * time.Millisecond, Path: relayed}}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		}
		e := node.PathChanged{Peer: "p", From: relayed, To: node.Path{Transport: "tcp"}, Held: 11 * time.Second}
		e.Time = time.Now()
		events <- e
		if err := p.wait(t.Context(), time.After(time.Second)); err != nil {
			t.Fatal(err)
		}
		if got, want := w.Body.String(), `"after_ns":26040000000`; !strings.Contains(got, want) {
			t.Errorf("got %s, want %s in it", got, want)
		}
	})
}

// TestWaitTellsUpgradesAtOnce: not only when the next ping is due.
func TestWaitTellsUpgradesAtOnce(t *testing.T) {
	virtual.Test(t, func(t *testing.T) {
		events := make(chan node.Event, 1)
		w := httptest.NewRecorder()
		p := pinging{lines: newLineWriter(w), peer: "p", events: events, begun: true}
		done := make(chan error, 1)
		go func() { done <- p.wait(t.Context(), time.After(time.Hour)) }()
		events <- node.PathChanged{Peer: "p", From: node.Path{Relay: someRelay(t)}, To: node.Path{Transport: "tcp"}, Held: 312 * time.Millisecond}
		synctest.Wait()
		if got := said(t, w.Body.String()); got != "upgrade" {
			t.Errorf("right after the event: got %q, want the upgrade", got)
		}
		close(events) // the node stops; the next ping will say so
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
