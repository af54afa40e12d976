"""A real two-node Kubernetes on this machine, from Debian's packages: see README.md."""
