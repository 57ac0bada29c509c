"""Running only what the masks keep."""
