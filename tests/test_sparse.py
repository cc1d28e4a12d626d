"""Convolutions and products of sparse matrices against dense formulas in float64."""

import copy
import ctypes
import gc
import multiprocessing
import pickle
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import product as combinations
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from scipy import sparse
from torch import Tensor

from tests.dense import dense_convolution, dense_gradients, dense_product, dense_terms
from tests.tiers import examples
from xsphere.graph import SphereGraph
from xsphere.grids import HealpixGrid
from xsphere.nn.sparse import blocks as block_module
from xsphere.nn.sparse import (
    cpu,
    functional,
    jobs,
    plans,
    reference,
    workers,
)
from xsphere.nn.sparse.epilogue import Epilogue
from xsphere.nn.sparse.functional import convolve, product
from xsphere.nn.sparse.matrices import Basis, Children, FixedMatrices, numbered_basis
from xsphere.nn.sparse.workers import share_out

N_CELLS = 40
CHILDREN: tuple[Children, ...] = ("none", "spread", "gathered")
# channels of each source, and of the result: one, odd, more than go together at a time
SIZES = [
    ((1,), 1),
    ((3,), 5),
    ((2, 1, 4), 1),
    ((1,), 9),
    ((130, 2), 3),
    ((5,), 133),
    ((129, 1), 130),
]
UNIT = {torch.float64: 2**-53, torch.float32: 2**-24, torch.bfloat16: 2**-8, torch.float16: 2**-11}


@pytest.fixture(autouse=True)
def _one_thread_and_small_blocks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    # forty cells make blocks of 12, 12, 12 and 4, each with rings around it
    monkeypatch.setattr(plans, "FEWEST_ROWS", 4)
    monkeypatch.setattr(plans, "MOST_ROWS", 12)
    monkeypatch.setattr(plans, "FEW_CELLS", 0)
    # matrices without any order are cut up as well
    monkeypatch.setattr(block_module, "MOST_AROUND", 1000)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def random_matrices(n_matrices: int, n_cells: int = N_CELLS, seed: int = 0) -> list[Any]:
    """Not symmetric, each with a pattern of its own; two empty rows, and a cell by itself."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(n_matrices):
        entries = rng.normal(size=(n_cells, n_cells)) * (rng.random((n_cells, n_cells)) < 0.08)
        entries[[1, n_cells - 1]] = 0
        entries[2], entries[:, 2] = 0, 0
        # rows whose sizes sum to one at most, so that no polynomial grows
        entries /= np.maximum(np.abs(entries).sum(1, keepdims=True), 1)
        found.append(sparse.csr_array(entries))
    return found


def case(
    recursive: bool, children: Children, n_terms: int = 4, n_cells: int = N_CELLS, seed: int = 0
) -> tuple[Basis, list[Tensor]]:
    """A basis and its dense matrices."""
    matrices = random_matrices(1 if recursive else n_terms - 1, n_cells, seed)
    basis = Basis.of(
        FixedMatrices(matrices), n_terms=n_terms, recursive=recursive, children=children
    )
    return basis, dense_terms(matrices, n_terms, children, recursive)


def samples(
    basis: Basis, sources: Sequence[int], n_out: int, dtype: torch.dtype, batch: int = 2
) -> tuple[list[Tensor], Tensor]:
    torch.manual_seed(1)
    xs = [torch.randn(batch, basis.n_source, n).to(dtype).requires_grad_() for n in sources]
    weight = torch.randn(basis.n_terms, sum(sources), n_out).to(dtype).requires_grad_()
    return xs, weight


def assert_close(actual: Tensor, expected: Tensor, bound: Tensor) -> None:
    """Within one rounding of the result, and 64 of sums of float32 at least.

    `bound` is the same sum of magnitudes alone: what roundings within the sum are relative to.
    """
    actual, unit = actual.detach(), min(UNIT[actual.dtype], UNIT[torch.float32])
    largest = bound.max() if bound.numel() else 0
    allowed = UNIT[actual.dtype] * expected.abs() + 64 * unit * largest
    if actual.dtype == torch.float16:  # its smallest step
        allowed = allowed + 2**-25
    assert actual.shape == expected.shape
    excess = (actual.double() - expected).abs() - allowed
    assert excess.numel() == 0 or float(excess.max()) <= 0


def assert_is_formula(basis: Basis, terms: Sequence[Tensor], xs: Any, weight: Tensor) -> None:
    """Result and gradients, against the formula."""
    x = torch.cat(xs, dim=2).detach()
    y = convolve(basis, xs, weight)
    magnitudes = [term.abs() for term in terms]
    parts = x.abs(), weight.detach().abs()
    assert y.dtype == weight.dtype
    assert_close(
        y, dense_convolution(terms, x, weight).detach(), dense_convolution(magnitudes, *parts)
    )
    gradient = torch.randn(y.shape).to(y.dtype)
    *of_xs, of_weight = torch.autograd.grad(y, [*xs, weight], gradient)
    expected = dense_gradients(terms, x, weight, gradient)
    bounds = dense_gradients(magnitudes, *parts, gradient.abs())
    assert_close(torch.cat(of_xs, dim=2), expected[0], bounds[0])
    assert_close(of_weight, expected[1], bounds[1])


@pytest.mark.parametrize(("sources", "n_out"), SIZES)
@pytest.mark.parametrize("children", CHILDREN)
@pytest.mark.parametrize("recursive", [True, False])
def test_convolution_is_its_formula(
    recursive: bool,
    children: Children,
    sources: tuple[int, ...],
    n_out: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    basis, terms = case(recursive, children)
    xs, weight = samples(basis, sources, n_out, torch.float32, batch=3)
    # whole samples, two at a time, or blocks of them; terms or products first
    monkeypatch.setattr(cpu, "KEPT", 2 * N_CELLS * 4 * min(sum(sources), n_out))
    for few, products_first in combinations((0, N_CELLS), (True, False)):
        monkeypatch.setattr(plans, "FEW_CELLS", few)
        monkeypatch.setattr(cpu, "_has_products_first", lambda *_, first=products_first: first)
        assert_is_formula(basis, terms, xs, weight)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("children", CHILDREN)
@pytest.mark.parametrize("recursive", [True, False])
def test_types_differ_in_rounding_alone(
    recursive: bool, children: Children, dtype: torch.dtype
) -> None:
    basis, terms = case(recursive, children)
    for sources, n_out in [((3, 2), 4), ((9,), 2)]:
        assert_is_formula(basis, terms, *samples(basis, sources, n_out, dtype))


def test_both_orders_of_work_are_chosen() -> None:
    bases = {children: case(True, children)[0] for children in CHILDREN}
    assert cpu._has_products_first(bases["none"], 64, 1)
    assert cpu._has_products_first(bases["spread"], 8, 8)
    assert not cpu._has_products_first(bases["none"], 8, 8)
    assert not cpu._has_products_first(bases["gathered"], 8, 8)


@examples(40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    n_parents=st.integers(1, 9),
    n_terms=st.integers(2, 5),
    recursive=st.booleans(),
    children=st.sampled_from(CHILDREN),
    sources=st.lists(st.integers(1, 20), min_size=1, max_size=3),
    n_out=st.integers(1, 20),
    batch=st.integers(0, 3),
    rows=st.integers(4, 40),
    few=st.sampled_from([0, 40]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    seed=st.integers(0, 99),
)
def test_any_convolution_is_its_formula(
    n_parents: int, n_terms: int, recursive: bool, children: Children, sources: list[int],
    n_out: int, batch: int, rows: int, few: int, dtype: torch.dtype, seed: int,
) -> None:  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plans, "MOST_ROWS", rows)
        patch.setattr(plans, "FEW_CELLS", few)
        basis, terms = case(recursive, children, n_terms, 4 * n_parents, seed)
        assert_is_formula(basis, terms, *samples(basis, sources, n_out, dtype, batch))


def test_blocks_have_rings_and_do_not_divide_the_cells() -> None:
    job = jobs.Job.of(case(True, "none")[0], [torch.zeros(1, N_CELLS, 8)], 8)
    found = job.plan.blocks.parts
    assert [block.n_own for block in found] == [12, 12, 12, 4]
    assert all(len(block.ids) > block.n_own for block in found)


@pytest.mark.parametrize("need", [(True, False), (False, True)])
def test_gradients_of_either_alone_are_those_of_both(need: tuple[bool, bool]) -> None:
    for children, sizes in combinations(CHILDREN, [(3, 7), (7, 3)]):
        basis, terms = case(True, children)
        (x,), weight = samples(basis, sizes[:1], sizes[1], torch.float64)
        wanted = [tensor for tensor, needed in zip((x, weight), need, strict=True) if needed]
        inputs = [t if needed else t.detach() for t, needed in zip((x, weight), need, strict=True)]
        y = convolve(basis, inputs[:1], inputs[1])
        gradient = torch.randn_like(y)
        (found,) = torch.autograd.grad(y, wanted, gradient)
        expected = dense_gradients(terms, x, weight, gradient)[need.index(True)]
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-11)


@pytest.mark.parametrize("children", CHILDREN)
@pytest.mark.parametrize("recursive", [True, False])
def test_gradients_have_gradients(recursive: bool, children: Children) -> None:
    basis, _ = case(recursive, children, 3, n_cells=8)
    xs, weight = samples(basis, (2, 1), 2, torch.float64, batch=1)

    def function(first: Tensor, second: Tensor, weight: Tensor) -> Tensor:
        return convolve(basis, [first, second], weight)

    assert torch.autograd.gradgradcheck(function, (*xs, weight))


@pytest.mark.parametrize("of", [0, 1])
def test_penalties_on_one_gradient_alone_reach_everything(of: int) -> None:
    basis, terms = case(True, "none")
    (x,), weight = samples(basis, (3,), 2, torch.float64)

    def penalised(y: Tensor) -> list[Tensor]:
        gradient = torch.autograd.grad(y.square().sum(), [x, weight], create_graph=True)[of]
        return list(torch.autograd.grad(gradient.square().sum(), [x, weight]))

    found = penalised(convolve(basis, [x], weight))
    expected = penalised(dense_convolution(terms, x, weight))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-10)


@pytest.mark.parametrize("children", CHILDREN)
@pytest.mark.parametrize("recursive", [True, False])
def test_reference_agrees_and_is_differentiable_by_itself(
    recursive: bool, children: Children, monkeypatch: pytest.MonkeyPatch
) -> None:
    basis, terms = case(recursive, children)
    xs, weight = samples(basis, (3, 2), 4, torch.float64)
    y = reference.convolve(basis, xs, weight, Epilogue())
    gradient = torch.randn_like(y)
    *of_xs, of_weight = torch.autograd.grad(y, [*xs, weight], gradient)
    expected = dense_gradients(terms, torch.cat(xs, 2), weight, gradient)
    torch.testing.assert_close(torch.cat(of_xs, 2), expected[0], rtol=1e-12, atol=1e-11)
    torch.testing.assert_close(of_weight, expected[1], rtol=1e-12, atol=1e-11)
    # and as what devices without a fast path use
    monkeypatch.setattr(functional, "_backend", lambda _: None)
    assert_is_formula(basis, terms, xs, weight)
    assert_is_formula(basis, terms, *samples(basis, (3,), 2, torch.float32))


def test_matrices_first_met_in_inference_can_be_learned_with() -> None:
    matrices = FixedMatrices(random_matrices(1))
    x = torch.randn(1, N_CELLS, 2, requires_grad=True)
    with torch.inference_mode():
        product(matrices, x)
    reference.product(matrices, x).sum().backward()
    assert x.grad is not None


@pytest.mark.parametrize("dtype", list(UNIT))
def test_product_is_the_matrix_product(dtype: torch.dtype) -> None:
    matrix = sparse.csr_array(random_matrices(1)[0][:, :23])
    matrices = FixedMatrices([matrix])
    for n_channels in (1, 3, 150):
        x = torch.randn(2, 23, n_channels).to(dtype)
        bound = dense_product(abs(matrix), x.abs())
        for result in (product(matrices, x), reference.product(matrices, x)):
            assert result.dtype == dtype
            assert_close(result, dense_product(matrix, x), bound)
    y = torch.randn(2, 3, 23, dtype=torch.float64).transpose(1, 2).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: product(matrices, x), y)
    assert torch.autograd.gradgradcheck(lambda x: product(matrices, x), y)


@pytest.mark.parametrize("children", CHILDREN)
def test_results_are_scaled_shifted_and_rectified(
    children: Children, monkeypatch: pytest.MonkeyPatch
) -> None:
    basis, terms = case(True, children)
    for sources, products_first in combinations([(3,), (130,)], (True, False)):
        monkeypatch.setattr(cpu, "_has_products_first", lambda *_, first=products_first: first)
        xs, weight = (part for part in samples(basis, sources, 5, torch.float64))
        scale, shift = torch.randn(5, dtype=torch.float64), torch.randn(5, dtype=torch.float64)
        plain = dense_convolution(terms, xs[0], weight).detach()
        given_parts: list[dict[str, Any]] = [
            {"scale": scale}, {"shift": shift}, {"scale": scale, "shift": shift, "rectified": True}
        ]  # fmt: skip
        for parts in given_parts:
            with torch.no_grad():
                y = convolve(basis, xs, weight, **parts)
            expected = plain * parts.get("scale", 1) + parts.get("shift", 0)
            expected = expected.relu() if "rectified" in parts else expected
            torch.testing.assert_close(y, expected, rtol=1e-12, atol=1e-11)


@pytest.mark.parametrize("few", [0, N_CELLS])
@pytest.mark.parametrize("children", CHILDREN)
def test_no_samples_are_no_results_and_gradients_of_zero(
    children: Children, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plans, "FEW_CELLS", few)
    basis, _ = case(True, children)
    for n_in, n_out in [(3, 4), (9, 2)]:
        xs, weight = samples(basis, (n_in,), n_out, torch.float32, batch=0)
        y, of_x, of_weight = everything(basis, xs, weight)
        assert y.shape == (0, basis.n_target, n_out)
        assert of_x.shape == xs[0].shape
        assert torch.equal(of_weight, torch.zeros_like(weight))


def test_shifts_have_gradients_and_scales_have_none() -> None:
    basis, _ = case(True, "none")
    (x,), weight = samples(basis, (3,), 2, torch.float32)
    shift = torch.randn(2, requires_grad=True)
    y = convolve(basis, [x], weight, shift=shift)
    gradient = torch.randn_like(y)
    (found,) = torch.autograd.grad(y, shift, gradient)
    torch.testing.assert_close(found, gradient.sum((0, 1)))
    final: list[dict[str, Any]] = [{"scale": torch.ones(2)}, {"rectified": True}]
    for parts in final:
        with pytest.raises(RuntimeError, match="scaled or rectified convolutions are for infer"):
            convolve(basis, [x], weight, **parts).sum().backward()


def test_strides_of_arguments_do_not_matter() -> None:
    basis, terms = case(True, "none")
    (x,), weight = samples(basis, (6,), 4, torch.float64)
    odd = torch.randn(2, 6, N_CELLS, dtype=torch.float64).transpose(1, 2)
    every_other = torch.randn(2, N_CELLS, 12, dtype=torch.float64)[..., ::2]
    turned = torch.randn(4, 4, 6, dtype=torch.float64).permute(0, 2, 1)
    for one, factors in [(odd, turned), (every_other, weight), (x[:1].expand(2, -1, -1), turned)]:
        assert_is_formula(
            basis, terms, [one.detach().requires_grad_()], factors.detach().requires_grad_()
        )
    # gradients of sums are expanded, without memory of their own
    (found,) = torch.autograd.grad(convolve(basis, [x], weight).sum(), x)
    expected = dense_gradients(terms, x, weight, torch.ones(2, N_CELLS, 4))[0]
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-11)


def everything(basis: Basis, xs: list[Tensor], weight: Tensor) -> list[Tensor]:
    """Result and gradients."""
    y = convolve(basis, xs, weight)
    return [y.detach(), *torch.autograd.grad(y.square().sum(), [*xs, weight])]


def without_openmp(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where torch has no OpenMP that can be called."""
    monkeypatch.setattr(workers, "_openmp", lambda: None)


@pytest.mark.parametrize("openmp", [True, False])
@pytest.mark.parametrize("few", [0, N_CELLS])
@pytest.mark.parametrize("children", CHILDREN)
def test_results_depend_neither_on_threads_nor_on_the_batch(
    children: Children, few: int, openmp: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not openmp:
        without_openmp(monkeypatch)
    monkeypatch.setattr(plans, "FEW_CELLS", few)
    for sources, n_out in [((3, 2), 4), ((21,), 2), ((3,), 140)]:
        basis, _ = case(True, children)
        xs, weight = samples(basis, sources, n_out, torch.float32, batch=5)
        expected = everything(basis, xs, weight)
        for n_threads in (2, 3):
            torch.set_num_threads(n_threads)
            found = everything(basis, xs, weight)
            assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))
        torch.set_num_threads(1)
        for number in range(5):
            alone = [x[number : number + 1].detach().requires_grad_() for x in xs]
            pairs = zip(everything(basis, alone, weight)[:-1], expected[:-1], strict=True)
            assert all(torch.equal(one[0], all_of_them[number]) for one, all_of_them in pairs)


def test_one_large_item_has_the_same_bits_with_all_of_torchs_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # torch shares out what is done to more than 32768 elements at once
    monkeypatch.setattr(plans, "MOST_ROWS", 2048)
    monkeypatch.setattr(plans, "FEWEST_ROWS", 2048)
    monkeypatch.setattr(cpu, "_has_products_first", lambda *_: True)
    shifted = sparse.csr_array(sparse.diags_array([np.ones(2047)], offsets=[1]))
    basis = Basis.of(FixedMatrices([shifted]), n_terms=2)
    (x,), weight = samples(basis, (3,), 37, torch.float32, batch=1)
    results = []
    for n_threads in (1, 2):
        torch.set_num_threads(n_threads)
        with torch.no_grad():
            parts = {"scale": weight[0, 0].exp(), "shift": weight[0, 1]}
            results.append(convolve(basis, [x], weight, **parts, rectified=True))
    assert torch.equal(*results)


@pytest.mark.parametrize("openmp", [True, False])
def test_threads_that_call_at_once_have_the_same_bits(
    openmp: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not openmp:
        without_openmp(monkeypatch)
    basis, _ = case(True, "none")
    work = [samples(basis, (3,), n_out, torch.float32) for n_out in (1, 2, 5, 20, 150)] * 4
    expected = [everything(basis, *one) for one in work]
    for n_threads in (1, 2):
        torch.set_num_threads(n_threads)
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda one: everything(basis, *one), work))
        for pair in zip(found, expected, strict=True):
            assert all(torch.equal(*tensors) for tensors in zip(*pair, strict=True))
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize("openmp", [True, False])
def test_threads_of_torch_stay_as_many_as_they_were(
    openmp: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "_pools", {})  # those to come are started here
    if not openmp:
        without_openmp(monkeypatch)
    basis, _ = case(True, "none")
    torch.set_num_threads(3)
    everything(basis, *samples(basis, (3,), 2, torch.float32))
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(torch.get_num_threads).result() == 3
    assert torch.get_num_threads() == 3


@pytest.mark.parametrize("openmp", [True, False])
def test_threads_share_the_items(openmp: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if openmp and workers._openmp() is None:
        pytest.skip("torch has no OpenMP here that can be called")
    if not openmp:
        without_openmp(monkeypatch)
    together = threading.Barrier(3, timeout=1800)
    threads = set()

    @ctypes.CFUNCTYPE(None, ctypes.c_int64)
    def loop(address: int) -> None:
        # all three are here at once: none of them waits for another to end
        together.wait()
        threads.add(threading.get_ident())

    address = ctypes.cast(loop, ctypes.c_void_p).value
    share_out(SimpleNamespace(ctypes=loop, address=address), np.zeros(1, np.int64), 3)
    assert len(threads) == 3


def test_all_threads_are_done_when_one_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    # they know memory by its address, and it is free then
    without_openmp(monkeypatch)
    started, done = threading.Event(), threading.Event()
    caller, call = threading.get_ident(), np.zeros(1, np.int64)

    def loop(address: int) -> None:
        assert address == call.ctypes.data
        if threading.get_ident() == caller:
            started.wait(1800)
            raise ZeroDivisionError
        started.set()
        time.sleep(0.1)
        done.set()

    with pytest.raises(ZeroDivisionError):
        share_out(SimpleNamespace(ctypes=loop), call, 2)
    assert done.is_set()
    # whoever was about to take an item finds none
    assert call.tolist() == [workers.NO_MORE]


def test_processes_forked_after_work_can_work() -> None:
    basis, _ = case(True, "none")
    (x,), weight = (part for part in samples(basis, (3,), 2, torch.float32))
    torch.set_num_threads(2)
    with torch.no_grad():
        expected = convolve(basis, [x], weight).numpy()
        context = multiprocessing.get_context("fork")
        ours, theirs = context.Pipe()
        child = context.Process(
            target=lambda: theirs.send(convolve(basis, [x], weight).detach().numpy()), daemon=True
        )
        child.start()
        assert ours.poll(1800)
        np.testing.assert_array_equal(ours.recv(), expected)
        child.join(1800)
    assert child.exitcode == 0


def test_copies_are_the_matrices_themselves_and_pickles_are_equal() -> None:
    basis, _ = case(True, "spread")
    matrices = basis.matrices
    for copied in (copy.copy, copy.deepcopy):
        assert copied(matrices) is matrices
        assert copied(basis) is basis
    other = pickle.loads(pickle.dumps(basis))
    assert other.number != basis.number
    assert other is Basis.of(other.matrices, n_terms=4, children="spread")
    assert other is numbered_basis(other.matrices.number, 4, True, "spread")
    for name in ("indptr", "indices", "values"):
        np.testing.assert_array_equal(getattr(other.matrices, name), getattr(matrices, name))
        assert not getattr(other.matrices, name).flags.writeable
    xs, weight = samples(basis, (3,), 2, torch.float32)
    pairs = zip(everything(basis, xs, weight), everything(other, xs, weight), strict=True)
    assert all(torch.equal(*pair) for pair in pairs)


def test_matrices_that_nobody_has_are_forgotten() -> None:
    number = case(True, "none")[0].number
    gc.collect()
    with pytest.raises(KeyError):
        Basis.numbered(number)


def test_gradients_keep_the_matrices_alive() -> None:
    basis, terms = case(True, "none")
    (x,), weight = samples(basis, (3,), 2, torch.float64)
    y = convolve(basis, [x], weight)
    del basis
    gc.collect()
    (found,) = torch.autograd.grad(y, x, torch.ones_like(y))
    expected = dense_gradients(terms, x, weight, torch.ones_like(y))[0]
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-11)


def test_transposed_matrices_of_matrices_turned_twice_are_themselves() -> None:
    matrices = FixedMatrices(random_matrices(2))
    assert matrices.transposed.transposed is matrices
    assert not matrices.is_symmetric
    for one, other in zip(matrices.to_scipy(), matrices.transposed.to_scipy(), strict=True):
        np.testing.assert_array_equal(one.toarray().T, other.toarray())
    (one,) = random_matrices(1)
    assert FixedMatrices([sparse.csr_array(one + one.T)]).is_symmetric


def test_nan_reaches_the_rings_around_it_and_no_farther() -> None:
    basis, terms = case(True, "none", n_terms=3)
    (x,), weight = (part for part in samples(basis, (3,), 2, torch.float32))
    x = x.detach()
    x[0, 7, 1] = torch.nan
    with torch.no_grad():
        y = convolve(basis, [x], weight, shift=torch.ones(2), rectified=True)
    first = (terms[1] != 0).double()
    # T_2 = 2 L L - I: wherever two steps lead, cancelled or not
    reached = (first[:, 7] > 0) | ((first @ first)[:, 7] > 0)
    reached[7] = True
    assert 1 < int(reached.sum()) < N_CELLS
    assert torch.equal(
        y.isnan(), reached[:, None].expand(-1, 2) & torch.tensor([True, False])[:, None, None]
    )


def test_what_is_wrong_with_a_convolution_is_named() -> None:
    basis, _ = case(True, "none")
    (x,), weight = (part for part in samples(basis, (3,), 2, torch.float32))
    weight = weight.detach()
    wrong: list[tuple[Any, Any, dict[str, Any], str]] = [
        ([x[0]], weight, {}, r"samples of shape \(40, 3\), not \(batch, 40, channels\)"),
        ([x[:, :4]], weight, {}, r"samples of shape \(2, 4, 3\)"),
        ([x, x[:1]], weight, {}, r"samples of shape \(1, 40, 3\).*; weights of.*\(4, 6, channels"),
        ([x], weight[:3], {}, r"weights of shape \(3, 3, 2\), not \(4, 3, channels_out\)"),
        ([x], weight[..., :0], {}, r"weights of shape \(4, 3, 0\), none at all"),
        ([x], weight.double(), {}, r"types torch.float32 on cpu, torch.float64 on cpu, not one"),
        ([x.int()], weight.int(), {}, r"types torch.int32 on cpu, not one floating type"),
        ([x], weight, {"shift": torch.ones(3)}, r"shift of shape \(3,\) on cpu, not \(2,\) on cpu"),
        ([x], weight, {"scale": torch.ones(1)}, r"scale of shape \(1,\) on cpu"),
        ([], weight, {}, "no samples"),
    ]
    for xs, factors, parts, message in wrong:
        with pytest.raises(ValueError, match=message):
            convolve(basis, xs, factors, **parts)


def test_what_is_wrong_with_a_product_is_named() -> None:
    matrices = FixedMatrices(random_matrices(2))
    with pytest.raises(ValueError, match="a product takes one matrix, got 2"):
        product(matrices, torch.ones(1, N_CELLS, 1))
    single = FixedMatrices(random_matrices(1))
    with pytest.raises(
        ValueError, match=r"samples of shape \(batch, 40, channels\), got \(1, 3, 1\)"
    ):
        product(single, torch.ones(1, 3, 1))
    with pytest.raises(ValueError, match=r"samples of a floating type, got torch.int64"):
        product(single, torch.ones(1, N_CELLS, 1, dtype=torch.int64))


def test_what_is_no_basis_is_refused() -> None:
    one, two = (FixedMatrices(random_matrices(n)) for n in (1, 2))
    with pytest.raises(ValueError, match="at least 2 terms, got 1"):
        Basis.of(one, n_terms=1)
    with pytest.raises(ValueError, match="3 terms need 1 square matrices, got 2"):
        Basis.of(two, n_terms=3)
    with pytest.raises(ValueError, match=r"2 terms need 1 square matrices.*shape \(40, 3\)"):
        Basis.of(FixedMatrices([sparse.csr_array((40, 3))]), n_terms=2)
    with pytest.raises(ValueError, match="4 terms need 3 square matrices, got 2"):
        Basis.of(two, n_terms=4, recursive=False)
    with pytest.raises(ValueError, match=r"children must be .* got 'both'"):
        Basis.of(one, n_terms=2, children="both")  # type: ignore[arg-type]
    ten = FixedMatrices(random_matrices(1, n_cells=10))
    with pytest.raises(ValueError, match=r"cells must come in fours .* got 10 cells"):
        Basis.of(ten, n_terms=2, children="spread")
    assert Basis.of(ten, n_terms=2).n_source == 10


def test_what_are_no_matrices_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="of one shape, and at least one, got \\[\\]"):
        FixedMatrices([])
    with pytest.raises(ValueError, match=r"of one shape.*\(2, 2\), \(2, 3\)"):
        FixedMatrices([sparse.csr_array((2, 2)), sparse.csr_array((2, 3))])
    broken = sparse.csr_array(np.eye(4))
    broken.indices[2] = 9
    with pytest.raises(ValueError, match=r"indices must be < 4|column index"):
        FixedMatrices([broken])
    monkeypatch.setattr("xsphere.nn.sparse.matrices.MAX_ENTRIES", 3)
    with pytest.raises(ValueError, match="at most 3 entries, got 4; use fewer neighbours"):
        FixedMatrices([sparse.csr_array(np.eye(4))])


def test_matrices_given_stay_as_they_were() -> None:
    entries = np.array([1.0, 2.0, 3.0]), np.array([1, 0, 1]), np.array([0, 3, 3])
    matrix = sparse.csr_array(entries, shape=(2, 2))
    found = FixedMatrices([matrix])
    assert found.values.tolist() == [[2.0, 4.0]]
    assert matrix.data.tolist() == [1.0, 2.0, 3.0]
    assert matrix.indices.tolist() == [1, 0, 1]


def test_cells_in_no_order_are_done_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rings around blocks of cells that stand anywhere would each reach around the sphere."""
    monkeypatch.setattr(plans, "FEW_CELLS", 0)
    monkeypatch.setattr(plans, "FEWEST_ROWS", 64)
    monkeypatch.setattr(plans, "MOST_ROWS", 64)
    monkeypatch.setattr(block_module, "MOST_AROUND", 2.5)
    graph = SphereGraph(HealpixGrid(4), k=8).scaled_laplacian
    order = np.random.default_rng(0).permutation(graph.shape[0])
    shuffled = sparse.csr_array(graph[order][:, order])
    x, weight = torch.randn(2, graph.shape[0], 3), torch.randn(4, 3, 5)
    whole = []
    for matrix in (graph, shuffled):
        basis = Basis.of(FixedMatrices([matrix]), n_terms=4)
        job = jobs.Job.of(basis, [x], 3)
        whole.append(job.is_whole)
        assert sum(len(block.ids) for block in job.plan.blocks.parts) <= 3 * graph.shape[0]
        inputs = x if matrix is graph else x[:, order]
        with torch.no_grad():
            y = convolve(basis, [inputs], weight)
        torch.testing.assert_close(
            y.double(),
            dense_convolution(dense_terms([matrix], 4), inputs, weight),
            atol=1e-4,
            rtol=0,
        )
    assert whole == [False, True]
