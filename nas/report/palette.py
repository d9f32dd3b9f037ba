"""Defines the report's colours by name, for light and dark paper. Marks differ in shape as well."""

LIGHT = {
    "ink": "#1b1f24",
    "soft": "#5c6670",
    "faint": "#9aa4ae",
    "line": "#d9dee3",
    "paper": "#ffffff",
    "front": "#0b5aa2",
    "infeasible": "#b35900",
    "failed": "#b3202c",
    "baseline": "#75339c",
}
DARK = {
    "ink": "#e8eaed",
    "soft": "#a5aeb8",
    "faint": "#707b86",
    "line": "#343b43",
    "paper": "#14171a",
    "front": "#6cb4f5",
    "infeasible": "#f0a04b",
    "failed": "#f2777f",
    "baseline": "#c99bea",
}
