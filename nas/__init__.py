"""Search small-Transformer architectures for the best trade-offs of quality, latency and memory on this machine.

    study = nas.search("search_spaces/tiny_lm.toml", trials=24)
    study.front(where=["decode_ms_per_token<=0.3"])
    model = study.train(12)

Importing `nas` is cheap: it loads torch, ray and optuna only when something needs them.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nas.api.checking import check
    from nas.api.data import clean_data, prepare_data, prepared_data
    from nas.api.forking import Fork, fork
    from nas.api.machine import Finding, doctor
    from nas.api.model import Model, load_model
    from nas.api.searching import resume, search
    from nas.api.spaces import spaces
    from nas.api.starter import write_starter
    from nas.api.study import Study, open_study, studies
    from nas.architecture import Architecture
    from nas.body import Finished, Job, Measured, Reached
    from nas.errors import (
        Conflict,
        DataError,
        InvalidArchitecture,
        InvalidStudyFile,
        NasError,
        NothingFeasible,
        OutOfReach,
        TooManyFailures,
        UsageError,
    )
    from nas.models import build
    from nas.results import Rung, TrialResult
    from nas.samplers.pareto_sampler import ParetoSampler
    from nas.settings.study_file import StudyFile, load

__version__ = "0.2.0"

__all__ = [
    "Architecture",
    "Conflict",
    "DataError",
    "Finding",
    "Finished",
    "Fork",
    "InvalidArchitecture",
    "InvalidStudyFile",
    "Job",
    "Measured",
    "Model",
    "NasError",
    "NothingFeasible",
    "OutOfReach",
    "ParetoSampler",
    "Reached",
    "Rung",
    "Study",
    "StudyFile",
    "TooManyFailures",
    "TrialResult",
    "UsageError",
    "__version__",
    "build",
    "check",
    "clean_data",
    "doctor",
    "fork",
    "load",
    "load_model",
    "open_study",
    "prepare_data",
    "prepared_data",
    "resume",
    "search",
    "spaces",
    "studies",
    "write_starter",
]

_HOMES = {
    "nas.api.checking": ("check",),
    "nas.api.data": ("clean_data", "prepare_data", "prepared_data"),
    "nas.api.forking": ("Fork", "fork"),
    "nas.api.machine": ("Finding", "doctor"),
    "nas.api.model": ("Model", "load_model"),
    "nas.api.searching": ("resume", "search"),
    "nas.api.spaces": ("spaces",),
    "nas.api.starter": ("write_starter",),
    "nas.api.study": ("Study", "open_study", "studies"),
    "nas.architecture": ("Architecture",),
    "nas.body": ("Finished", "Job", "Measured", "Reached"),
    "nas.errors": (
        "Conflict",
        "DataError",
        "InvalidArchitecture",
        "InvalidStudyFile",
        "NasError",
        "NothingFeasible",
        "OutOfReach",
        "TooManyFailures",
        "UsageError",
    ),
    "nas.models": ("build",),
    "nas.results": ("Rung", "TrialResult"),
    "nas.samplers.pareto_sampler": ("ParetoSampler",),
    "nas.settings.study_file": ("StudyFile", "load"),
}
"""Maps each module to the names that it gives to `nas`. A test compares this with the imports above and with
`__all__`.
"""
_TORCH_HOMES = {"nas.api.checking", "nas.api.forking", "nas.api.model", "nas.api.searching", "nas.models"}
"""These modules load torch, which a current folder that is gone does not survive."""
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Loads a public name when it is first used."""
    if name not in _HOME_OF:
        raise AttributeError(f"module 'nas' has no attribute '{name}'")
    home = _HOME_OF[name]
    if home in _TORCH_HOMES:
        import_module("nas.folders").require_current_folder()
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
