//go:build wasip1

// Package migrator exports, beside an aggregator or a processor, that it takes over state of other versions.
package migrator

import (
	"unsafe"

	millstream "github.com/millstream/millstream/sdk/go"
)

// Sources answers the states that the operator knows beside its own, each version once. They may be newer ones, that a
// rollback comes back from.
type Sources func() ([]millstream.StateSchema, error)

// Migrate answers in row i what row i of state becomes, with the fields of the operator's own state. From is a version of
// the sources, and state has its fields. A row's answer depends on the row alone.
type Migrate func(from uint32, state *millstream.Batch) (*millstream.Batch, error)

var (
	sources Sources
	migrate Migrate
)

// Register says what the operator takes over. Call it in an init function. An error of known refuses the configuration.
func Register(known Sources, function Migrate) { sources, migrate = known, function }

//go:wasmexport millstream:operator/migrator@0.1.0#sources
func exportSources() unsafe.Pointer { return millstream.AnswerSources(sources()) }

//go:wasmexport cabi_post_millstream:operator/migrator@0.1.0#sources
func freeSources(unsafe.Pointer) { millstream.Free() }

//go:wasmexport millstream:operator/migrator@0.1.0#migrate
func exportMigrate(from, rows uint32, columns unsafe.Pointer, length uint32) unsafe.Pointer {
	return millstream.AnswerBatch(migrate(from, millstream.Lift(rows, columns, length)))
}

//go:wasmexport cabi_post_millstream:operator/migrator@0.1.0#migrate
func freeMigrate(unsafe.Pointer) { millstream.Free() }
