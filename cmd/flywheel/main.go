// Command flywheel is DevOps for AI agents in one binary.
package main

import (
	"context"
	"os"

	"flywheel/internal/app"
	"flywheel/internal/cli"
)

func main() {
	os.Exit(cli.Main(context.Background(), cli.System(), app.Program{}))
}
