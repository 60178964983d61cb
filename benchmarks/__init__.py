"""Measurements on published material, outside the pipeline's own graph: nothing here is run by `dvc repro`."""
