module example/machine-times-go

go 1.24

require github.com/millstream/millstream/sdk/go v0.0.0

replace github.com/millstream/millstream/sdk/go => ../../sdk/go
