package fastconn

import (
	"context"
	"net"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/p2p/transport/quicreuse"
	"github.com/quic-go/quic-go"
	"go.uber.org/fx"
)

// newQUIC builds libp2p's QUIC over our sockets. libp2p has no option for the
// sockets alone: this is what its own constructor does (go-libp2p v0.51,
// config/config.go, addTransports), less the registerer, of which quicreuse
// makes no use.
func newQUIC(key quic.StatelessResetKey, token quic.TokenGeneratorKey, rcmgr network.ResourceManager, lifecycle fx.Lifecycle) (*quicreuse.ConnManager, error) {
	cm, err := quicreuse.NewConnManager(
		key, token,
		quicreuse.OverrideListenUDP(listenUDP),
		quicreuse.VerifySourceAddress(rcmgr.VerifySourceAddress),
		quicreuse.ConnContext(func(ctx context.Context, client *quic.ClientInfo) (context.Context, error) {
			// The resource manager judges connections without an address, too.
			addr, err := quicreuse.ToQuicMultiaddr(client.RemoteAddr, quic.Version1)
			if err != nil {
				addr = nil
			}
			scope, err := rcmgr.OpenConnection(network.DirInbound, false, addr)
			if err != nil {
				return ctx, err
			}
			ctx = network.WithConnManagementScope(ctx, scope)
			context.AfterFunc(ctx, scope.Done)
			return ctx, nil
		}),
	)
	if err != nil {
		return nil, err
	}
	lifecycle.Append(fx.StopHook(cm.Close))
	return cm, nil
}

func listenUDP(nw string, addr *net.UDPAddr) (net.PacketConn, error) {
	c, err := net.ListenUDP(nw, addr)
	if err != nil {
		return nil, err
	}
	return receiveMany(c), nil
}
