"""leakgauge: does a diffusion model leak its training images?  One module here = one DVC stage."""

from leakgauge.cli import end_with_dvc

end_with_dvc()  # before a stage imports torch, which takes seconds
