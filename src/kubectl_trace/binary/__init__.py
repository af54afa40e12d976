"""Executables and shared libraries: ELF, Go. Pure: an open file in, facts out.

The files are a container's, and the reader has rights: every offset and count is checked, reads are
bounded, and nothing is mapped, since a file that is cut short while it is mapped kills the reader.
"""
