package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/spf13/pflag"

	"github.com/causeway-p2p/causeway/internal/cli"
	"github.com/causeway-p2p/causeway/node"
)

// tokenOptions say what to show relays.
type tokenOptions struct {
	text, path string
	file       tokenFile
}

func (o *tokenOptions) add(fs *pflag.FlagSet) {
	fs.StringVar(&o.text, "token", "", "token from a relay's operator, to be served better there")
	fs.StringVar(&o.path, "token-file", "", "file with the token; \"peer up\" takes a new one from there within seconds")
}

// give gives a node its token before it starts.
func (o *tokenOptions) give(n *node.Node) error {
	token := o.text
	switch {
	case o.text != "" && o.path != "":
		return cli.Usage(errors.New("both --token and --token-file are set"), "one of them")
	case o.path != "":
		var err error
		if token, err = readToken(o.path); err != nil {
			return cli.Fail(err, "another --token-file, or none")
		}
		o.file = tokenFile{path: o.path, current: token}
	}
	if err := n.SetToken(token); err != nil {
		return cli.Usage(err, "ask the relay's operator for a token for %s", n.ID())
	}
	return nil
}

// follow gives the node what comes to stand in the token file, until stop is
// called.
func (o *tokenOptions) follow(ctx context.Context, n *node.Node, errs io.Writer) (stop func()) {
	if o.path == "" {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	running.Go(func() {
		o.file.follow(ctx, n.SetToken, func(err error) {
			fmt.Fprintf(errs, "Warning: %v; the token stays as it was\n", err)
		})
	})
	return func() { cancel(); running.Wait() }
}

// tokenFile is a file with a token, which may change.
type tokenFile struct {
	path    string
	current string // what was last taken from it
	last    string // what was last read
}

// tokenPoll is how often it is read. A token is taken at the second reading, in
// case it is just being written at the first.
const tokenPoll = 2 * time.Second

// follow calls set with each new token. It warns of trouble, once while it
// stays the same.
func (f *tokenFile) follow(ctx context.Context, set func(string) error, warn func(error)) {
	tick := time.NewTicker(tokenPoll)
	defer tick.Stop()
	trouble := ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		token, changed, err := f.read()
		if changed {
			trouble = ""
			if err = set(token); err != nil {
				err = fmt.Errorf("token file %s: %w", f.path, err)
			}
		}
		if err != nil && err.Error() != trouble {
			trouble = err.Error()
			warn(err)
		}
	}
}

// read tells whether something else stands in the file.
func (f *tokenFile) read() (token string, changed bool, err error) {
	token, err = readToken(f.path)
	if err != nil {
		return "", false, err
	}
	settled := token == f.last
	f.last = token
	if !settled || token == f.current {
		return "", false, nil
	}
	f.current = token
	return token, true, nil
}

// maxTokenFile bounds what is read, in bytes; a token has some 300.
const maxTokenFile = 4096

// readToken reads a token file. An empty one says that there is none.
func readToken(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("token file: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxTokenFile+1))
	if err != nil {
		return "", fmt.Errorf("token file: %w", err)
	}
	if len(data) > maxTokenFile {
		return "", fmt.Errorf("token file %s has more than %d bytes, no token has", path, maxTokenFile)
	}
	return strings.TrimSpace(string(data)), nil
}
