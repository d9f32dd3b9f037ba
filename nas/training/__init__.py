"""This package trains one model, and writes and reads the folder of a trained one."""
