package check

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

// kind is one of the kinds of object that the manifests have.
type kind struct {
	spec, model string // where its schema is
	new         func() any
}

var kinds = map[string]kind{
	"v1 Service":          {"api/v1", "io.k8s.api.core.v1.Service", func() any { return new(corev1.Service) }},
	"apps/v1 StatefulSet": {"apis/apps/v1", "io.k8s.api.apps.v1.StatefulSet", func() any { return new(appsv1.StatefulSet) }},
}

// decode reads the objects of a manifest. What the schema does not know, what it
// wants and is missing, a wrong type and a key given twice are errors.
func decode(manifest []byte) (objects []any, err error) {
	for _, text := range bytes.Split(manifest, []byte("\n---\n")) {
		var head struct{ APIVersion, Kind string }
		if err := yaml.Unmarshal(text, &head); err != nil {
			return nil, err
		}
		k, ok := kinds[head.APIVersion+" "+head.Kind]
		if !ok {
			return nil, fmt.Errorf("no schema for %q %q", head.APIVersion, head.Kind)
		}
		object := k.new()
		if err := yaml.UnmarshalStrict(text, object); err != nil {
			return nil, err
		}
		var plain any
		if err := yaml.Unmarshal(text, &plain); err != nil {
			return nil, err
		}
		all, err := schemasOf(k.spec)
		if err != nil {
			return nil, err
		}
		if faults := all.faults(schema{Ref: refPrefix + k.model}, head.Kind, plain); len(faults) > 0 {
			return nil, errors.New(strings.Join(faults, "; "))
		}
		objects = append(objects, object)
	}
	return objects, nil
}

// read reads a manifest, which must be without fault.
func read(t *testing.T, file string) []any {
	t.Helper()
	manifest, err := os.ReadFile(filepath.Join("..", file))
	if err != nil {
		t.Fatal(err)
	}
	objects, err := decode(manifest)
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return objects
}

func TestManifests(t *testing.T) {
	files, err := filepath.Glob("../*.yaml")
	if err != nil || len(files) < 2 {
		t.Fatalf("found %v, %v", files, err)
	}
	for _, f := range files {
		read(t, filepath.Base(f))
	}
}

// TestFaults holds that the check finds what it is for.
func TestFaults(t *testing.T) {
	good, err := os.ReadFile("../loadbalancer.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, old, new, want string }{
		{"unknown field", "replicas: 1", "replica: 1", `unknown field "replica"`},
		{"unknown field, deep", "readOnlyRootFilesystem:", "readOnlyRootFileSystem:", "securityContext.readOnlyRootFileSystem is unknown"},
		{"wrong type", "containerPort: 9464", `containerPort: "9464"`, "int32"},
		{"wrong type, quoted", `value: "true"`, "value: true", "env[3].value: true is no string"},
		{"not a quantity", "memory: 512Mi", "memory: 512 MB", "quantities"},
		{"missing", "  selector:\n    matchLabels: {app.kubernetes.io/name: relayd}\n", "", "StatefulSet.spec.selector is missing"},
		{"missing, deep", "- name: relayd\n          image", "- image", "containers[0].name is missing"},
		{"twice", "replicas: 1", "replicas: 1\n  replicas: 1", "already set"},
		{"unknown kind", "kind: StatefulSet", "kind: Statefulset", `"Statefulset"`},
		{"another version", "apiVersion: apps/v1", "apiVersion: apps/v1beta1", "v1beta1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bad := strings.Replace(string(good), tt.old, tt.new, 1)
			if bad == string(good) {
				t.Fatalf("the manifest has no %q", tt.old)
			}
			if _, err := decode([]byte(bad)); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%s in place of %s: %v, want an error with %s", tt.new, tt.old, err, tt.want)
			}
		})
	}
}
