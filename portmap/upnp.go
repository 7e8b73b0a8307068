package portmap

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/huin/goupnp"
	"github.com/huin/goupnp/dcps/internetgateway2"
	"github.com/huin/goupnp/soap"
)

// igd is what the three services that map ports have in common.
type igd interface {
	GetExternalIPAddressCtx(context.Context) (string, error)
	AddPortMappingCtx(ctx context.Context, remote string, external uint16, protocol string, internal uint16, client string, enabled bool, description string, seconds uint32) error
	DeletePortMappingCtx(ctx context.Context, remote string, external uint16, protocol string) error
	GetSpecificPortMappingEntryCtx(ctx context.Context, remote string, external uint16, protocol string) (internal uint16, client string, enabled bool, description string, seconds uint32, err error)
	GetGenericPortMappingEntryCtx(ctx context.Context, index uint16) (remote string, external uint16, protocol string, internal uint16, client string, enabled bool, description string, seconds uint32, err error)
}

// upnp is a gateway that speaks UPnP IGD, version 1 or 2.
type upnp struct {
	igd    igd
	at     netip.Addr
	client netip.Addr // our address
	name   namer
}

func findUPnP(ctx context.Context, r route, name namer, found chan<- gateway) {
	var devices sync.WaitGroup
	defer devices.Wait()
	err := search(ctx, r, func(location *url.URL, from netip.Addr) {
		devices.Go(func() {
			g, err := openUPnP(ctx, r, name, location, from)
			if err != nil {
				log.Debug("not a gateway", "method", UPnP, "addr", from, "err", err)
				return
			}
			offer(ctx, found, g)
		})
	})
	if err != nil && ctx.Err() == nil {
		log.Debug("no search", "method", UPnP, "err", err)
	}
}

// openUPnP makes sure that a device maps ports, and is connected.
func openUPnP(ctx context.Context, r route, name namer, location *url.URL, from netip.Addr) (*upnp, error) {
	device, err := deviceAddr(location, from)
	if err != nil {
		return nil, err
	}
	client := deviceClient(device.Addr(), r.local.Addr())
	root, err := describe(ctx, &client, location)
	if err != nil {
		return nil, fmt.Errorf("description: %w", err)
	}
	err = errors.New("it has no service that maps ports")
	for _, service := range services(root, client) {
		g := &upnp{igd: service, at: device.Addr(), client: r.local.Addr(), name: name}
		if _, err = g.external(ctx); err == nil {
			return g, nil
		}
	}
	return nil, err
}

// maxServices bounds how many services of one device are asked.
const maxServices = 4

// services are those of a device that map ports, the best first.
func services(root *goupnp.RootDevice, client http.Client) (list []igd) {
	open := func(urn string, as func(goupnp.ServiceClient) igd) {
		for _, s := range root.Device.FindService(urn) {
			if len(list) == maxServices || !s.ControlURL.Ok {
				continue
			}
			sc := goupnp.ServiceClient{SOAPClient: soap.NewSOAPClient(s.ControlURL.URL), RootDevice: root, Service: s}
			sc.SOAPClient.HTTPClient = client
			list = append(list, as(sc))
		}
	}
	open(internetgateway2.URN_WANIPConnection_2, func(c goupnp.ServiceClient) igd { return &internetgateway2.WANIPConnection2{ServiceClient: c} })
	open(internetgateway2.URN_WANIPConnection_1, func(c goupnp.ServiceClient) igd { return &internetgateway2.WANIPConnection1{ServiceClient: c} })
	open(internetgateway2.URN_WANPPPConnection_1, func(c goupnp.ServiceClient) igd { return &internetgateway2.WANPPPConnection1{ServiceClient: c} })
	return list
}

func (g *upnp) method() Method   { return UPnP }
func (g *upnp) addr() netip.Addr { return g.at }

func (g *upnp) external(ctx context.Context) (netip.Addr, error) {
	s, err := g.igd.GetExternalIPAddressCtx(ctx)
	if err != nil {
		return netip.Addr{}, short(err)
	}
	a, err := netip.ParseAddr(strings.TrimSpace(s))
	if err != nil || !a.Is4() || a.IsUnspecified() {
		return netip.Addr{}, errors.New("it is not connected: it has no external address")
	}
	return a, nil
}

// The errors that make sense to answer, of WANIPConnection:1 section 2.4.16.
const (
	errNoSuchEntry   = 714
	errConflict      = 718
	errPermanentOnly = 725
)

// otherPorts is how many random ports are tried where the one wished for is
// another's.
const otherPorts = 4

func (g *upnp) add(ctx context.Context, p Port, external uint16, lifetime time.Duration) (grant, error) {
	var err error
	for range 1 + otherPorts {
		err = g.addAs(ctx, p, external, lifetime)
		if code(err) == errPermanentOnly {
			lifetime = 0
			err = g.addAs(ctx, p, external, lifetime)
		}
		if code(err) != errConflict {
			break
		}
		external = uint16(1024 + rand.IntN(1<<16-1024))
	}
	if err != nil {
		return grant{}, short(err)
	}
	a, err := g.external(ctx)
	if err != nil {
		return grant{}, err
	}
	return grant{netip.AddrPortFrom(a, external), lifetime}, nil
}

func (g *upnp) addAs(ctx context.Context, p Port, external uint16, lifetime time.Duration) error {
	return g.igd.AddPortMappingCtx(ctx, "", external, soapProtocol(p.Protocol), p.Number, g.client.String(), true,
		g.name.description(), uint32(lifetime/time.Second))
}

func (g *upnp) remove(ctx context.Context, p Port, external uint16) error {
	return short(g.igd.DeletePortMappingCtx(ctx, "", external, soapProtocol(p.Protocol)))
}

func (g *upnp) check(ctx context.Context, l *lease) (netip.Addr, bool, error) {
	a, err := g.external(ctx)
	if err != nil {
		return a, false, err
	}
	internal, client, enabled, _, _, err := g.igd.GetSpecificPortMappingEntryCtx(ctx, "", l.External.Port(), soapProtocol(l.Protocol))
	if code(err) == errNoSuchEntry {
		return a, true, nil
	}
	if err != nil {
		return a, false, short(err)
	}
	return a, !enabled || internal != l.Number || strings.TrimSpace(client) != g.client.String(), nil
}

// maxEntries bounds the list of a router that is looked through.
const maxEntries = 64

// tidy removes mappings to this machine that have our name, and a port that we
// have no more: a node that crashed, and listens on another port now.
func (g *upnp) tidy(ctx context.Context, keep []Port) {
	type entry struct {
		external uint16
		port     Port
	}
	var old []entry
	for i := range uint16(maxEntries) {
		_, external, protocol, internal, client, _, description, _, err := g.igd.GetGenericPortMappingEntryCtx(ctx, i)
		if err != nil {
			break // the end of the list, or of its patience
		}
		p := Port{Protocol(strings.ToLower(protocol)), internal}
		if description == g.name.description() && client == g.client.String() && !slices.Contains(keep, p) {
			old = append(old, entry{external, p})
		}
	}
	for _, e := range old {
		if err := g.remove(ctx, e.port, e.external); err == nil {
			log.Info("old port mapping removed", "port", e.port, "gateway", g.at)
		}
	}
}

func soapProtocol(p Protocol) string { return strings.ToUpper(string(p)) }

// code is the UPnP error in an answer, or 0.
func code(err error) int {
	var fault *soap.SOAPFaultError
	if errors.As(err, &fault) {
		return fault.Detail.UPnPError.Errorcode
	}
	return 0
}

// maxText bounds what a device may say in our log.
const maxText = 80

// short says what is of use in an error of goupnp, which has the whole answer
// in it.
func short(err error) error {
	if err == nil {
		return nil
	}
	if c := code(err); c != 0 {
		var fault *soap.SOAPFaultError
		errors.As(err, &fault)
		return fmt.Errorf("UPnP error %d: %.*q", c, maxText, fault.Detail.UPnPError.ErrorDescription)
	}
	if text := err.Error(); len(text) > 2*maxText {
		return fmt.Errorf("%.*s…", 2*maxText, text)
	}
	return err
}
