package portmap_test

import (
	"context"
	"fmt"
	"os"
	"os/signal"

	"github.com/causeway-p2p/causeway/portmap"
)

func Example() {
	m, err := portmap.New(portmap.Config{
		Ports:    func() []portmap.Port { return []portmap.Port{{Protocol: portmap.UDP, Number: 4001}} },
		OnChange: func(mappings []portmap.Mapping) { fmt.Println("mapped:", mappings) },
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := m.Run(ctx); err != nil { // and removes the mappings in the end
		fmt.Println(err)
	}
	fmt.Println(m.Status().Text)
}
