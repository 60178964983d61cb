"""Convert a network-snapshot-*.pkl of EDM, once: python convert.py network-snapshot.pkl my_model

Run it in a clone of EDM, whose torch_utils/ and dnnlib/ the pickle needs.  A pickle runs any code that is in it: take
one that you trust.  It writes weights.safetensors and config.json; leakgauge itself opens no pickle.
"""

import json
import pickle
import sys
from pathlib import Path

from safetensors.torch import save_file


def convert(snapshot: Path, folder: Path) -> None:
    """Write the moving average of a snapshot into `folder`.  Raises ValueError for arguments without names."""
    with snapshot.open("rb") as file:
        network = pickle.load(file)["ema"]  # noqa: S301  the user's own, by EDM's own code
    if network.init_args:
        raise ValueError(f"{snapshot}: its network was made with arguments that have no names")
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: value.clone() for name, value in network.state_dict().items()}, folder / "weights.safetensors")
    config = {"class": type(network).__name__, "arguments": dict(network.init_kwargs)}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")


if __name__ == "__main__":
    sys.path.insert(0, "")  # the clone, where this file lies elsewhere
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
