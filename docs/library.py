"""The library in one walk, cell by cell: how much does a model leak, without DVC?

Run it as `python docs/library.py` after `dvc repro`, or open it in an editor that knows `# %%` cells.  With a model of
your own, exchange the first cell: three arrays of images and a diffusers pipeline folder are all that is needed.
"""

# %% Images of three roles, (N, C, H, W) uint8, and the model under audit
from pathlib import Path

import numpy as np

from leakgauge import Denoiser, QuantileBag, image_features, membership_metrics, t_errors
from leakgauge.tables import decode_images, read_table

ROLES = ("member", "auxiliary", "holdout")
pixels = {role: decode_images(read_table(Path(f"data/roles/digits_ddpm/{role}.parquet"))) for role in ROLES}
target = Denoiser.from_pipeline("models/target/digits_ddpm")

# %% The t-error at t = 10: the second of one walk in steps of 10
log_scores = {
    role: np.log(t_errors(target, target.encode(images), interval=10, count=2)[:, -1].cpu().numpy())
    for role, images in pixels.items()
}

# %% One threshold for all images
print("one threshold:", membership_metrics(-log_scores["member"], -log_scores["holdout"]))

# %% A threshold for each image: quantile regression on auxiliary images, which are certainly no members
features = {role: image_features(images) for role, images in pixels.items()}
bag = QuantileBag("mlp", n_attackers=10).fit(features["auxiliary"], log_scores["auxiliary"])
found = {role: bag.membership_scores(features[role], log_scores[role]) for role in ("member", "holdout")}
print("one for each:", membership_metrics(found["member"], found["holdout"]))

# %% p-values of "not a member", calibrated out of bag: 5 % of the holdout are at most 0.05
p_values = {role: bag.p_values(features[role], log_scores[role]) for role in ("member", "holdout")}
print({role: f"{(p <= 0.05).mean():.1%} of {len(p)} have p <= 0.05" for role, p in p_values.items()})
