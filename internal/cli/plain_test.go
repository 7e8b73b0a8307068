package cli

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestPlainly(t *testing.T) {
	_, noBool := strconv.ParseBool("maybe")
	_, noInt := strconv.Atoi("many")
	_, noFloat := strconv.ParseFloat("x", 64)
	_, tooLarge := strconv.ParseUint("99999", 10, 16)
	_, noTime := time.ParseDuration("soon")
	_, noUnit := time.ParseDuration("5")
	_, oddUnit := time.ParseDuration("5y")
	for _, c := range []struct {
		err  error
		want string
	}{
		{noBool, "want true or false"},
		{noInt, "want a whole number"},
		{noFloat, "want a number"},
		{tooLarge, `"99999" is too large`},
		{noTime, "want a time like 500ms or 10s"},
		{noUnit, "want a time like 500ms or 10s"},
		{oddUnit, "want a time like 500ms or 10s"},
		{errors.New("something else"), "something else"},
	} {
		if got, want := plainly(fmt.Sprintf("--flag: %v", c.err)), "--flag: "+c.want; got != want || strings.Contains(got, "strconv") {
			t.Errorf("plainly(%v): got %q, want %q", c.err, got, want)
		}
	}
}
