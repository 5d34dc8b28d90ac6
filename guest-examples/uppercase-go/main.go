// Map: the text of `value` with its ASCII letters in upper case; other characters stay as they are.
//
// The batch is changed in place and handed back: the loop runs over the bytes of all rows at once.
package main

import (
	millstream "github.com/millstream/millstream/sdk/go"
	"github.com/millstream/millstream/sdk/go/mapper"
)

var line = []millstream.Field{{Name: "value", Kind: millstream.Text}}

func describe() (millstream.Signature, error) {
	return millstream.Signature{Inputs: line, Outputs: line}, nil
}

func uppercase(input *millstream.Batch) (*millstream.Batch, error) {
	bytes := input.Columns[0].Varlen.Bytes
	for i, b := range bytes {
		if b-'a' < 26 {
			bytes[i] = b - ('a' - 'A')
		}
	}
	return input, nil
}

func init() { mapper.Register(describe, uppercase) }

func main() {}
