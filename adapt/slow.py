"""The slow weights of a learner inside its exported file, so that one file is also all that adaptation needs.

The graph holds what acts, often folded together and without what only an inner step reads (Meta-SGD's step sizes), so
learners that adapt between rollouts travel a second time as numpy arrays. A file without them is refused by name.
"""

from __future__ import annotations

import io
import json
import zipfile
from typing import Any

import numpy as np
import torch

from adapt.learner import MetaLearner, make_learner
from hardware_io.bundle import Bundle, BundleError
from hardware_io.config import build, dump
from hardware_io.interface import Interface

SETTINGS, INTERFACE, STATE = "settings", "interface", "state."


def pack(learner: MetaLearner) -> bytes:
    """Interface, settings and state of a learner as a compressed npz; the same learner gives the same bytes."""
    settings: Any = learner.settings
    interface: Any = learner.interface
    arrays = {STATE + name: value.detach().cpu().numpy() for name, value in learner.state_dict().items()}
    buffer = io.BytesIO()
    made_from = {SETTINGS: np.array(json.dumps(dump(settings))), INTERFACE: np.array(json.dumps(dump(interface)))}
    np.savez_compressed(buffer, allow_pickle=False, **made_from, **arrays)
    return buffer.getvalue()


def unpack(bundle: Bundle) -> MetaLearner:
    """The learner that a file was exported from, as it was trained. Raises BundleError, ConfigError."""
    source = f"{bundle.spec.name} ({bundle.learner})"
    if not bundle.slow:
        raise BundleError(f"{source}: no weights to adapt in this file; `acclimate export` writes them")
    try:
        with np.load(io.BytesIO(bundle.slow), allow_pickle=False) as archive:
            settings = json.loads(str(archive[SETTINGS]))
            interface = build(Interface, json.loads(str(archive[INTERFACE])), source, INTERFACE)
            state = {k.removeprefix(STATE): torch.from_numpy(archive[k]) for k in archive.files if k.startswith(STATE)}
        learner = make_learner(bundle.learner, interface, source, settings)
        learner.load_state_dict(state)
    except (KeyError, OSError, RuntimeError, zipfile.BadZipFile) as error:
        raise BundleError(f"{source}: its weights cannot be read: {str(error).splitlines()[0]}") from error
    return learner.eval()
