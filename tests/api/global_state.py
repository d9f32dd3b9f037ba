"""Run as a program: prints which global state of this process each use of nas has changed."""

import faulthandler
import gc
import json
import locale
import logging
import os
import random
import signal
import socket
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

# What others change while they are imported is theirs. Torch imports torch._dynamo when it builds on the meta device.
import matplotlib.figure
import numpy as np
import optuna
import pandas as pd
import pooch
import sklearn.ensemble
import tokenizers
import torch
import torch._dynamo

USED = (matplotlib.figure, pooch, sklearn.ensemble, tokenizers)


def state() -> dict[str, Any]:
    """Everything that a library could change for the program that uses it."""
    # What has no name yet is made by asking: its level alone says whether somebody changed it.
    names = ["nas", "ray", "optuna", "matplotlib", "pooch", "torch", "root"]
    loggers = {name: logging.getLogger(name) for name in names}
    found: dict[str, Any] = {f"environment {name}": value for name, value in os.environ.items()}
    found |= {f"logger {n}": (g.level, list(g.handlers), g.propagate, g.disabled) for n, g in loggers.items()}
    found |= {f"signal {n.name}": signal.getsignal(n) for n in signal.valid_signals() if isinstance(n, signal.Signals)}
    found |= {f"default {name}": value for name, value in matplotlib.rcParams.items()}
    return found | {
        "logging.disable": logging.root.manager.disable,
        "optuna verbosity": optuna.logging.get_verbosity(),
        "warnings": list(warnings.filters),
        "threads of torch": (torch.get_num_threads(), torch.get_num_interop_threads()),
        "generator of torch": torch.get_rng_state().tolist(),
        "defaults of torch": (torch.get_default_dtype(), torch.is_grad_enabled(), torch.get_deterministic_debug_mode()),
        "generator of numpy": repr(np.random.get_state()),  # noqa: NPY002  the one that others use
        "errors of numpy": np.geterr(),
        "generator of python": random.getstate(),
        "pandas": pd.get_option("display.max_rows"),
        "folder": str(Path.cwd()),
        "path": list(sys.path),
        "hooks": (sys.excepthook, threading.excepthook, sys.displayhook, sys.unraisablehook),
        "streams": (sys.stdout, sys.stderr),
        "locale": locale.setlocale(locale.LC_ALL),
        "timeout": socket.getdefaulttimeout(),
        "recursion": (sys.getrecursionlimit(), sys.getswitchinterval()),
        "collector": (gc.isenabled(), gc.get_threshold()),
        "faulthandler": faulthandler.is_enabled(),
        "other threads": sorted(t.name for t in threading.enumerate() if not t.daemon),
    }


def changed(before: dict[str, Any]) -> list[str]:
    now = state()
    return sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))


def measure_once() -> None:
    """No measurement in this process waits for a quiet machine; that changes no global state."""
    from functools import partial

    from nas.api import checking
    from nas.measure import cheap, latency
    from nas.report import importance
    from nas.running import architecture_features, measuring

    architecture_features.SAMPLES, importance.TREES = 20, 6
    measuring.TRIES, checking.TIMED_SECONDS = 1, 0.0
    cheap.latency = partial(latency.latency, seconds=0)


def main(file: str, executor: str) -> None:
    told = {}
    measure_once()
    if executor == "ray":
        import ray.tune

        assert ray.tune
    before = state()

    def use(name: str, call: Callable[[], Any]) -> Any:
        result = call()
        told[name] = changed(before)
        return result

    import nas

    use("importing", lambda: [getattr(nas, name) for name in nas.__all__])
    study = use("searching", lambda: nas.search(file, executor=executor))
    if executor == "serial":
        use("checking", lambda: nas.check(file))
        use("resuming", lambda: nas.resume(study, trials=3, executor="serial"))
        model = use("training", lambda: study.train(0, steps=3))
        use("generating", lambda: model.generate("the ", 5))
        use("loading", lambda: nas.load_model(model.folder))
        use("reporting", study.write_report)
        use("reading", lambda: (study.status(), study.front(), study.to_frame(), nas.studies(), nas.doctor()))
    print(json.dumps(told))  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
