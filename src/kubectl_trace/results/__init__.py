"""Records of a trace: read from any bpftrace, rendered as bpftrace shows them. Pure, no I/O."""
