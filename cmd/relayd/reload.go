package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/causeway-p2p/causeway/internal/cli"
)

// reload reads everything again that can change while we run, as SIGHUP asks.
func (r *running) reload(args []string) {
	if what, err := r.reloadLimits(args); err != nil {
		r.say("limits: those before stay in force: %s", cli.OneLine(err))
	} else {
		r.say("limits read again: %s", what)
	}
	r.access.reload()
	r.tls.reload()
}

// reloadLimits says in words what it has changed.
func (r *running) reloadLimits(args []string) (string, error) {
	l, err := limitsAgain(args)
	if err != nil {
		return "", err
	}
	host := r.node.Relay()
	if host == nil {
		return "", errors.New("this node is no relay")
	}
	if r.access.acl != nil {
		if err := checkClasses(r.access.acl.List(), l); err != nil {
			return "", err
		}
	}
	was := host.Status().Limits
	if err := host.SetLimits(l); err != nil {
		return "", err
	}
	list := changes(was, host.Status().Limits)
	if len(list) == 0 {
		return "nothing changed", nil
	}
	return strings.Join(list, ", "), nil
}

// take puts into force what was read from a file.
func (r *running) take(n news) {
	host := r.node.Relay()
	switch {
	case host == nil:
	case n.err != nil:
		r.say("%s", cli.OneLine(n.err))
	case n.trust != nil:
		host.SetTrust(*n.trust)
		r.say("revocations read again: %s", entries(n.trust.Revoked.Len()))
	case n.acl != nil:
		if err := checkClasses(n.acl, host.Status().Limits); err != nil {
			r.say("ACL: the rules before stay in force: %s", cli.OneLine(err))
			return
		}
		host.SetACL(n.acl)
		r.say("ACL read again: %s", many(n.acl.Len(), "rule"))
	}
}

func entries(n int) string {
	if n == 1 {
		return "1 entry"
	}
	return fmt.Sprintf("%d entries", n)
}

func (r *running) say(format string, args ...any) {
	cli.PrintLine(r.out, time.Now(), fmt.Sprintf(format, args...))
}
