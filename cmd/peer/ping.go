package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/spf13/cobra"

	"github.com/causeway-p2p/causeway/admin"
	"github.com/causeway-p2p/causeway/internal/cli"
	"github.com/causeway-p2p/causeway/node"
)

func newPing(o *options) *cobra.Command {
	var (
		count             int
		interval, timeout time.Duration
		asJSON            bool
	)
	cmd := &cobra.Command{
		Use:   "ping PEER",
		Short: "Find a peer by its ID, connect, and show the path of each ping",
		Args:  cli.Args("PEER"),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			id, err := parsePeer(args[0])
			if err != nil {
				return err
			}
			if err := checkPing(count, interval, timeout); err != nil {
				return cli.Usage(err, "%s --help", cmd.CommandPath())
			}
			s, err := o.open(cmd, true)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, s.close()) }()
			p := pinger{out: cmd.OutOrStdout(), json: asJSON}
			err = s.Ping(cmd.Context(), id, count, interval, timeout, p.line)
			interrupted := cmd.Context().Err() != nil
			switch {
			case interrupted && p.answered == 0:
				return cli.ErrInterrupted
			case err != nil && !interrupted:
				return explain(cmd, err)
			}
			if p.relayed && (count != 1 || !asJSON) { // one ping is one object
				ctx, cancel := context.WithTimeout(context.WithoutCancel(cmd.Context()), whyTimeout)
				defer cancel()
				if status, err := s.Status(ctx); err == nil {
					p.why(id, status.Paths, time.Now())
				}
			}
			return explain(cmd, p.verdict())
		},
	}
	f := cmd.Flags()
	f.IntVarP(&count, "count", "c", 4, "how many pings (0: until Ctrl-C)")
	f.DurationVarP(&interval, "interval", "i", time.Second, "time between two pings")
	f.DurationVarP(&timeout, "timeout", "t", 30*time.Second, "how long to try for each")
	f.BoolVar(&asJSON, "json", false, "print each ping, each change of the path, and at the end why it is relayed, as a JSON object")
	return cmd
}

// checkPing finds all that is wrong with how to ping.
func checkPing(count int, interval, timeout time.Duration) error {
	var errs []error
	if count < 0 {
		errs = append(errs, fmt.Errorf("--count is %d, want 0 or more", count))
	}
	if interval <= 0 {
		errs = append(errs, fmt.Errorf("--interval is %v, want more than 0", interval))
	}
	if timeout <= 0 {
		errs = append(errs, fmt.Errorf("--timeout is %v, want more than 0", timeout))
	}
	return errors.Join(errs...)
}

// whyTimeout bounds asking why a path is relayed: the pings are over, and
// perhaps by Ctrl-C.
const whyTimeout = time.Second

// pinger prints pings and counts them.
type pinger struct {
	out      io.Writer
	json     bool
	answered int
	relayed  bool // the last answer came over a relay
	last     error
}

func (p *pinger) line(l admin.PingLine) bool {
	switch {
	case l.Upgrade != nil:
		p.relayed = false
	case l.Fallback != nil:
	case l.Error != nil:
		p.last = l.Error
	default:
		p.answered++
		p.relayed = l.Path.Relayed()
	}
	var err error
	switch {
	case p.json:
		err = json.NewEncoder(p.out).Encode(l)
	case l.Upgrade != nil:
		_, err = fmt.Fprintf(p.out, "     path upgraded to %s after %s\n", l.Upgrade.To, cli.Duration(l.Upgrade.After))
	case l.Fallback != nil:
		_, err = fmt.Fprintf(p.out, "     path %s again after %s\n", l.Fallback.To, cli.Duration(l.Fallback.After))
	case l.Error != nil:
		_, err = fmt.Fprintf(p.out, "%3d  no answer: %s\n", l.Seq, l.Error)
	default:
		_, err = fmt.Fprintf(p.out, "%3d  %-32s %s\n", l.Seq, l.Path, cli.Duration(l.RTT))
	}
	if err != nil {
		p.last = err
	}
	return err == nil
}

// why says why the path to a peer stayed relayed, if the node knows.
func (p *pinger) why(id peer.ID, paths []node.DirectPath, now time.Time) {
	i := slices.IndexFunc(paths, func(d node.DirectPath) bool { return d.Peer == id && !d.Direct })
	if i < 0 {
		return
	}
	var err error
	if p.json {
		err = json.NewEncoder(p.out).Encode(struct {
			Relayed node.DirectPath `json:"relayed"`
		}{paths[i]})
	} else {
		_, err = fmt.Fprintf(p.out, "     the path stayed relayed: %s\n", cli.WhyRelayed(paths[i], now))
	}
	if err != nil {
		p.last = err
	}
}

// verdict is an error if nobody answered.
func (p *pinger) verdict() error {
	if p.answered > 0 || p.last == nil {
		return nil
	}
	return p.last
}
