package api

import (
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"github.com/kmsctl/kms/controlplane"
)

// page is what the tests read of docs/control-api.yaml.
type page struct {
	Paths      map[string]map[string]operation `yaml:"paths"`
	Components struct {
		Parameters map[string]struct {
			Name string `yaml:"name"`
			In   string `yaml:"in"`
		} `yaml:"parameters"`
		Schemas map[string]struct {
			Properties map[string]any `yaml:"properties"`
		} `yaml:"schemas"`
	} `yaml:"components"`
}

type operation struct {
	OperationID string              `yaml:"operationId"`
	Parameters  []map[string]string `yaml:"parameters"`
	Responses   map[string]any      `yaml:"responses"`
}

func readPage(t *testing.T) page {
	t.Helper()
	text, err := os.ReadFile("../../docs/control-api.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var p page
	if err := yaml.Unmarshal(text, &p); err != nil {
		t.Fatal(err)
	}
	return p
}

// TestPage_isTheRouteTable holds docs/control-api.yaml and the routes against each other, both ways.
func TestPage_isTheRouteTable(t *testing.T) {
	p := readPage(t)
	routed := map[string]bool{}
	ids := map[string]bool{}
	for _, rt := range routes {
		routed[rt.method+" "+rt.path] = true
		op, ok := p.Paths[rt.path][strings.ToLower(rt.method)]
		if !ok {
			t.Errorf("the page lacks %s %s", rt.method, rt.path)
			continue
		}
		if op.OperationID == "" || ids[op.OperationID] {
			t.Errorf("%s %s: operationId %q is empty or taken", rt.method, rt.path, op.OperationID)
		}
		ids[op.OperationID] = true
		var want []string
		for _, m := range pathNames.FindAllStringSubmatch(rt.path, -1) {
			want = append(want, "path "+m[1])
		}
		for _, q := range rt.query {
			want = append(want, "query "+q)
		}
		if rt.action != "" {
			want = append(want, "query message")
		}
		var got []string
		for _, ref := range op.Parameters {
			param := p.Components.Parameters[strings.TrimPrefix(ref["$ref"], "#/components/parameters/")]
			got = append(got, param.In+" "+param.Name)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s %s: the page has parameters %q, the route %q", rt.method, rt.path, got, want)
		}
	}
	for path, methods := range p.Paths {
		for method := range methods {
			if !routed[strings.ToUpper(method)+" "+path] {
				t.Errorf("the page has %s %s, which is no route", method, path)
			}
		}
	}
}

// TestPage_schemasAreTheTypes holds the fields of every schema against the Go type that is sent.
func TestPage_schemasAreTheTypes(t *testing.T) {
	p := readPage(t)
	types := map[string]any{"Error": controlplane.Error{}, "Status": controlplane.Status{}, "Component": controlplane.Component{}, "VersionInfo": controlplane.VersionInfo{},
		"Set": controlplane.Set{}, "Instance": controlplane.Instance{}, "BuildInfo": controlplane.BuildInfo{}, "ReleaseRequest": controlplane.ReleaseRequest{},
		"Release": controlplane.Release{}, "Gate": controlplane.Gate{}, "LeaseInfo": controlplane.LeaseInfo{}, "Step": controlplane.Step{}, "Plan": controlplane.Plan{}, "Pin": controlplane.Pin{}, "PinRequest": controlplane.PinRequest{}, "Canary": controlplane.Canary{}, "CanaryRequest": controlplane.CanaryRequest{},
		"CanaryReport": controlplane.CanaryReport{}, "CanarySide": controlplane.CanarySide{}, "Traffic": controlplane.Traffic{}, "DrainRequest": controlplane.DrainRequest{}, "Deprecation": controlplane.Deprecation{},
		"DeprecationRequest": controlplane.DeprecationRequest{}, "TenantChange": TenantChange{}, "TenantLimit": TenantLimit{},
		"BuildCheck": controlplane.BuildCheck{}, "GCRequest": controlplane.GCRequest{}, "GCBuild": controlplane.GCBuild{}, "Drain": controlplane.Drain{}, "Event": controlplane.Event{}, "LogLine": controlplane.LogLine{},
		"Connection": controlplane.Connection{}, "Finding": controlplane.Finding{}, "LinkInfo": controlplane.LinkInfo{}, "LinkRequest": controlplane.LinkRequest{},
		"LinkReport": controlplane.LinkReport{}, "BusStatus": controlplane.BusStatus{}, "BusLine": controlplane.BusLine{}, "NginxReport": controlplane.NginxReport{},
		"KickRequest": KickRequest{}, "Count": Count{}, "AuditEntry": AuditEntry{}, "Tenant": Tenant{}, "NewTenant": NewTenant{}, "Key": Key{}, "NewKey": NewKey{}, "MadeKey": MadeKey{},
		"NewToken": NewToken{}, "MadeToken": MadeToken{}, "Channel": Channel{}, "NewChannel": NewChannel{}, "FilePath": FilePath{},
		"NGWord": NGWord{}, "NGSettings": NGSettings{}, "NGListInfo": NGListInfo{}, "NGList": NGList{}, "NGChange": NGChange{}, "NGChanged": NGChanged{},
		"NGRollback": NGRollback{}, "NGRevision": NGRevision{}, "NGDiff": NGDiff{}, "NGPlan": NGPlan{}, "NGFinding": NGFinding{},
		"NGTexts": NGTexts{}, "NGVerdict": NGVerdict{}, "NGHit": NGHit{}}
	for name, schema := range p.Components.Schemas {
		sample, ok := types[name]
		if !ok {
			t.Errorf("the page has a schema %s that stands for no type", name)
			continue
		}
		want := jsonFields(reflect.TypeOf(sample))
		var got []string
		for field := range schema.Properties {
			got = append(got, field)
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("schema %s has %q, the type %q", name, got, want)
		}
		delete(types, name)
	}
	for name := range types {
		t.Errorf("the page lacks the schema %s", name)
	}
}

func jsonFields(t reflect.Type) []string {
	var out []string
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous:
			out = append(out, jsonFields(f.Type)...)
		case name != "-":
			out = append(out, name)
		}
	}
	return out
}

// TestRoutes_whatChangesIsAudited names the few routes that are not GET and yet change nothing; any other has to be audited.
func TestRoutes_whatChangesIsAudited(t *testing.T) {
	harmless := []string{"POST /v1/builds/{build}/verify", "POST /v1/plans/gc", "POST /v1/plans", "POST /v1/plans/restore", "POST /v1/tenants/{tenant}/nglists/test", "POST /v1/tenants/{tenant}/nglists/{list}/plan", "POST /v1/links/{link}/test", "POST /v1/bus/ping", "POST /v1/nginx/test"}
	for _, rt := range routes {
		if isChange := rt.method != "GET" && !slices.Contains(harmless, rt.method+" "+rt.path); isChange != (rt.action != "") {
			t.Errorf("%s %s: action %q", rt.method, rt.path, rt.action)
		}
	}
}
