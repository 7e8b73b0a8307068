package child

import (
	"strings"
	"sync"
)

// head keeps the beginning of what a child says on its standard error, where a
// panic says what it is about.
type head struct {
	mu   sync.Mutex // guards text
	text []byte
}

const headSize = 2 << 10

func (h *head) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if room := headSize - len(h.text); room > 0 {
		h.text = append(h.text, p[:min(room, len(p))]...)
	}
	return len(p), nil
}

// String is what was kept, on lines of its own to follow an error; empty if
// nothing was said.
func (h *head) String() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.text) == 0 {
		return ""
	}
	return "\n  " + strings.ReplaceAll(strings.TrimSpace(string(h.text)), "\n", "\n  ")
}
