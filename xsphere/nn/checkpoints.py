"""Checkpoints of a training: one safe file, written whole, from which it goes on."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from xsphere.atomic import write_file
from xsphere.tensorfiles import TensorFileError, packed, read_header, read_tensors


def save(
    path: Path,
    tensors: dict[str, Tensor],
    optimizer: torch.optim.Optimizer,
    run_key: str,
    history: list[dict[str, Any]],
) -> None:
    """Write a checkpoint.

    Parameters
    ----------
    path : Path
        File.
    tensors : dict of tensor
        What is trained, by name.
    optimizer : Optimizer
        With its state.
    run_key : str
        Everything that the weights depend on.
    history : list of dict
        Records of the epochs so far.
    """
    kept = {f"network/{name}": value for name, value in tensors.items()}
    for index, state in optimizer.state_dict()["state"].items():
        kept |= {f"optimizer/{index}/{name}": value for name, value in state.items()}
    metadata = {"run": run_key, "history": json.dumps(history)}
    write_file(path, packed({n: value.cpu().numpy() for n, value in kept.items()}, metadata))


def resumed(
    path: Path | None,
    tensors: dict[str, Tensor],
    optimizer: torch.optim.Optimizer,
    run_key: str,
) -> list[dict[str, Any]]:
    """History of a checkpoint, its values put into what is trained; empty if there is none.

    Parameters
    ----------
    path : Path or None
        File.
    tensors : dict of tensor
        Changed in place.
    optimizer : Optimizer
        Changed.
    run_key : str
        As given to `save`.

    Returns
    -------
    list of dict
        Records of the epochs so far.

    Raises
    ------
    ValueError
        If the file is damaged, or belongs to another training.
    """
    if path is None or not path.exists():
        return []
    try:
        metadata = read_header(path).metadata
        kept = {name: torch.from_numpy(value) for name, value in read_tensors(path).items()}
    except TensorFileError as error:
        raise ValueError(
            f"the checkpoint {path} cannot be used: {error}; delete it to start anew, or give "
            "another path"
        ) from error
    if metadata.get("run") != run_key:
        raise ValueError(
            f"the checkpoint {path} belongs to a training with other data or options; delete "
            "it to start anew, or give another path"
        )
    state = optimizer.state_dict()
    for name, value in kept.items():
        part, _, rest = name.partition("/")
        if part == "network":
            tensors[rest].copy_(value)
        else:
            index, key = rest.split("/")
            state["state"].setdefault(int(index), {})[key] = value
    optimizer.load_state_dict(state)
    history: list[dict[str, Any]] = json.loads(metadata["history"])
    return history
