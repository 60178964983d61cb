"""Where networks run: the accelerator if there is one, in plain float32 and deterministic, else the CPU."""

import torch


def best_device() -> torch.device:
    """The device, with the shortcuts switched off that would change a score's digits from run to run."""
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
