"""Functions and their values. Pure.

From what a binary says about its functions to a bpftrace program that sees their calls, and from
what that program prints back to arguments and results: `catalog` finds functions, `native_abi` and
`go_abi` know where their arguments are, `shaping` how a value of a type is read and `values` how it
is shown, `writing` writes the program, `reading` reads what it prints.
"""
