"""The bpftrace language as text. Pure functions, no I/O."""
