package cli

import (
	"fmt"
	"strings"
	"time"

	"github.com/causeway-p2p/causeway/direct"
	"github.com/causeway-p2p/causeway/node"
)

// writePaths says of each peer that is reached through a relay why that is so,
// and of each that was that it is no more.
func writePaths(row func(string, string, ...any), paths []node.DirectPath, now time.Time) {
	name := "paths"
	for _, p := range paths {
		row(name, "%s %s", p.Peer, pathText(p, now))
		name = ""
	}
}

func pathText(p node.DirectPath, now time.Time) string {
	if p.Direct {
		if p.DirectSince.IsZero() {
			return p.Path.String()
		}
		return fmt.Sprintf("%s for %s, upgraded from a relayed path", p.Path, seconds(now.Sub(p.DirectSince)))
	}
	via := p.Path.String()
	if p.Path.Transport == "wss" {
		via += " over TLS" // which is what some networks want
	}
	return fmt.Sprintf("%s for %s: %s", via, seconds(now.Sub(p.Since)), WhyRelayed(p, now))
}

// WhyRelayed says why the path to a peer is not direct, and what is done about
// it.
func WhyRelayed(p node.DirectPath, now time.Time) (text string) {
	switch {
	case p.Why != "":
		text += p.Why
	case p.Outcome != "":
		text += strings.ReplaceAll(string(p.Outcome), "_", " ")
	case p.Attempts > 0:
		text += "a direct path is being tried"
	default:
		text += "no direct path was tried yet"
	}
	if p.Outcome != "" {
		text += " (tried " + times(p.Attempts)
		if wait := p.Again.Sub(now); wait > 0 {
			text += ", again in " + seconds(wait)
		} else if p.Again.IsZero() && p.Outcome != direct.Unsupported {
			text += ", next when the peer begins"
		}
		text += ")"
	}
	return text
}

// seconds is a duration that is not nothing, in whole seconds.
func seconds(d time.Duration) string { return max(d.Round(time.Second), time.Second).String() }

func times(n int) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}
