module github.com/caisson-run/caisson/isolation/cni

go 1.25.0

replace github.com/caisson-run/caisson => ../..

require (
	github.com/caisson-run/caisson v0.0.0
	github.com/containernetworking/cni v1.3.1
	github.com/stretchr/testify v1.12.1
	github.com/vishvananda/netlink v1.3.1
)

require (
	github.com/vishvananda/netns v0.0.5 // indirect
	go.opentelemetry.io/otel v1.29.0 // indirect
	go.opentelemetry.io/otel/trace v1.29.0 // indirect
	go.uber.org/goleak v1.3.0 // indirect
	go.yaml.in/yaml/v3 v3.0.5 // indirect
	golang.org/x/sys v0.47.0 // indirect
)
