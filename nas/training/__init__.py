"""Training one model, and the folder that it is kept in."""
