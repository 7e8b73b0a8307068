package acl_test

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/causeway-p2p/causeway/relay/acl"
)

func Example() {
	list, err := acl.Parse(strings.NewReader(`
		allow 192.0.2.0/28 members   # the office
		deny  192.0.2.0/24
	`), "acl.txt")
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, ip := range []string{"192.0.2.1", "192.0.2.99", "198.51.100.1"} {
		rule, ok := list.Match("", netip.MustParseAddr(ip))
		if !ok {
			fmt.Println(ip, "matches no rule")
			continue
		}
		fmt.Println(ip, "matches", rule)
	}

	// Output:
	// 192.0.2.1 matches allow 192.0.2.0/28 members
	// 192.0.2.99 matches deny 192.0.2.0/24
	// 198.51.100.1 matches no rule
}
