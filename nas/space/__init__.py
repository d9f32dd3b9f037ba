"""This package describes the space of architectures, or of parameters, that a study searches."""
