"""Ours against implementations that others wrote: same weights, same inputs, same outputs."""
