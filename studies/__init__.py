"""Studies: when the attack fails, what stops it, what it costs.  A pipeline of its own on the same library."""

from leakgauge.cli import end_with_dvc

end_with_dvc()  # before a study imports torch, which takes seconds
