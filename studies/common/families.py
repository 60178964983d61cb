"""The families of scores, and the timestep of each that a pilot recommends."""

from leakgauge.inference.roc import auc
from studies.common.audits import Audit
from studies.common.settings import Measure

FAMILIES = {  # name -> what its columns start with
    "naive loss": "loss_t",
    "SecMI (t-error)": "t_error_t",
    "PIA": "pia_t",
    "PIAN": "pian_t",
    "SimA": "sima_t",
    "ReDiffuse": "rediffuse_t",
}


def best_column(pilot: Audit, prefix: str, asked: Measure) -> str:
    """The column of a family that tells the pilot's members best with one threshold, by AUC."""
    columns = [name for name in pilot.roles["member"].log_scores if name.startswith(prefix)]
    member, holdout = (pilot.roles[role].log_scores for role in ("member", "holdout"))
    return max(columns, key=lambda name: auc(-member[name], -holdout[name], asked.confidence)[0])
