"""The command line: a module a verb, each parsing, calling and rendering, and no more."""
