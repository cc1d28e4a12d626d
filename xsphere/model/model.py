"""`Model`: a network's weights together with everything needed to use them."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from xsphere.atomic import write_file
from xsphere.cache import CacheWarning, SharedEntries, cached_file
from xsphere.model.bundled import model_path
from xsphere.model.described import Described
from xsphere.model.file import (
    ModelFileError,
    check_finite,
    check_shapes,
    read_specification,
    to_bytes,
)
from xsphere.model.network import (
    build_network,
    expected_shapes,
    resolve_graph,
    trained_state,
)
from xsphere.model.spec import MAX_MEMBERS, RECORD, ModelSpec
from xsphere.notices import shortened, warn_user
from xsphere.paths import local_path
from xsphere.tensorfiles import file_stamp, read_tensors

if TYPE_CHECKING:
    from xsphere.nn import SphereUNet

_networks = SharedEntries(maxsize=MAX_MEMBERS)
_models = SharedEntries(maxsize=8)


class Model(Described):
    """A network's weights with its input contract, grid, classes and record.

    Parameters
    ----------
    spec : ModelSpec
        Everything but the weights.
    tensors : dict of array
        Weights by name, as the network's state has them.

    Raises
    ------
    ModelFileError
        If the weights do not fit the network or are not finite.

    Examples
    --------
    >>> from xsphere.model.network import example_spec
    >>> model = Model.untrained(example_spec())
    >>> model.classes
    ('low',)
    >>> Model.load("tc-ar").level
    5
    """

    def __init__(self, spec: ModelSpec, tensors: Mapping[str, NDArray[Any]]) -> None:
        spec = resolve_graph(spec)
        shapes = {name: np.shape(tensor) for name, tensor in tensors.items()}
        check_shapes(shapes, expected_shapes(spec))
        check_finite(tensors)
        self.spec = spec
        self.tensors = {
            name: np.array(tensor, np.float32, order="C") for name, tensor in tensors.items()
        }
        for tensor in self.tensors.values():
            tensor.flags.writeable = False

    @classmethod
    def untrained(cls, spec: ModelSpec, seed: int = 0) -> "Model":
        """Model with random weights, the same for the same seed.

        Parameters
        ----------
        spec : ModelSpec
            Specification.
        seed : int
            Seed of the random numbers; the global generator is left as it was.

        Returns
        -------
        Model
            The model.

        Examples
        --------
        >>> from xsphere.model.network import example_spec
        >>> Model.untrained(example_spec()) == Model.untrained(example_spec())
        True
        """
        return cls.from_network(spec, build_network(spec, seed))

    @classmethod
    def from_network(cls, spec: ModelSpec, network: "SphereUNet") -> "Model":
        """Model that holds a copy of a network's weights.

        Parameters
        ----------
        spec : ModelSpec
            Specification that the network was built from.
        network : SphereUNet
            The network.

        Returns
        -------
        Model
            The model.

        Examples
        --------
        >>> from xsphere.model.network import build_network, example_spec
        >>> Model.from_network(example_spec(), build_network(example_spec())).level
        3
        """
        state = trained_state(network)
        return cls(spec, {name: value.detach().cpu().numpy() for name, value in state.items()})

    @classmethod
    def ensemble(
        cls,
        models: "Sequence[Model | str | Path]",
        *,
        name: str = "ensemble",
        description: str = "",
    ) -> "Model":
        """Model whose probabilities are the mean of those of others, in one file.

        Parameters
        ----------
        models : sequence of Model, str or Path
            2 to 16 models, or their names or paths, of the same level, variables and classes. Each
            keeps its own normalisation, temperature and record; their thresholds do not count.
        name, description : str
            Kept in the model.

        Returns
        -------
        Model
            A calibration of its own comes after the mean, see `xsphere.calibrate`.

        Raises
        ------
        ValueError
            If models differ in level, variables (their units, ranges, aliases ...), classes or
            regridding, or are ensembles; all differences are named.

        Examples
        --------
        >>> from xsphere.model.network import example_spec
        >>> members = [Model.untrained(example_spec(), seed) for seed in range(3)]
        >>> Model.ensemble(members).members[2] == members[2]
        True
        """
        members = [cls.load(model) for model in models]
        spec = ModelSpec.of_members([member.spec for member in members], name, description)
        tensors = {
            f"{number}.{key}": tensor
            for number, member in enumerate(members)
            for key, tensor in member.tensors.items()
        }
        return cls(spec, tensors)

    @cached_property
    def members(self) -> "tuple[Model, ...]":
        """Models whose mean probability counts: those of an ensemble, else the model itself."""
        if not self.spec.members:
            return (self,)
        parts: list[dict[str, NDArray[Any]]] = [{} for _ in self.spec.members]
        for name, tensor in self.tensors.items():
            number, _, rest = name.partition(".")
            parts[int(number)][rest] = tensor
        return tuple(Model(*part) for part in zip(self.spec.members, parts, strict=True))

    def _check_single(self) -> None:
        if self.spec.members:
            raise ValueError(
                f"the ensemble {shortened(self.spec.name)} has no network of its own; take one of "
                "its members: model.members[0]"
            )

    @classmethod
    def load(cls, name_or_path: "str | Path | Model") -> "Model":
        """Model of a bundled name or a file, checked strictly.

        Parameters
        ----------
        name_or_path : str, Path or Model
            Name of a bundled model (see `list_models`) or path of a ``.safetensors`` file. A
            model is given back as it is.

        Returns
        -------
        Model
            The model.

        Raises
        ------
        FileNotFoundError
            If there is neither such a file nor such a bundled model.
        ModelFileError
            If the file is truncated, of another format, absurd, does not fit its own
            specification, or not its digest. Nothing is allocated before its header is found sound.

        Examples
        --------
        >>> Model.load("tc-ar").classes
        ('tropical_cyclone', 'atmospheric_river')
        """
        if isinstance(name_or_path, Model):
            return name_or_path
        path = model_path(name_or_path)
        model: Model = _models.fetch(file_stamp(path), lambda: cls._read(path))
        return model

    @classmethod
    def _read(cls, path: Path) -> "Model":
        try:
            values, shapes = read_specification(path)
            spec = ModelSpec.from_dict(values)
            check_shapes(shapes, expected_shapes(spec))
            return cls(spec, read_tensors(path))
        except ValueError as error:
            raise ModelFileError(f"model file {path} is refused: {error}") from error

    def save(self, path: str | Path) -> Path:
        """Write the model to one file, atomically.

        Parameters
        ----------
        path : str or Path
            Ends in ``.safetensors``.

        Returns
        -------
        Path
            The file.

        Raises
        ------
        ValueError
            If the name has another ending.

        Examples
        --------
        >>> from xsphere.model.network import example_spec
        >>> import tempfile
        >>> path = Model.untrained(example_spec()).save(tempfile.mkdtemp() + "/a.safetensors")
        >>> Model.load(path).level
        3
        """
        path = local_path(path, "the model")
        if path.suffix != ".safetensors":
            raise ValueError(f"a model file must end in '.safetensors', got {str(path)!r}")
        write_file(path, self._content)
        return path

    @cached_property
    def _content(self) -> bytes:
        return to_bytes(self.spec.to_dict(), self.tensors)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the model's file: one changed bit changes it."""
        return hashlib.sha256(self._content).hexdigest()

    def with_record(self, **entries: Any) -> "Model":
        """The same weights with another record: what is said of them, and their calibration.

        Parameters
        ----------
        **entries
            Of `ModelSpec`: name, description, training, scores, calibration, limits, licence.

        Returns
        -------
        Model
            Its digest differs.

        Raises
        ------
        ValueError
            If an entry is another one, or unsound.

        Examples
        --------
        >>> from xsphere.model.network import example_spec
        >>> from xsphere.model import Calibration
        >>> model = Model.untrained(example_spec())
        >>> calibration = Calibration(thresholds={"low": 0.3})
        >>> model.with_record(calibration=calibration, licence="CC0-1.0").thresholds
        {'low': 0.3}
        """
        if others := sorted(set(entries) - set(RECORD)):
            raise ValueError(f"the record of a model has {list(RECORD)}, got {shortened(others)}")
        return Model(replace(self.spec, **entries), self.tensors)

    def network(self) -> "SphereUNet":
        """A new network with these weights, in evaluation mode.

        Returns
        -------
        SphereUNet
            Takes (batch, cells, channels) as `channels` gives them, gives scores of the classes.

        Examples
        --------
        >>> from xsphere.model.network import example_spec
        >>> Model.untrained(example_spec()).network().training
        False
        """
        import torch

        self._check_single()
        network = build_network(self.spec)
        state = {name: torch.from_numpy(value.copy()) for name, value in self.tensors.items()}
        network.load_state_dict(network.state_dict() | state, strict=True)
        return network.eval()

    def shared_network(self, device: str) -> "SphereUNet":
        """The one network with these weights that this process has on a device; left as it is."""
        key = f"{self.digest}:{device}"
        network: SphereUNet = _networks.fetch(key, lambda: self.network().to(device))
        return network

    def channels(self, *fields: NDArray[Any]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """What the network sees of some fields.

        Parameters
        ----------
        *fields : arrays of float, shape (n, n_cells)
            The model's variables in order, on its grid and in its units.

        Returns
        -------
        channels : array of float32, shape (n, n_cells, n_channels)
            Normalised; 0, the mean, where it is not valid.
        valid : array of bool, shape (n, n_cells)
            Whether every channel is finite.

        Examples
        --------
        >>> from xsphere.model.network import example_spec
        >>> model = Model.untrained(example_spec())
        >>> channels, valid = model.channels(np.full((2, 768), 102000.0))
        >>> channels.shape, channels.max(), valid.all()
        ((2, 768, 1), np.float32(1.0), np.True_)
        """
        self._check_single()
        spec, grid = self.spec, self.grid
        # normalised in float32 only after the mean is gone: pressures keep their digits
        by_name = {
            variable.name: np.asarray(values)
            for variable, values in zip(spec.variables, fields, strict=True)
        }
        shape = (len(fields[0]), grid.n_cells, len(spec.channels))
        channels = np.empty(shape, np.float32)
        for index, channel in enumerate(spec.channels):
            values = channel.values(grid, by_name)
            channels[..., index] = (values - channel.mean) / channel.std
        finite = np.isfinite(channels)
        channels[~finite] = 0.0
        valid = np.asarray(finite.all(axis=-1))
        return channels, valid

    def cached_file(self) -> Path | None:
        """A file of the cache with this model, for other processes; None if none can be kept."""
        try:
            return cached_file(
                "models", self.digest, "model.safetensors", self._content, about=repr(self)
            )
        except OSError as error:
            warn_user(
                f"the cache cannot be written ({error}); the model travels inside the task graph",
                CacheWarning,
            )
            return None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Model) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __dask_tokenize__(self) -> tuple[str, str]:
        return "xsphere.Model", self.digest
