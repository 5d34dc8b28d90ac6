// Partition: keys that bring most of the rows have the first tasks to themselves, one each; the others share the rest.
package main

import (
	"errors"

	millstream "github.com/millstream/millstream/sdk/go"
	"github.com/millstream/millstream/sdk/go/partitioner"
)

// so many keys from 0 on are hot
var hot int64

func describe() (millstream.Signature, error) {
	given, set := millstream.Config("hot").(int64)
	if !set {
		return millstream.Signature{}, errors.New("`hot` is missing: expected how many keys are hot")
	}
	hot = given
	return millstream.Signature{Inputs: []millstream.Field{{Name: "key", Kind: millstream.Int64}}}, nil
}

// For each row the number of the task that gets it, less than targets.
func route(input *millstream.Batch, targets uint32) ([]uint32, error) {
	apart := min(max(hot, 0), int64(targets)-1)
	shared := int64(targets) - apart
	tasks := make([]uint32, input.Rows)
	for row, key := range input.Columns[0].Int64s {
		if key >= 0 && key < apart {
			tasks[row] = uint32(key)
		} else {
			tasks[row] = uint32(apart + (key%shared+shared)%shared)
		}
	}
	return tasks, nil
}

func init() { partitioner.Register(describe, route) }

func main() {}
