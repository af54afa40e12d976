"""kubectl trace: run bpftrace programs on the nodes and pods of a Kubernetes cluster."""
