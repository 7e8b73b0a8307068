package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/causeway-p2p/causeway/admin"
	"github.com/causeway-p2p/causeway/internal/cli"
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
			s, err := o.open(cmd, true)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, s.close()) }()
			p := pinger{out: cmd.OutOrStdout(), json: asJSON}
			err = s.Ping(cmd.Context(), id, count, interval, timeout, p.line)
			if err != nil && cmd.Context().Err() == nil {
				return explain(err)
			}
			return p.verdict()
		},
	}
	f := cmd.Flags()
	f.IntVarP(&count, "count", "c", 4, "how many pings (0: until Ctrl-C)")
	f.DurationVarP(&interval, "interval", "i", time.Second, "time between two pings")
	f.DurationVarP(&timeout, "timeout", "t", 30*time.Second, "how long to try for each")
	f.BoolVar(&asJSON, "json", false, "print each ping, and each upgrade of the path, as a JSON object")
	return cmd
}

// pinger prints pings and counts them.
type pinger struct {
	out      io.Writer
	json     bool
	answered int
	last     error
}

func (p *pinger) line(l admin.PingLine) bool {
	switch {
	case l.Upgrade != nil:
	case l.Error != nil:
		p.last = l.Error
	default:
		p.answered++
	}
	var err error
	switch {
	case p.json && l.Upgrade != nil:
		err = json.NewEncoder(p.out).Encode(admin.UpgradeLine{Upgrade: *l.Upgrade})
	case p.json:
		err = json.NewEncoder(p.out).Encode(l)
	case l.Upgrade != nil:
		_, err = fmt.Fprintf(p.out, "     path upgraded to %s after %s\n", l.Upgrade.To, cli.Duration(l.Upgrade.After))
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

// verdict is an error if nobody answered.
func (p *pinger) verdict() error {
	if p.answered > 0 || p.last == nil {
		return nil
	}
	return explain(p.last)
}
