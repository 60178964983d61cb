"""Where networks run: the accelerator if there is one, in plain float32 and deterministic, else the CPU."""

from importlib.metadata import version

import torch


def best_device() -> torch.device:
    """The device, with the shortcuts switched off that would change a score's digits from run to run."""
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def computed_on(device: torch.device) -> dict[str, str]:
    """What decides the last digits of a score beside the model and the image.

    The kind of device and its name (of a CPU the instructions that torch uses on it), and the versions of torch and
    diffusers.  The number of threads is left out: it changes a score by rounding alone, as the size of a batch does.
    """
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else torch.backends.cpu.get_cpu_capability()
    return {"device": device.type, "name": name, "torch": version("torch"), "diffusers": version("diffusers")}
