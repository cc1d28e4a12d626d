"""Rows of a matrix that are treated in parts give what they give at once."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from xsphere.graph.fitted_rows import with_diagonal
from xsphere.graph.laplacians import gershgorin_bound


def random_matrix(seed: int, n: int) -> sparse.csr_array:
    """Off-diagonal entries of both signs, some rows empty."""
    rng = np.random.default_rng(seed)
    dense = rng.normal(size=(n, n)) * (rng.uniform(size=(n, n)) < rng.uniform(size=(n, 1)))
    np.fill_diagonal(dense, 0.0)
    return sparse.csr_array(dense)


@given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 12), split=st.integers(0, 12))
def test_diagonals_are_put_where_they_belong(seed: int, n: int, split: int) -> None:
    matrix = random_matrix(seed, n)
    diagonal = np.random.default_rng(seed).uniform(1, 2, size=n)
    expected = sparse.csr_array(matrix + sparse.diags_array(diagonal))
    expected.sort_indices()
    indices, data = np.full(expected.nnz, -1, np.int32), np.full(expected.nnz, np.nan)
    for cells in (np.arange(min(split, n)), np.arange(min(split, n), n)):
        part = matrix[cells]
        rows = part.indices.astype(np.int32), part.data, diagonal[cells]
        with_diagonal(cells, np.diff(part.indptr), rows, expected.indptr, indices, data)
    assert np.array_equal(indices, expected.indices)
    assert np.array_equal(data, expected.data)


def test_a_cell_among_its_own_neighbours_follows_its_diagonal() -> None:
    indices, data = np.empty(3, np.int32), np.empty(3)
    rows = np.array([0, 1], np.int32), np.array([-1.0, 0.5]), np.array([2.0])
    with_diagonal(np.array([1]), np.array([2]), rows, np.array([0, 0, 3]), indices, data)
    assert indices.tolist() == [0, 1, 1]
    assert data.tolist() == [-1.0, 2.0, 0.5]


@pytest.mark.parametrize("n_rows", [1, 4, 7, 100])
@pytest.mark.parametrize("largest", [0, 6, 7, 12])
def test_bound_is_the_largest_sum_of_any_part(
    monkeypatch: pytest.MonkeyPatch, n_rows: int, largest: int
) -> None:
    monkeypatch.setattr("xsphere.graph.laplacians.ROWS_AT_ONCE", n_rows)
    matrix = sparse.csr_array(random_matrix(3, 13) + sparse.eye_array(13))
    factors = np.where(np.arange(13) == largest, 100.0, 1.0)
    sums = np.abs(matrix.toarray()).sum(axis=1)
    for bound, exact in (
        (gershgorin_bound(matrix), sums.max()),
        (gershgorin_bound(matrix, factors), (sums * factors).max()),
    ):
        assert exact <= bound * (1 + 1e-12)
        assert bound <= exact * 1.001
