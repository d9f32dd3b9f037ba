"""The space of architectures that a study may choose from."""
