"""Knows the data sets, where they come from, and how files are read. It imports no torch."""
