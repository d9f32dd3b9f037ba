"""The study file and its tables."""
