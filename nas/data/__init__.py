"""Data sets: which there are, where they come from, and how files are read. Knows no torch."""
