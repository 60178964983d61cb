"""Studies: when the attack fails, what stops it, what it costs.  A pipeline of its own on the same library."""
