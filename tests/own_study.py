"""The metrics of studies whose trials run a body of the tests' own."""

METRICS = """
[metrics.error]
goal = "min"
exact = true
[metrics.size]
goal = "min"
unit = "kB"
cheap = true
exact = true
[[objectives]]
metric = "error"
[[objectives]]
metric = "size"
"""
