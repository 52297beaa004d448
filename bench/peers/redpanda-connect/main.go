// Redpanda Connect with what a comparison needs of it and nothing else: Kafka, its mappings, and its WebAssembly
// processor. `keyway-bench connect` builds it and runs it with a configuration of its own.
package main

import (
	"context"

	_ "github.com/redpanda-data/benthos/v4/public/components/io"
	_ "github.com/redpanda-data/benthos/v4/public/components/pure"
	"github.com/redpanda-data/benthos/v4/public/service"
	_ "github.com/redpanda-data/connect/v4/public/components/kafka"
	_ "github.com/redpanda-data/connect/v4/public/components/redpanda"
)

func main() {
	service.RunCLI(context.Background())
}
