"""What is fast and how fast, each figure beside its floor (README.md)."""
