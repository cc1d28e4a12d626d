"""The convolution for GPUs, held against dense matrices in float64.

Without a GPU, the kernels run in Triton's interpreter, which shows that they are right, not that
they are fast.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from scipy import sparse
from torch import Tensor

from xsphere.nn.sparse import gpu, launches
from xsphere.nn.sparse.epilogue import Epilogue
from xsphere.nn.sparse.matrices import Basis, Children, FixedMatrices

HAS_GPU = torch.cuda.is_available()
# Triton reads this when it is imported, which torch itself may have done
RUNS_HERE = HAS_GPU or os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = torch.device("cuda" if HAS_GPU else "cpu")
CHILDREN: tuple[Children, ...] = ("none", "spread", "gathered")
ROUTES = ("fuse", "panel", "contract")

HAS_TRITON = find_spec("triton") is not None
# the interpreters of 3.6 and before take no sizes from NumPy 2.4; those in between were not tried
IS_RECENT = HAS_TRITON and tuple(map(int, version("triton").split(".")[:2])) >= (3, 9)

has_triton = pytest.mark.skipif(
    not (IS_RECENT or (HAS_TRITON and HAS_GPU)),
    reason="there is no Triton, or, without a GPU, one before 3.9",
)
runs = pytest.mark.skipif(
    not (HAS_TRITON and RUNS_HERE and (IS_RECENT or HAS_GPU)),
    reason="there is no Triton, or, without a GPU, one before 3.9 or not asked for its interpreter "
    "(TRITON_INTERPRET=1): then test_kernels_in_a_process_of_their_own runs this",
)
needs_gpu = pytest.mark.skipif(not HAS_GPU, reason="there is no GPU")


def matrices(n_matrices: int, n_cells: int = 48, seed: int = 0) -> FixedMatrices:
    """Non-symmetric ones, with rows from none to many entries, as long as about 1."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(n_matrices):
        dense = rng.normal(size=(n_cells, n_cells)) * (rng.random((n_cells, n_cells)) < 0.12)
        dense[5] = 0
        dense[7, 10:] = rng.normal(size=n_cells - 10) * (rng.random(n_cells - 10) < 0.4)
        made.append(sparse.csr_array(dense / np.sqrt(0.12 * n_cells) / 1.5))
    return FixedMatrices(made)


def basis_of(children: Children, *, recursive: bool, n_terms: int, n_cells: int = 48) -> Basis:
    made = matrices(1 if recursive else n_terms - 1, n_cells)
    return Basis.of(made, n_terms=n_terms, recursive=recursive, children=children)


def dense_terms(basis: Basis) -> Tensor:
    """All A_k in float64, (n_terms, n_target, n_source), by their definition."""
    given = [matrix.toarray() for matrix in basis.matrices.to_scipy()]
    terms = [np.eye(basis.matrices.shape[0]), *given]
    while len(terms) < basis.n_terms:
        terms.append(2 * given[0] @ terms[-1] - terms[-2])
    copies = np.repeat(np.eye(len(terms[0]) // 4), 4, axis=0)
    if basis.children == "spread":
        terms = [term @ copies for term in terms]
    if basis.children == "gathered":
        terms = [copies.T @ term for term in terms]
    return torch.tensor(np.stack(terms))


def dense_convolution(basis: Basis, xs: Sequence[Tensor], weight: Tensor) -> Tensor:
    x = torch.cat([x.cpu().double() for x in xs], dim=2)
    return torch.einsum("kts,bsc,kcd->btd", dense_terms(basis), x, weight.cpu().double())


def samples(
    basis: Basis, channels: Sequence[int], n_out: int, dtype: torch.dtype, n_samples: int = 3
) -> tuple[list[Tensor], Tensor]:
    generator = torch.Generator().manual_seed(n_out)
    shapes = [(n_samples, basis.n_source, n) for n in channels]
    xs = [torch.randn(shape, generator=generator).to(DEVICE, dtype) for shape in shapes]
    weight = torch.randn((basis.n_terms, sum(channels), n_out), generator=generator)
    return xs, weight.to(DEVICE, dtype)


def assert_close(y: Tensor, expected: Tensor) -> None:
    """Off by a few roundings of its type.

    Whatever is stored is off by at most half of its type's eps of itself; a recursion of up to four
    terms adds up a handful of these errors, and sums over channels average them.
    """
    assert y.shape == expected.shape
    error = (y.cpu().double() - expected).square().mean().sqrt()
    assert error <= 4 * torch.finfo(y.dtype).eps * expected.square().mean().sqrt()


@pytest.fixture
def take(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Has convolutions take a route, whatever it costs."""

    def change(route: str) -> None:
        monkeypatch.setattr(gpu, "_expands", lambda *arguments: route != "contract")
        if route == "panel":
            monkeypatch.setattr(gpu, "MOST_FUSED", {})

    return change


@runs
@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("recursive", [True, False])
@pytest.mark.parametrize("children", CHILDREN)
def test_every_route_is_the_dense_formula(
    children: Children, recursive: bool, route: str, take: Callable[[str], None]
) -> None:
    take(route)
    basis = basis_of(children, recursive=recursive, n_terms=4)
    xs, weight = samples(basis, (3, 18), 10, torch.float32)
    y = gpu.convolve(basis, xs, weight, Epilogue())
    assert y.dtype == torch.float32
    assert_close(y, dense_convolution(basis, xs, weight))


@runs
@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("children", CHILDREN)
def test_half_types_lose_only_their_own_roundings(
    children: Children, dtype: torch.dtype, route: str, take: Callable[[str], None]
) -> None:
    take(route)
    basis = basis_of(children, recursive=True, n_terms=3)
    xs, weight = samples(basis, (16, 9), 33, dtype)
    y = gpu.convolve(basis, xs, weight, Epilogue())
    assert y.dtype == dtype
    assert_close(y, dense_convolution(basis, xs, weight))


@runs
@pytest.mark.parametrize("recursive", [True, False])
@pytest.mark.parametrize("n_out", [5, 24])
@pytest.mark.parametrize("children", CHILDREN)
def test_float64_is_kept(children: Children, n_out: int, recursive: bool) -> None:
    basis = basis_of(children, recursive=recursive, n_terms=4)
    xs, weight = samples(basis, (7, 12), n_out, torch.float64)
    y = gpu.convolve(basis, xs, weight, Epilogue())
    assert_close(y, dense_convolution(basis, xs, weight))


@runs
@pytest.mark.parametrize("n_terms", [2, 3, 5])
def test_any_number_of_terms(n_terms: int, take: Callable[[str], None]) -> None:
    basis = basis_of("none", recursive=True, n_terms=n_terms)
    xs, weight = samples(basis, (6,), 4, torch.float32)
    for route in ROUTES:
        take(route)
        y = gpu.convolve(basis, xs, weight, Epilogue())
        assert_close(y, dense_convolution(basis, xs, weight))


@runs
@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("children", ["none", "gathered"])
def test_epilogue_scales_then_shifts_then_rectifies(
    children: Children, route: str, take: Callable[[str], None]
) -> None:
    take(route)
    basis = basis_of(children, recursive=True, n_terms=3)
    xs, weight = samples(basis, (8,), 6, torch.float32)
    scale, shift = torch.linspace(-2, 3, 6).to(DEVICE), torch.linspace(4, -4, 6).to(DEVICE)
    plain = dense_convolution(basis, xs, weight)
    y = gpu.convolve(basis, xs, weight, Epilogue(scale, shift, rectify=True))
    assert_close(y, (plain * scale.cpu() + shift.cpu()).relu())
    y = gpu.convolve(basis, xs, weight, Epilogue(shift=shift))
    assert_close(y, plain + shift.cpu())
    y = gpu.convolve(basis, xs, weight, Epilogue(scale=scale))
    assert_close(y, plain * scale.cpu())


@runs
@pytest.mark.parametrize("route", ROUTES)
def test_nan_reaches_just_its_neighbours(route: str, take: Callable[[str], None]) -> None:
    take(route)
    basis = basis_of("none", recursive=False, n_terms=2)
    xs, weight = samples(basis, (5,), 20, torch.float32)
    xs[0][1, 11, 2] = torch.nan
    y = gpu.convolve(basis, xs, weight, Epilogue(rectify=True)).cpu()
    reached = basis.matrices.to_scipy()[0].toarray()[:, 11] != 0
    reached[11] = True
    assert y[1].isnan().all(1).numpy().tolist() == reached.tolist()
    assert y[1].isnan().any(1).numpy().tolist() == reached.tolist()
    assert not y[[0, 2]].isnan().any()


@runs
def test_channels_in_several_tiles(take: Callable[[str], None]) -> None:
    basis = basis_of("none", recursive=True, n_terms=3)
    xs, weight = samples(basis, (130, 40), 140, torch.float16, n_samples=1)
    for route in ROUTES:
        take(route)
        y = gpu.convolve(basis, xs, weight, Epilogue())
        assert_close(y, dense_convolution(basis, xs, weight))


@runs
def test_results_too_wide_for_one_program_are_right() -> None:
    basis = basis_of("none", recursive=True, n_terms=3, n_cells=20)
    xs, weight = samples(basis, (4,), 300, torch.bfloat16, n_samples=1)
    y = gpu.convolve(basis, xs, weight, Epilogue())
    assert_close(y, dense_convolution(basis, xs, weight))


@runs
def test_more_than_two_sources_follow_each_other() -> None:
    basis = basis_of("spread", recursive=True, n_terms=3)
    xs, weight = samples(basis, (3, 4, 2), 5, torch.float32)
    y = gpu.convolve(basis, xs, weight, Epilogue())
    assert_close(y, dense_convolution(basis, xs, weight))


@runs
@pytest.mark.parametrize(
    ("channels", "n_out", "dtype"),
    [((6,), 4, torch.float64), ((3, 5), 4, torch.float32), ((3, 5), 11, torch.float32)],
)
@pytest.mark.parametrize(("recursive", "n_terms"), [(True, 4), (False, 3)])
@pytest.mark.parametrize("children", CHILDREN)
def test_adjoint_is_the_gradient_of_the_dense_formula(
    children: Children,
    recursive: bool,
    n_terms: int,
    channels: tuple[int, ...],
    n_out: int,
    dtype: torch.dtype,
) -> None:
    basis = basis_of(children, recursive=recursive, n_terms=n_terms)
    check_adjoint(basis, *samples(basis, channels, n_out, dtype))


def check_adjoint(basis: Basis, xs: list[Tensor], weight: Tensor) -> None:
    generator = torch.Generator().manual_seed(1)
    shape = (len(xs[0]), basis.n_target, weight.shape[2])
    gradient = torch.randn(shape, generator=generator).to(DEVICE, weight.dtype)
    inputs = [t.cpu().double().clone().requires_grad_() for t in (*xs, weight)]
    y = dense_convolution(basis, inputs[:-1], inputs[-1])
    *of_xs, of_weight = torch.autograd.grad(y, inputs, gradient.cpu().double())
    for need_x, need_weight in ((True, True), (True, False), (False, True), (False, False)):
        results, moments = gpu.adjoint(
            basis, xs, weight, gradient, need_x=need_x, need_weight=need_weight
        )
        assert (results is not None, moments is not None) == (need_x, need_weight)
        if results is not None:
            for result, expected in zip(results, of_xs, strict=True):
                assert result.dtype == weight.dtype
                assert_close(result, expected)
        if moments is not None:
            assert moments.dtype == weight.dtype
            assert_close(moments, of_weight)


@runs
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_adjoint_of_half_types(dtype: torch.dtype) -> None:
    basis = basis_of("spread", recursive=True, n_terms=3)
    check_adjoint(basis, *samples(basis, (16, 4), 8, dtype))


@runs
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_product_with_an_oblong_matrix(dtype: torch.dtype) -> None:
    dense = matrices(1).to_scipy()[0].toarray()[:37]
    x = torch.randn((3, 48, 21), generator=torch.Generator().manual_seed(2)).to(DEVICE, dtype)
    y = gpu.product(FixedMatrices([sparse.csr_array(dense)]), x)
    assert y.dtype == dtype
    assert_close(y, torch.einsum("ts,bsc->btc", torch.tensor(dense), x.cpu().double()))


@runs
def test_batches_in_parts_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    basis = basis_of("none", recursive=True, n_terms=3)
    xs, weight = samples(basis, (6,), 8, torch.float32)
    whole = gpu.convolve(basis, xs, weight, Epilogue())
    monkeypatch.setattr(gpu, "SCRATCH", 2 * 48 * 3 * 8 * 4)
    assert len(list(gpu._parts(basis, whole, 3 * 8))) == 2
    assert gpu.convolve(basis, xs, weight, Epilogue()).equal(whole)
    check_adjoint(basis, xs, weight)


@runs
def test_empty_batch() -> None:
    basis = basis_of("gathered", recursive=True, n_terms=3)
    xs, weight = samples(basis, (2,), 3, torch.float32, n_samples=0)
    gradient = xs[0].new_empty((0, 12, 3))
    assert gpu.convolve(basis, xs, weight, Epilogue()).shape == (0, 12, 3)
    results, moments = gpu.adjoint(basis, xs, weight, gradient, need_x=True, need_weight=True)
    assert results is not None
    assert moments is not None
    assert results[0].shape == (0, 48, 2)
    assert moments.equal(torch.zeros_like(weight))


@runs
def test_inputs_stay_as_they_are() -> None:
    basis = basis_of("none", recursive=True, n_terms=4)
    xs, weight = samples(basis, (5, 3), 4, torch.float32)
    gradient = torch.ones((3, 48, 4), device=DEVICE)
    copies = [tensor.clone() for tensor in (*xs, weight, gradient)]
    gpu.convolve(basis, xs, weight, Epilogue(rectify=True))
    gpu.adjoint(basis, xs, weight, gradient, need_x=True, need_weight=True)
    for tensor, copy in zip((*xs, weight, gradient), copies, strict=True):
        assert tensor.equal(copy)


@runs
def test_places_may_need_more_than_32_bits() -> None:
    # rows far apart in memory that is never touched in between
    row, n_cells = 1 << 26, 40
    assert row * n_cells > 2**31
    memory = torch.empty(row * n_cells, dtype=torch.float16, device=DEVICE)
    x = memory.as_strided((1, n_cells, 3), (row * n_cells, row, 1))
    x.copy_(torch.randn((1, n_cells, 3), generator=torch.Generator().manual_seed(3)))
    matrix = matrices(1, n_cells)
    out = torch.empty((1, n_cells, 3), dtype=torch.float16, device=DEVICE)
    launches.weigh(matrix, launches.Cells(x), minus=launches.Cells(x), out=out)
    dense = torch.tensor(matrix.to_scipy()[0].toarray() - np.eye(n_cells))
    assert_close(out, torch.einsum("ts,bsc->btc", dense, x.cpu().double()))


def test_routes_are_chosen_by_what_they_move() -> None:
    def expands(n_in: int, n_out: int, **options: object) -> bool:
        settings = {"children": "none", "recursive": True, "n_terms": 4, **options}
        return gpu._expands(basis_of(**settings), n_in, n_out, torch.bfloat16)

    assert expands(64, 64)
    assert expands(16, 64)
    assert expands(64, 40)
    assert not expands(64, 24)
    # given matrices take one pass, whatever the number of channels
    assert expands(64, 24, recursive=False)
    assert expands(64, 64, n_terms=2)
    # products of parents are four times fewer, which counts where there are many channels
    assert not expands(256, 256, children="spread")
    assert expands(256, 256, children="none")
    assert expands(16, 64, children="spread")


@has_triton
@pytest.mark.skipif(RUNS_HERE, reason="the kernels are tested in this process")
@pytest.mark.slow
def test_kernels_in_a_process_of_their_own() -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__]
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    subprocess.run(command, check=True, env=environment)


@needs_gpu
@has_triton
@pytest.mark.parametrize("route", ROUTES)
def test_cuda_graphs_record_convolutions(route: str, take: Callable[[str], None]) -> None:
    take(route)
    basis = basis_of("none", recursive=True, n_terms=4)
    xs, weight = samples(basis, (16, 8), 32, torch.bfloat16)
    expected = gpu.convolve(basis, xs, weight, Epilogue(rectify=True))
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        y = gpu.convolve(basis, xs, weight, Epilogue(rectify=True))
    y.zero_()
    graph.replay()
    assert y.equal(expected)
