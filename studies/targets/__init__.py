"""Models to be attacked: other processes, networks and defences than the main pipeline trains.  Knows no attack."""
