package check

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/client-go/openapi/openapitest"
)

// schema is as much of an OpenAPI schema as the Kubernetes API uses.
type schema struct {
	Ref        string `json:"$ref"`
	AllOf      []schema
	OneOf      []schema // one kind of number or text each
	Type       string
	Properties map[string]schema
	Required   []string
	Values     *schema `json:"additionalProperties"` // of a map with any keys
	Items      *schema
}

const refPrefix = "#/components/schemas/"

// schemas are those of an API group by name.
type schemas map[string]schema

// schemasOf reads what client-go has of a group's version, like apis/apps/v1.
func schemasOf(spec string) (schemas, error) {
	paths, err := openapitest.NewEmbeddedFileClient().Paths()
	if err != nil {
		return nil, err
	}
	group, ok := paths[spec]
	if !ok {
		return nil, fmt.Errorf("no schemas of %s", spec)
	}
	text, err := group.Schema("application/json")
	if err != nil {
		return nil, err
	}
	var doc struct{ Components struct{ Schemas schemas } }
	return doc.Components.Schemas, json.Unmarshal(text, &doc)
}

// faults says what is wrong with a value, strictly: nothing that the schema does
// not name is let through.
func (all schemas) faults(s schema, at string, v any) (out []string) {
	if s.Ref != "" {
		named, ok := all[strings.TrimPrefix(s.Ref, refPrefix)]
		if !ok {
			return []string{fmt.Sprintf("%s: no schema %s", at, s.Ref)}
		}
		return all.faults(named, at, v)
	}
	for _, part := range s.AllOf {
		out = append(out, all.faults(part, at, v)...)
	}
	if len(s.OneOf) > 0 && !slices.ContainsFunc(s.OneOf, func(o schema) bool { return len(all.faults(o, at, v)) == 0 }) {
		out = append(out, fmt.Sprintf("%s: %v is of no type that is allowed", at, v))
	}
	if s.Type != "" && !isType(s.Type, v) {
		return append(out, fmt.Sprintf("%s: %v is no %s", at, v, s.Type))
	}
	switch v := v.(type) {
	case []any:
		if s.Type != "array" {
			break // the part of AllOf that has the type looks
		}
		for i, e := range v {
			out = append(out, all.faults(*s.Items, fmt.Sprintf("%s[%d]", at, i), e)...)
		}
	case map[string]any:
		if s.Type != "object" {
			break
		}
		for _, name := range s.Required {
			if _, ok := v[name]; !ok {
				out = append(out, fmt.Sprintf("%s.%s is missing", at, name))
			}
		}
		for _, name := range slices.Sorted(maps.Keys(v)) {
			field, ok := s.Properties[name]
			switch {
			case ok:
			case s.Values != nil:
				field = *s.Values
			default:
				out = append(out, fmt.Sprintf("%s.%s is unknown", at, name))
				continue
			}
			out = append(out, all.faults(field, at+"."+name, v[name])...)
		}
	}
	return out
}

// isType reports whether a value is of a type of JSON's.
func isType(name string, v any) (ok bool) {
	switch name {
	case "object":
		_, ok = v.(map[string]any)
	case "array":
		_, ok = v.([]any)
	case "string":
		_, ok = v.(string)
	case "boolean":
		_, ok = v.(bool)
	case "number":
		_, ok = v.(float64)
	case "integer":
		f, isNumber := v.(float64)
		ok = isNumber && f == float64(int64(f))
	}
	return ok
}
