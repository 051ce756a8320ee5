// leaky is a plugin that takes memory until there is none.
package main

import (
	"context"

	"github.com/sluis-cdp/sluis/plugins/destination"
)

func main() { destination.Serve(leaky{}) }

type leaky struct{}

func (leaky) Describe() destination.Description {
	return destination.Description{Name: "leaky", Version: "1", Ops: []destination.Op{destination.Upsert}, Granularity: destination.PerRow}
}

func (leaky) Open(context.Context, map[string]string) error { return nil }

func (leaky) Write(ctx context.Context, _ destination.Batch) ([]destination.Result, error) {
	var kept [][]byte
	for ctx.Err() == nil {
		block := make([]byte, 16<<20)
		for i := 0; i < len(block); i += 4096 {
			block[i] = 1 // the kernel gives a page when it is written to
		}
		kept = append(kept, block)
	}
	return make([]destination.Result, len(kept)), ctx.Err()
}

func (leaky) Close(context.Context) error { return nil }
