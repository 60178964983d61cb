"""Studies: when the attack fails, what stops it, what it costs.  A pipeline of its own over the rooms of `stages`."""
