package check

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// find returns the one object of a type.
func find[T any](t *testing.T, objects []any) *T {
	t.Helper()
	for _, o := range objects {
		if o, ok := o.(*T); ok {
			return o
		}
	}
	t.Fatalf("no %T", *new(T))
	return nil
}

func env(c corev1.Container, name string) string {
	for _, e := range c.Env {
		if e.Name == name {
			return e.Value
		}
	}
	return ""
}

// TestRelay holds each manifest to what a relay needs, of which the schema knows
// nothing.
func TestRelay(t *testing.T) {
	for _, file := range []string{"hostport.yaml", "loadbalancer.yaml"} {
		t.Run(file, func(t *testing.T) {
			set := find[appsv1.StatefulSet](t, read(t, file))
			pod := set.Spec.Template.Spec
			c := pod.Containers[0]
			if !reflect.DeepEqual(set.Spec.Selector.MatchLabels, set.Spec.Template.Labels) {
				t.Errorf("selects %v, labels %v", set.Spec.Selector.MatchLabels, set.Spec.Template.Labels)
			}
			drain, err := time.ParseDuration(env(c, "RELAYD_DRAIN"))
			grace := time.Duration(*pod.TerminationGracePeriodSeconds) * time.Second
			if err != nil || grace < drain+10*time.Second {
				t.Errorf("killed after %v, drains for %v (%v): want 10 s between them", grace, drain, err)
			}
			if v := set.Spec.VolumeClaimTemplates[0].Name; c.VolumeMounts[0].Name != v || c.VolumeMounts[0].MountPath != env(c, "RELAYD_DATA_DIR") {
				t.Errorf("mounts %v, claims %q, the data directory is %q", c.VolumeMounts, v, env(c, "RELAYD_DATA_DIR"))
			}
			_, metrics, _ := strings.Cut(env(c, "RELAYD_METRICS"), ":")
			if got := set.Spec.Template.Annotations["prometheus.io/port"]; got != metrics {
				t.Errorf("scraped at port %s, metrics are at %s", got, metrics)
			}
			for name, command := range map[string][]string{
				"liveness":  slices.Concat(c.LivenessProbe.Exec.Command, []string{"--ready"}),
				"readiness": c.ReadinessProbe.Exec.Command,
			} {
				if want := []string{"/bin/relayd", "healthcheck", "--ready"}; !slices.Equal(command, want) {
					t.Errorf("%s: %q", name, command)
				}
			}
			s, cs := pod.SecurityContext, c.SecurityContext
			if !*s.RunAsNonRoot || *s.RunAsUser != 65532 || *s.FSGroup != 65532 || s.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault ||
				*cs.AllowPrivilegeEscalation || !*cs.ReadOnlyRootFilesystem || !slices.Contains(cs.Capabilities.Drop, "ALL") {
				t.Errorf("may do more than it must: %v, %v", s, cs)
			}
		})
	}
}

// TestSame holds that the two manifests differ only in how the relay is reached.
func TestSame(t *testing.T) {
	var sets []appsv1.StatefulSetSpec
	for _, file := range []string{"hostport.yaml", "loadbalancer.yaml"} {
		spec := find[appsv1.StatefulSet](t, read(t, file)).Spec
		c := &spec.Template.Spec.Containers[0]
		c.Env = slices.DeleteFunc(c.Env, func(e corev1.EnvVar) bool { return e.Name == "HOST_IP" || e.Name == "RELAYD_ANNOUNCE" })
		for i := range c.Ports {
			c.Ports[i].HostPort = 0
		}
		sets = append(sets, spec)
	}
	if !reflect.DeepEqual(sets[0], sets[1]) {
		t.Errorf("they differ:\n%+v\n%+v", sets[0], sets[1])
	}
}

// TestWays holds that both transports come in, over the node or the balancer.
func TestWays(t *testing.T) {
	want := map[corev1.Protocol]int32{corev1.ProtocolTCP: 4001, corev1.ProtocolUDP: 4001}
	got := make(map[corev1.Protocol]int32)
	for _, p := range find[appsv1.StatefulSet](t, read(t, "hostport.yaml")).Spec.Template.Spec.Containers[0].Ports {
		if p.HostPort != 0 {
			got[p.Protocol] = p.HostPort
		}
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("host ports %v, want %v", got, want)
	}
	objects := read(t, "loadbalancer.yaml")
	service, set := find[corev1.Service](t, objects), find[appsv1.StatefulSet](t, objects)
	got = make(map[corev1.Protocol]int32)
	for _, p := range service.Spec.Ports {
		if slices.ContainsFunc(set.Spec.Template.Spec.Containers[0].Ports, func(c corev1.ContainerPort) bool {
			return p.TargetPort == intstr.FromString(c.Name) && p.Protocol == c.Protocol && p.Port == c.ContainerPort
		}) {
			got[p.Protocol] = p.Port
		}
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("the balancer's ports %v, want %v", got, want)
	}
	if !reflect.DeepEqual(service.Spec.Selector, set.Spec.Template.Labels) {
		t.Errorf("the balancer selects %v, the pod has %v", service.Spec.Selector, set.Spec.Template.Labels)
	}
}
