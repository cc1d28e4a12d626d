"""Who convolves: our layer, its peers where they are at hand, and the matrix product alone.

All have the same Laplacian, weights and samples. A convolution takes (batch, cells, channels) and
returns the same; where a library wants another order of axes, changing it is part of its time.
"""

import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from straightforward import Blocks, deepsphere_blocks, plain_blocks
from torch import Tensor

from xsphere.graph import SphereGraph
from xsphere.grids import HealpixGrid
from xsphere.nn import ChebConv, SparseOperator

OURS, PRODUCT = "xsphere", "product alone"
CSR, GEOMETRIC = "torch CSR", "PyTorch Geometric"
# no call is repeated once this many seconds are spent on it
ENOUGH_SECONDS = 3.0
Convolution = Callable[[Tensor], Tensor]


class Case(NamedTuple):
    """Sizes of a layer that has as many channels before as after."""

    nside: int
    k: int
    channels: int
    batch: int
    kernel_size: int

    @property
    def level(self) -> int:
        """Refinement level."""
        return self.nside.bit_length() - 1

    @property
    def n_cells(self) -> int:
        """Number of cells."""
        return 12 * self.nside**2

    @property
    def n_values(self) -> int:
        """Numbers that come in, and that go out."""
        return self.batch * self.n_cells * self.channels


class Problem(NamedTuple):
    """What all of them are given."""

    case: Case
    graph: SphereGraph
    x: Tensor
    weight: Tensor
    bias: Tensor


def made(case: Case, weights: Any, device: str = "cpu") -> Problem:
    """A graph, and random samples and weights."""
    grid = HealpixGrid(case.level)
    graph = SphereGraph(grid, min(case.k, grid.n_cells - 1), weights=weights)
    generator = torch.Generator().manual_seed(0)
    n = case.channels
    weight = torch.randn(case.kernel_size, n, n, generator=generator)
    return Problem(
        case,
        graph,
        torch.randn(case.batch, case.n_cells, n, generator=generator).to(device),
        (weight / (case.kernel_size * n) ** 0.5).to(device),
        torch.randn(n, generator=generator).to(device),
    )


def peer_blocks(checkout: Path | None) -> Blocks:
    """Blocks of deepsphere-pytorch, given or installed, else blocks of its formula written here."""
    if checkout is None and find_spec("deepsphere") is not None:
        # another package of this name has no such layers
        places = find_spec("deepsphere").submodule_search_locations  # type: ignore[union-attr]
        folders = [Path(place) for place in places or ()]
        found = [folder.parent for folder in folders if (folder / "layers/chebyshev.py").exists()]
        checkout = found[0] if found else None
    if checkout is not None:
        return deepsphere_blocks(checkout)
    print(
        "deepsphere-pytorch is not at hand; blocks of its formula stand in for it. Give a checkout "
        "of https://github.com/deepsphere/deepsphere-pytorch with --deepsphere"
    )
    return plain_blocks()


def coordinates(laplacian: sparse.csr_array, device: torch.device) -> Tensor:
    """Matrix as deepsphere-pytorch holds it."""
    entries = laplacian.tocoo()
    places = torch.tensor(np.stack([entries.row, entries.col]), dtype=torch.int64)
    values = torch.tensor(entries.data, dtype=torch.float32)
    matrix = torch.sparse_coo_tensor(places, values, entries.shape, check_invariants=True)
    return matrix.coalesce().to(device)


def ours(problem: Problem, dtype: torch.dtype = torch.float32) -> ChebConv:
    """Our layer."""
    case = problem.case
    operator = SparseOperator(problem.graph.scaled_laplacian)
    layer = ChebConv(case.channels, case.channels, case.kernel_size, operator)
    layer.load_state_dict({"weight": problem.weight, "bias": problem.bias})
    return layer.to(device=problem.x.device, dtype=dtype)


def published(problem: Problem, blocks: Blocks) -> torch.nn.Module:
    """The layer of deepsphere-pytorch, or what stands in for it."""
    laplacian = coordinates(problem.graph.scaled_laplacian, problem.x.device)
    weight, case = problem.weight, problem.case
    layer = blocks.convolution(case.channels, case.channels, laplacian, case.kernel_size)
    convolution = blocks.convolution_of(layer)
    # its rows are sorted by channel, ours by order
    convolution.weight.data = weight.permute(1, 0, 2).reshape(weight.shape).contiguous()
    convolution.bias.data = problem.bias.clone()
    return layer


def with_csr(problem: Problem) -> Convolution:
    """The recursion with PyTorch's compressed rows; cells first, the batch beside the channels."""
    matrix = problem.graph.scaled_laplacian
    parts = (torch.tensor(part) for part in (matrix.indptr, matrix.indices))
    values = torch.tensor(matrix.data, dtype=torch.float32)
    laplacian = torch.sparse_csr_tensor(*parts, values, matrix.shape).to(problem.x.device)
    weight, bias = (torch.nn.Parameter(part.clone()) for part in (problem.weight, problem.bias))

    def convolved(x: Tensor) -> Tensor:
        n_batch, n_cells, n_in = x.shape
        before = x.permute(1, 0, 2).reshape(n_cells, n_batch * n_in)
        last = torch.sparse.mm(laplacian, before)
        terms = [before, last]
        for _ in weight[2:]:
            terms.append(2 * torch.sparse.mm(laplacian, terms[-1]) - terms[-2])
        shaped = [term.view(n_cells * n_batch, n_in) for term in terms]
        y = torch.addmm(bias, shaped[0], weight[0])
        for term, part in zip(shaped[1:], weight[1:], strict=True):
            y = torch.addmm(y, term, part)
        return y.view(n_cells, n_batch, -1).permute(1, 0, 2)

    return convolved


def with_geometric(problem: Problem) -> Convolution:
    """PyTorch Geometric's layer, which makes the scaled Laplacian from edges at every call."""
    from torch_geometric.nn import ChebConv as GeometricConv

    case, graph, device = problem.case, problem.graph, problem.x.device
    layer = GeometricConv(case.channels, case.channels, case.kernel_size, normalization=None)
    layer = layer.to(device)
    for linear, part in zip(layer.lins, problem.weight, strict=True):
        linear.weight.data = part.T.contiguous()
    layer.bias.data = problem.bias.clone()
    edges = graph.adjacency.tocoo()
    # from the source to the target
    places = torch.tensor(np.stack([edges.col, edges.row]), dtype=torch.int64).to(device)
    values = torch.tensor(edges.data, dtype=torch.float32).to(device)
    bound = torch.tensor(graph.lambda_max, dtype=torch.float32).to(device)
    return lambda x: layer(x, places, values, lambda_max=bound)


def product_alone(problem: Problem) -> Convolution:
    """The one dense product of a layer whose terms are there already: the limit."""
    case, weight = problem.case, problem.weight
    rows = torch.randn(case.batch * case.n_cells, case.kernel_size * case.channels)
    rows = rows.to(problem.x)
    flat = torch.nn.Parameter(weight.reshape(-1, case.channels).clone())
    # not of the samples, so that nothing has to be put in order
    return lambda _: rows.detach().requires_grad_(torch.is_grad_enabled()) @ flat


def contenders(problem: Problem, blocks: Blocks, room: float) -> dict[str, Convolution]:
    """Those that there is room for, in bytes; the first is ours."""
    case = problem.case
    entries = problem.graph.adjacency.nnz * case.batch * case.channels
    values = case.n_values
    makers: dict[str, tuple[Callable[[], Convolution], int]] = {
        OURS: (lambda: ours(problem), 4 * values),
        blocks.name: (lambda: published(problem, blocks), (3 * case.kernel_size + 2) * values),
        GEOMETRIC: (lambda: with_geometric(problem), 2 * entries + 6 * values),
        CSR: (lambda: with_csr(problem), (case.kernel_size + 4) * values),
        PRODUCT: (lambda: product_alone(problem), (case.kernel_size + 2) * values),
    }
    # its degrees are sums over columns, and over rows only where the weights are symmetric
    if problem.graph.weights == "consistent" or find_spec("torch_geometric") is None:
        del makers[GEOMETRIC]
    return {name: make() for name, (make, numbers) in makers.items() if 4 * numbers <= room}


def reference(problem: Problem) -> NDArray[np.float64]:
    """The last sample in double precision."""
    laplacian = problem.graph.scaled_laplacian
    x = problem.x[-1].double().cpu().numpy()
    weight = problem.weight.double().cpu().numpy()
    before, last = x, laplacian @ x
    y = before @ weight[0] + last @ weight[1] + problem.bias.double().cpu().numpy()
    for part in weight[2:]:
        before, last = last, 2 * (laplacian @ last) - before
        y += last @ part
    return y


def errors(problem: Problem, calls: dict[str, Convolution]) -> dict[str, float]:
    """Largest errors relative to the largest value: of the last sample, and beside ours of all."""
    expected, first, found = reference(problem), None, {}
    for name, call in calls.items():
        if name == PRODUCT:
            call(problem.x)
            continue
        y = call(problem.x).float().cpu()
        found[name] = float(abs(y[-1].numpy() - expected).max() / abs(expected).max())
        first = y if first is None else first
        found[name] = max(found[name], float((y - first).abs().max() / first.abs().max()))
    return found


def synchronised(device: str) -> None:
    """Wait for what a GPU has been given to do."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def interleaved(
    calls: dict[str, Callable[[], Any]], repeat: int, device: str = "cpu"
) -> dict[str, float]:
    """Median milliseconds of every call; all take turns, so that others slow down all alike."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    names = list(calls)
    for number in range(repeat):
        # nobody always comes after the same one
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            if sum(times[name]) > ENOUGH_SECONDS:
                continue
            synchronised(device)
            start = time.perf_counter()
            calls[name]()
            synchronised(device)
            times[name].append(time.perf_counter() - start)
    return {name: 1e3 * median(spent) for name, spent in times.items()}


def with_gradients(problem: Problem, call: Convolution) -> Callable[[], None]:
    """A call forward and back, to the samples and the weights."""
    gradient = torch.ones_like(problem.x)
    x = problem.x.clone().requires_grad_()

    def both() -> None:
        x.grad = None
        y = call(x)
        y.backward(gradient.view_as(y))

    return both
