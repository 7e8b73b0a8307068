package cli

import "regexp"

// parseErrors are what package strconv and time say of a value, and what that
// means to whoever wrote it.
var parseErrors = []struct {
	said  *regexp.Regexp
	means string
}{
	{regexp.MustCompile(`strconv\.ParseBool: parsing "[^"]*": invalid syntax`), "want true or false"},
	{regexp.MustCompile(`strconv\.\w+: parsing ("[^"]*"): value out of range`), "$1 is too large"},
	{regexp.MustCompile(`strconv\.ParseFloat: parsing "[^"]*": invalid syntax`), "want a number"},
	{regexp.MustCompile(`strconv\.\w+: parsing "[^"]*": invalid syntax`), "want a whole number"},
	{regexp.MustCompile(`time: (invalid|missing unit in|unknown unit "[^"]*" in) duration "[^"]*"`), "want a time like 500ms or 10s"},
}

// plainly takes the names of Go's functions out of an error's text.
func plainly(text string) string {
	for _, p := range parseErrors {
		text = p.said.ReplaceAllString(text, p.means)
	}
	return text
}
