// Prints a compose file as `docker compose` itself understands it, as JSON: the same library, the same options.
//
//	go run . FILE [PROFILE...]
//
// With no profile given, COMPOSE_PROFILES counts (from the environment, else from the .env beside the file), as it does for
// `docker compose up`. Exit code 1 with the library's own words when the file is wrong.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/compose-spec/compose-go/v2/cli"
)

func main() {
	if len(os.Args) < 2 {
		fail(fmt.Errorf("usage: go run . FILE [PROFILE...]"))
	}
	options, err := cli.NewProjectOptions(
		os.Args[1:2],
		cli.WithOsEnv,
		cli.WithEnvFiles(),
		cli.WithDotEnv,
		cli.WithDefaultProfiles(os.Args[2:]...),
	)
	fail(err)
	project, err := options.LoadProject(context.Background())
	fail(err)
	json, err := project.MarshalJSON()
	fail(err)
	fmt.Println(string(json))
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
