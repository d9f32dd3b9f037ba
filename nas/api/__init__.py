"""This package is the Python front door: `import nas` offers its functions as `nas.search`, `nas.open_study` and
so on.
"""
