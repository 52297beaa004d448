// A handler that greets: every value goes to the group's `output-topic` with a greeting before it.
//
// This package has the name by which the bindings call it.
package export_keyway_plugin_handler

import (
	"fmt"

	types "go.bytecodealliance.org/pkg/wit/types"

	keyway "my-plugin/bindings/keyway_plugin_types"
	config "my-plugin/bindings/wasi_config_store"
	log "my-plugin/bindings/wasi_logging_logging"
)

// Handle handles one record. Ok acknowledges it and writes the records returned; a failure leaves it to the group what becomes
// of it.
func Handle(message keyway.Message) types.Result[[]keyway.Outgoing, keyway.Failure] {
	if message.Value.IsNone() {
		// This record can never be handled; MakeFailureRetry would have it handled again later.
		return types.Err[[]keyway.Outgoing](keyway.MakeFailureReject("the record has no value"))
	}
	log.Log(log.LevelInfo, "", fmt.Sprintf("greeting %s/%d@%d", message.Topic, message.Partition, message.Offset))
	return types.Ok[[]keyway.Outgoing, keyway.Failure]([]keyway.Outgoing{{
		Topic:     types.None[string](), // the group's `output-topic`
		Partition: types.None[uint32](), // as the key decides
		Timestamp: message.Timestamp,
		Key:       message.Key,
		Value:     types.Some(fmt.Appendf(nil, "%s, %s", greeting(), message.Value.Some())),
		Headers:   message.Headers,
	}})
}

// `handler = { plugin = "my-plugin", config = { greeting = "hello" } }` in keyway.toml
func greeting() string {
	found := config.Get("greeting")
	if found.IsErr() {
		return "hello"
	}
	return found.Ok().SomeOr("hello")
}
