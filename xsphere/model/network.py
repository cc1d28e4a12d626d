"""Networks built from specifications: the graph of every level, the layers, their shapes."""

from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from xsphere.config import config
from xsphere.grids import HealpixGrid
from xsphere.model.spec import ModelSpec
from xsphere.model.spec_parts import Channel, GraphSpec, Variable
from xsphere.notices import shortened

if TYPE_CHECKING:
    from xsphere.nn import SphereUNet, UNetLayout

FLOAT_BYTES = 4
# of a graph while it is built, for each neighbour of a cell: measured
BYTES_PER_LINK = 90


def _graph_grids(spec: ModelSpec, n_levels: int) -> list[HealpixGrid]:
    if n_levels > spec.level + 1:
        raise ValueError(
            f"a network of {n_levels} levels needs level {n_levels - 1} or finer, got {spec.level}"
        )
    return [HealpixGrid(spec.level - depth) for depth in range(n_levels)]


def needed_bytes(spec: ModelSpec) -> int:
    """Estimate of the memory that a model takes for its graphs, its weights and one sample.

    Parameters
    ----------
    spec : ModelSpec
        Specification.

    Returns
    -------
    int
        Bytes, found without allocating any.

    Examples
    --------
    >>> needed_bytes(example_spec()) < 10 * 2**20 < needed_bytes(replace(example_spec(), level=6))
    True
    """
    if spec.members:
        return sum(map(needed_bytes, spec.members))
    layout = _layout(spec)
    n_cells = 12 * 4**spec.level
    matrices = 5 if layout.directional else 1
    graphs = matrices * BYTES_PER_LINK * n_cells * (min(spec.graph.k, n_cells - 1) + 1)
    widths = (len(spec.channels), *layout.features)
    sample = sum(
        n_cells // 4**depth * (before + after)
        for depth, (before, after) in zip(layout.depths, pairwise(widths), strict=True)
    )
    terms = max(6, layout.kernel_size)
    weights = sum(terms * before * after for before, after in pairwise(widths))
    # a decoder mirrors the encoder, and its layers take what the encoder gave besides
    return int(graphs + FLOAT_BYTES * (2 * sample + 3 * weights))


def check_memory(spec: ModelSpec) -> None:
    """Refuse a model that would need more memory than the option says.

    Parameters
    ----------
    spec : ModelSpec
        Specification.

    Raises
    ------
    ValueError
        If the estimate is more than ``max_model_bytes``, or that is no number.

    Examples
    --------
    >>> check_memory(example_spec())
    """
    most, needed = _allowed_bytes(), needed_bytes(spec)
    if needed > most:
        raise ValueError(
            f"the model {shortened(spec.name)} (level {spec.level}, k={spec.graph.k}) would need "
            f"about {needed / 2**30:.1f} GiB for its graphs, weights and one sample, more than the "
            f"{most / 2**30:.1f} GiB allowed; if you trust it and have the memory, raise the limit "
            f"with xsphere.set_options(max_model_bytes={2 * needed:.0e}) or XSPHERE_MAX_MODEL_BYTES"
        )


def _allowed_bytes() -> float:
    given = config.get("max_model_bytes")
    try:
        # from the environment it comes as text
        most = 0.0 if isinstance(given, bool) else float(given)
    except (TypeError, ValueError):
        most = 0.0
    if not most > 0:
        raise ValueError(f"max_model_bytes must be a positive number, got {shortened(given)}")
    return most


def resolve_graph(spec: ModelSpec) -> ModelSpec:
    """Specification whose graph names the kernel width of every level, if it is Gaussian.

    Widths written down keep a model's answers, whatever a later version thinks is best.
    ``"consistent"`` graphs are defined without one.

    Parameters
    ----------
    spec : ModelSpec
        Specification, its kernel widths given or not.

    Returns
    -------
    ModelSpec
        With one kernel width a level, or none.

    Raises
    ------
    ValueError
        If sizes do not fit together, or would take more memory than `check_memory` allows.

    Examples
    --------
    >>> spec = replace(example_spec(), graph=GraphSpec(weights="gaussian"))
    >>> len(resolve_graph(spec).graph.kernel_widths)
    1
    """
    from xsphere.graph import WEIGHTINGS, kernel_width

    if spec.members:
        check_memory(spec)
        return replace(spec, members=tuple(map(resolve_graph, spec.members)))
    grids = _graph_grids(spec, _layout(spec).n_levels)
    check_memory(spec)
    if spec.graph.kernel_widths and len(spec.graph.kernel_widths) != len(grids):
        raise ValueError(
            f"graph needs {len(grids)} kernel_widths, one a level, got "
            f"{len(spec.graph.kernel_widths)}"
        )
    if spec.graph.kernel_widths or not WEIGHTINGS[spec.graph.weights].has_width:
        return spec
    widths = tuple(float(kernel_width(grid, _neighbours(spec.graph, grid))) for grid in grids)
    return replace(spec, graph=replace(spec.graph, kernel_widths=widths))


def _layout(spec: ModelSpec) -> "UNetLayout":
    from xsphere.nn import UNetLayout

    sizes = {name: value for name, value in spec.network.items() if name != "architecture"}
    try:
        return UNetLayout(**sizes)
    except TypeError as error:
        raise ValueError(
            f"unusable network {shortened(spec.network)} ({shortened(error)})"
        ) from error


def _neighbours(graph: GraphSpec, grid: HealpixGrid) -> int:
    # level 0 has 12 cells: a large k means all of them
    return min(graph.k, grid.n_cells - 1)


def build_network(spec: ModelSpec, seed: int = 0) -> "SphereUNet":
    """Network of a specification, with random weights.

    Parameters
    ----------
    spec : ModelSpec
        Specification.
    seed : int
        Of the weights; torch's own generator is left as it was.

    Returns
    -------
    SphereUNet
        In training mode, on the CPU.

    Raises
    ------
    ValueError
        If the sizes do not fit together.

    Examples
    --------
    >>> type(build_network(example_spec())).__name__
    'SphereUNet'
    """
    from xsphere.graph import SphereGraph, directional_matrices
    from xsphere.nn import SphereUNet
    from xsphere.nn.convolution import drawn_with

    spec = resolve_graph(spec)
    layout, graph = _layout(spec), spec.graph
    grids = _graph_grids(spec, layout.n_levels)
    widths = graph.kernel_widths or (None,) * len(grids)
    laplacians = [
        SphereGraph(
            grid,
            k=_neighbours(graph, grid),
            weights=graph.weights,
            kernel_width=width,
            laplacian_type=graph.laplacian_type,
        ).scaled_laplacian
        for grid, width in zip(grids, widths, strict=True)
    ]
    directions = None
    if layout.directional:
        directions = [directional_matrices(grid, _neighbours(graph, grid))[:4] for grid in grids]
    with drawn_with(seed):
        return SphereUNet(
            len(spec.channels), len(spec.classes) + 1, laplacians, layout, directions=directions
        )


def expected_shapes(spec: ModelSpec) -> dict[str, tuple[int, ...]]:
    """Shapes of a network's tensors, found without allocating any.

    Parameters
    ----------
    spec : ModelSpec
        Specification.

    Returns
    -------
    dict of tuple
        Shape of every tensor of the state.

    Examples
    --------
    >>> expected_shapes(example_spec())["head.weight"]
    (1, 4, 2)
    """
    import torch
    from scipy import sparse

    from xsphere.nn import SphereUNet

    if spec.members:
        return {
            f"{number}.{name}": shape
            for number, member in enumerate(spec.members)
            for name, shape in expected_shapes(member).items()
        }
    layout = _layout(spec)
    _graph_grids(spec, layout.n_levels)
    stand_in = [sparse.csr_array((1, 1))] * layout.n_levels
    directions = [[stand_in[0]] * 4] * layout.n_levels if layout.directional else None
    with torch.device("meta"):
        network = SphereUNet(
            len(spec.channels), len(spec.classes) + 1, stand_in, layout, directions=directions
        )
    return {name: tuple(tensor.shape) for name, tensor in trained_state(network).items()}


def trained_state(network: "SphereUNet") -> dict[str, Any]:
    """Tensors of a network that a model keeps.

    Parameters
    ----------
    network : SphereUNet
        The network.

    Returns
    -------
    dict of tensor
        Parameters and running statistics by name.

    Examples
    --------
    >>> len(trained_state(build_network(example_spec())))
    12
    """
    # the count of batches serves only averages without momentum, which are not used
    state = network.state_dict()
    return {name: value for name, value in state.items() if not name.endswith("_tracked")}


def example_spec() -> ModelSpec:
    """Specification of a very small model, for examples and tests.

    Returns
    -------
    ModelSpec
        One variable, one class, level 3.

    Examples
    --------
    >>> example_spec().classes
    ('low',)
    """
    return ModelSpec(
        name="example",
        level=3,
        variables=(
            Variable(name="PSL", units="Pa", standard_name="air_pressure_at_mean_sea_level"),
        ),
        channels=(Channel(name="PSL", sources=("PSL",), mean=101000.0, std=1000.0),),
        classes=("low",),
        network={"architecture": "unet", "features": (4,), "depths": (0,)},
        graph=GraphSpec(),
    )
