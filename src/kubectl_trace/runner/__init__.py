"""What runs on the node: containers to processes, bpftrace under supervision, records out.

It needs no Kubernetes client: the same runner serves the target `local`.
"""
