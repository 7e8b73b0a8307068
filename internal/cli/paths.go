package cli

import (
	"fmt"
	"strings"
	"time"

	"github.com/causeway-p2p/causeway/node"
)

// writePaths says of each peer that is reached through a relay why that is so.
func writePaths(row func(string, string, ...any), paths []node.DirectPath, now time.Time) {
	name := "paths"
	for _, p := range paths {
		row(name, "%s %s", p.Peer, pathText(p, now))
		name = ""
	}
}

func pathText(p node.DirectPath, now time.Time) string {
	if p.Direct {
		return p.Path.String()
	}
	text := fmt.Sprintf("%s for %v: ", p.Path, now.Sub(p.Since).Round(time.Second))
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
		if wait := p.Again.Sub(now).Round(time.Second); wait > 0 {
			text += fmt.Sprintf(", again in %v", wait)
		}
		text += ")"
	}
	return text
}

func times(n int) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}
