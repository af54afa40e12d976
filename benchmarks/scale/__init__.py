"""A cluster of many nodes on one machine: a real control plane, simulated kubelets.

A simulation: API server, etcd, controller manager and scheduler are the testbed's own programs, the
client is the installed command; but no kubelet, container, bpftrace or kernel is behind the nodes.
"""
