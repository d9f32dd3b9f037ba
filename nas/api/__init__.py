"""This package is what Python users call: `import nas` offers these as `nas.search`, `nas.open_study` and so on."""
