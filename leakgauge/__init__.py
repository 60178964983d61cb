"""Does a diffusion model leak its training images?  Membership inference by quantile regression.

    from leakgauge import Denoiser, QuantileBag, image_features, membership_metrics, t_errors

    target = Denoiser.from_pipeline("my_pipeline")  # a diffusers pipeline folder
    errors = lambda images: t_errors(target, target.encode(images), interval=10, count=11)[:, -1]  # at t = 100
    log_score = lambda images: np.log(errors(images).cpu().numpy())
    bag = QuantileBag("mlp").fit(image_features(auxiliary), log_score(auxiliary))  # certainly no members
    found = [bag.membership_scores(image_features(images), log_score(images)) for images in (members, holdout)]
    print(membership_metrics(*found))  # AUC, TPR at 1 % and 0.1 % FPR, with intervals

Images are (N, C, H, W) uint8.  docs/library.py is a walk that runs.  The pipeline in dvc.yaml does the same at any
size, with checks, calibrated verdicts and a page.
"""

from importlib import import_module
from typing import Any

_PUBLIC = {
    "Denoiser": "leakgauge.diffusion.denoiser",
    "QuantileBag": "leakgauge.bags",
    "image_features": "leakgauge.features",
    "membership_metrics": "leakgauge.inference.metrics",
    "t_errors": "leakgauge.attacks.t_error",
}
__all__ = list(_PUBLIC)


def __getattr__(name: str) -> Any:
    """Imported when it is asked for: torch takes seconds, and much of the pipeline needs none."""
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'leakgauge' has no attribute '{name}'")


def __dir__() -> list[str]:
    return __all__
