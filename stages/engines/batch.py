"""How many images a network call takes: what its activations need, held against the memory there is."""

import torch
from torch import Tensor, nn

from stages.diffusion.denoiser import Denoiser

CPU_BYTES = 2**30  # of activations: more would fit, but is no faster, and slower at last
GPU_SHARE = 0.5  # of its memory, for activations


@torch.inference_mode()
def fitting_batch(target: Denoiser, pixels: Tensor, most: int) -> int:
    """The largest power of two, up to `most`, whose activations fit.  The same on every run on one machine.

    target : bound to what it is told of the image.  pixels : (1, C, H, W) uint8, the image that is tried.
    """
    needed = max(_activations(target.eager(), pixels), 1)
    fitting = max(int(_budget(target.device) // needed), 1)
    return min(2 ** (fitting.bit_length() - 1), most)


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory has run out: torch has a class for that on a GPU, but none on a CPU."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    said = str(error)  # by torch's allocator, or by oneDNN, whose "primitive descriptor" is another matter
    return "allocate memory" in said or said.strip().endswith("could not create a primitive")


def _activations(target: Denoiser, pixels: Tensor) -> int:
    """Bytes that all layers together put out for one image: about the most that can be alive at any one time."""
    sizes: list[int] = []

    def count(module: nn.Module, inputs: object, output: object) -> None:
        if isinstance(output, Tensor):
            sizes.append(output.numel() * output.element_size())

    networks = [target.network, *([target.autoencoder.model] if target.autoencoder else [])]
    leaves = [module for network in networks for module in network.modules() if not list(module.children())]
    hooks = [leaf.register_forward_hook(count) for leaf in leaves]
    try:
        target.epsilon(target.encode(pixels), 0)
    finally:
        for hook in hooks:
            hook.remove()
    return sum(sizes)


def _budget(device: torch.device) -> float:
    if device.type == "cuda":
        return GPU_SHARE * torch.cuda.get_device_properties(device).total_memory
    return CPU_BYTES
