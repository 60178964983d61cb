"""Whether error rates, intervals and rules hold what they say, by simulation."""
