// A key selector: the record's header `tenant` becomes its key, so that a tenant's records stay in order.
//
// This package has the name by which the bindings call it.
package export_keyway_plugin_selector

import (
	"fmt"

	types "go.bytecodealliance.org/pkg/wit/types"

	keyway "my-plugin/bindings/keyway_plugin_types"
	config "my-plugin/bindings/wasi_config_store"
)

// Select decides where a record goes. The same record has to get the same answer, or records that belong together are torn
// apart. An error refuses the record, and whoever sent it reads the text.
func Select(candidate keyway.Candidate, partitions uint32) types.Result[keyway.Target, string] {
	name := headerName()
	for _, header := range candidate.Headers {
		if header.Key == name && header.Value.IsSome() {
			return types.Ok[keyway.Target, string](keyway.MakeTargetKey(header.Value.Some()))
		}
	}
	return types.Err[keyway.Target](fmt.Sprintf("the record has no header `%s`", name))
}

// `key-selector = { plugin = "my-plugin", config = { header = "tenant" } }` in keyway.toml
func headerName() string {
	found := config.Get("header")
	if found.IsErr() {
		return "tenant"
	}
	return found.Ok().SomeOr("tenant")
}
