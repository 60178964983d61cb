"""leakgauge: does a diffusion model leak its training images?  One module here = one DVC stage."""
