// Command compose runs the demo with real NATs in Docker, and tells what
// happens there: relays are found, holes are punched, relays die, and nobody
// is restarted.
//
//	make compose-demo            the whole story, in a minute
//	make compose-demo KEEP=1     … and leaves the stage up, to look around
//	make compose-down            takes it down, images too
//
// It exits 0 only if every line of the story really happened. The stage is in
// compose.yml.
package main

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/causeway-p2p/causeway/internal/cli"
)

func main() { os.Exit(cli.Main(newRoot())) }

func newRoot() *cobra.Command {
	var keep bool
	root := &cobra.Command{
		Use:   "compose",
		Short: "Run relays and peers behind NATs in Docker, and tell what they do",
		Args:  cli.Args(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return run(cmd.Context(), newTeller(os.Stdout), keep)
		},
	}
	root.Flags().BoolVar(&keep, "keep", false, "leave everything running at the end, and say what to try")
	root.AddCommand(&cobra.Command{
		Use:   "down",
		Short: "Remove what a demo has left: containers, networks, volumes, images",
		Args:  cli.Args(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			st, err := newStage(ctx)
			if err != nil {
				return err
			}
			return errors.Join(st.down(ctx), st.removeImages(ctx))
		},
	})
	return root
}

// downTime bounds taking the stage down.
const downTime = 2 * time.Minute

// run sets up the stage, tells the story, and takes the stage down unless it is
// to be kept.
func run(ctx context.Context, out *teller, keep bool) error {
	st, err := newStage(ctx)
	if err != nil {
		return err
	}
	letGo, err := claim(st.name)
	if err != nil {
		return err
	}
	defer letGo()
	if err := st.prepare(ctx, out); err != nil {
		if ctx.Err() != nil {
			return end(ctx, st, out, err)
		}
		return err
	}
	s := newStory(st, out)
	defer s.close()
	err = s.tell(ctx)
	if err == nil && keep {
		if err = s.whatToTry(ctx); err == nil {
			return nil
		}
	}
	return end(ctx, st, out, err)
}

// end takes the stage down, for whatever reason, and returns that. It does so
// after Ctrl-C too; a second one ends the program at once.
func end(ctx context.Context, st *stage, out *teller, because error) error {
	interrupted := because != nil && ctx.Err() != nil
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), downTime)
	defer cancel()
	if because != nil && !interrupted {
		because = st.withLogs(ctx, because)
	}
	out.progress("taking the stage down")
	err := st.down(ctx)
	out.progress("")
	if interrupted && err == nil {
		return errors.New("interrupted; nothing of the demo is left running")
	}
	return errors.Join(because, err)
}
