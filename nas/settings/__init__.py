"""This package reads and checks the study file and its tables."""
