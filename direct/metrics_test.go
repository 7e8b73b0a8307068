package direct

import (
	"os"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// The page and the registry name the same metrics and outcomes.
func TestMetricsAreDocumented(t *testing.T) {
	reg := prometheus.NewRegistry()
	m, err := newMeter(reg)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range outcomes {
		m.ended(Event{Outcome: o, Ours: NAT{}.kind(), Theirs: NAT{}.kind(), Guesses: 1})
	}
	page, err := os.ReadFile("../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(page), "## direct\n")
	text, _, _ = strings.Cut(text, "\n## ")
	all, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range all {
		if !strings.Contains(text, "`"+f.GetName()+"`") {
			t.Errorf("%s is not in docs/metrics.md", f.GetName())
		}
	}
	if got, want := strings.Count(text, "`causeway_"), len(all); got != want {
		t.Errorf("docs/metrics.md names %d metrics of direct, there are %d", got, want)
	}
	for _, o := range outcomes {
		if !strings.Contains(text, string(o)) {
			t.Errorf("outcome %s is not in docs/metrics.md", o)
		}
	}
}
