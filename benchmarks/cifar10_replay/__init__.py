"""The learners on the published t-errors of the CIFAR-10 DDPM that this literature attacks."""
