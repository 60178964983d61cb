"""Which files of a model are taken, said before anything is written: no file is left out in silence."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leakgauge.config import kind_of
from leakgauge.options import Taking

if TYPE_CHECKING:
    from leakgauge.diffusion.pipelines import Plan


def account(wanted: Mapping[str, Mapping[str, dict[str, Any]]]) -> None:
    """Say what becomes of the files of each pipeline or adapter, target or base.

    wanted : registry -> name -> entry.  Raises InputError for one that is refused.
    """
    from leakgauge.diffusion.adapter_files import plan_adapter  # torch takes seconds
    from leakgauge.diffusion.pipelines import BASE, plan

    for target in wanted["targets"].values():
        options = target.get("target", {})
        model, kind = Path(target["model"]), kind_of(Path(target["model"]))
        if kind == "path":
            _say(model, plan(model, _taking(options), options.get("pickle")))
        elif kind == "adapter" and model.is_dir():
            _say(model, plan_adapter(model))
        if "path" in (base := options.get("base", {})):
            _say(Path(base["path"]), plan(Path(base["path"]), _taking(base), key=BASE))


def _taking(options: dict[str, Any]) -> Taking:
    return Taking(**{key: options[key] for key in Taking.model_fields if key in options})


def _say(folder: Path, found: "Plan") -> None:
    """Which parts are taken, or which files where there are no parts; and which files are not."""
    parts = sorted({Path(name).parent.as_posix() for name in found.taken} - {"."})
    print(f"{folder}: taken: {', '.join(parts or sorted(found.taken))}", flush=True)
    tops = {name: Path(name).parts[0] for name in found.not_taken}
    beside = sorted({name if top in (name, *parts) else f"{top}/" for name, top in tops.items()})
    if beside:
        more = f", and {len(beside) - 10} more" if len(beside) > 10 else ""
        print(f"{folder}: not taken: {', '.join(beside[:10])}{more}", flush=True)
