"""Fixed matrices on the cells of a sphere, and the sets of them that a convolution mixes.

They are data, not parameters: every device gets its own copy when it first needs one, copies of a
network share them, and no checkpoint holds them.
"""

import itertools
import threading
from collections.abc import Callable, Hashable, Sequence
from functools import partial
from typing import Any, Literal, Self, TypeVar
from weakref import WeakValueDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

T = TypeVar("T")
Children = Literal["none", "spread", "gathered"]
MAX_ENTRIES = 2**31 - 1

_live: "WeakValueDictionary[int, FixedMatrices | Basis]" = WeakValueDictionary()
_numbers = itertools.count()


class _Shared:
    """What never changes is its own copy."""

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self


class _Kept(_Shared):
    """Things made once per key, by whichever thread comes first; not copied, not pickled."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._things: dict[Hashable, Any] = {}

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        with self._lock:
            if key not in self._things:
                self._things[key] = make()
            thing: T = self._things[key]
            return thing

    def __reduce__(self) -> tuple[type["_Kept"], tuple[()]]:
        return _Kept, ()


class FixedMatrices(_Shared):
    """Sparse matrices with one pattern of entries, never changed.

    Parameters
    ----------
    matrices : sequence of sparse arrays, each of shape (n_target, n_source)
        Any real matrices. An entry that one of them lacks is zero in it.

    Attributes
    ----------
    shape : tuple of int
        (n_target, n_source).
    indptr, indices : arrays of int32
        Where the entries of each row stand, and their columns, in ascending order.
    values : array of float64, shape (n_matrices, n_entries)
        Entries of each matrix.

    Raises
    ------
    ValueError
        If there is no matrix, shapes differ, or there are 2**31 entries or more.

    Examples
    --------
    >>> matrices = FixedMatrices([sparse.csr_array([[0.0, 1.0]]), sparse.csr_array([[2.0, 0.0]])])
    >>> matrices.indices.tolist(), matrices.values.tolist()
    ([0, 1], [[0.0, 1.0], [2.0, 0.0]])
    """

    def __init__(self, matrices: Sequence[sparse.csr_array]) -> None:
        shapes = [matrix.shape for matrix in matrices]
        if len(set(shapes)) != 1:
            raise ValueError(f"matrices must be of one shape, and at least one, got {shapes}")
        self.shape: tuple[int, int] = shapes[0]
        matrices = [_canonical(matrix) for matrix in matrices]
        pattern = matrices[0] if len(matrices) == 1 else _pattern(matrices)
        if pattern.nnz > MAX_ENTRIES:
            raise ValueError(
                f"a matrix may have at most {MAX_ENTRIES:,} entries, got {pattern.nnz:,}; use "
                "fewer neighbours or a part of the sphere"
            )
        self.indptr: NDArray[np.int32] = _frozen(pattern.indptr.astype(np.int32))
        self.indices: NDArray[np.int32] = _frozen(pattern.indices.astype(np.int32))
        self.values: NDArray[np.float64] = _frozen(_values(matrices, pattern).astype(np.float64))
        self._kept = _Kept()
        self._register()

    def _register(self) -> None:
        # operators of torch take numbers, not objects
        self.number = next(_numbers)
        _live[self.number] = self

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restored in another process, under a number of its own."""
        self.__dict__.update(state)
        # pickles forget that arrays must not be written
        for name in ("indptr", "indices", "values"):
            setattr(self, name, _frozen(getattr(self, name)))
        self._register()

    @staticmethod
    def numbered(number: int) -> "FixedMatrices":
        """Those of a number, while they live."""
        matrices = _live[number]
        assert isinstance(matrices, FixedMatrices)
        return matrices

    @property
    def n_matrices(self) -> int:
        """Number of matrices."""
        return len(self.values)

    @property
    def transposed(self) -> "FixedMatrices":
        """The transposed matrices: these themselves if all are symmetric."""
        return self._kept.get("transposed", self._transpose)

    @property
    def is_symmetric(self) -> bool:
        """Whether each matrix is its own transpose, to the last bit."""
        return self.transposed is self

    def _transpose(self) -> "FixedMatrices":
        other = FixedMatrices([sparse.csr_array(matrix.T) for matrix in self.to_scipy()])
        names = ("indptr", "indices", "values")
        if all(np.array_equal(getattr(self, name), getattr(other, name)) for name in names):
            return self
        other._kept.get("transposed", lambda: self)
        return other

    def to_scipy(self) -> list[sparse.csr_array]:
        """The matrices, as SciPy knows them."""
        return [
            sparse.csr_array((values, self.indices, self.indptr), shape=self.shape)
            for values in self.values
        ]

    def entries(self, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        """Pointers, columns and values on a device, put there at the first call.

        Parameters
        ----------
        device : torch.device
            Where.
        dtype : torch.dtype
            Of the values.

        Returns
        -------
        indptr, indices : tensors of int32
            As the attributes.
        values : tensor of `dtype`, shape (n_matrices, n_entries)
            As the attribute.

        Examples
        --------
        >>> matrices = FixedMatrices([sparse.csr_array([[0.5]])])
        >>> matrices.entries(torch.device("cpu"), torch.float32)[2].tolist()
        [[0.5]]
        """
        indptr, indices = self._kept.get(
            ("pattern", str(device)),
            lambda: tuple(_placed(part, device) for part in (self.indptr, self.indices)),
        )
        values = self._kept.get(
            ("values", str(device), dtype), lambda: _placed(self.values, device, dtype)
        )
        return indptr, indices, values

    def kept(self, key: Hashable, make: Callable[[], T]) -> T:
        """What is made from these matrices once, and kept as long as they are.

        Parameters
        ----------
        key : hashable
            Its name.
        make : callable
            Makes it.

        Returns
        -------
        object
            The same one for every caller.

        Examples
        --------
        >>> matrices = FixedMatrices([sparse.csr_array([[0.5]])])
        >>> matrices.kept("x", list) is matrices.kept("x", list)
        True
        """
        return self._kept.get(key, make)


class Basis(_Shared):
    """The matrices A_0, A_1, ... of a convolution ``y = sum_k A_k x W_k``; A_0 is the identity.

    Parameters
    ----------
    matrices : FixedMatrices
        What the others are made of, on the finer cells if two grids take part.
    n_terms : int
        Number of matrices A_k.
    recursive : bool
        Whether A_k is the Chebyshev polynomial T_k of the one matrix given; else A_k is the
        matrix number k - 1.
    children : {"none", "spread", "gathered"}
        ``"spread"``: sources are parents, every child has the value of its parent, as after
        `xsphere.nn.unpool`. ``"gathered"``: targets are parents, the sums of their four children.

    Attributes
    ----------
    n_source, n_target : int
        Cells of input and output.

    Raises
    ------
    ValueError
        If the number of matrices does not fit the number of terms, or cells do not come in fours
        where parents take part.

    Examples
    --------
    >>> matrices = FixedMatrices([sparse.csr_array([[0.0, 1.0], [2.0, 0.0]])])
    >>> basis = Basis.of(matrices, n_terms=3)
    >>> basis.n_terms, basis.n_source, basis.transposed.transposed is basis
    (3, 2, True)
    """

    def __init__(
        self, matrices: FixedMatrices, *, n_terms: int, recursive: bool, children: Children
    ) -> None:
        needed = 1 if recursive else n_terms - 1
        if n_terms < 2:
            raise ValueError(f"a basis has at least 2 terms, got {n_terms}; one needs no matrices")
        if matrices.n_matrices != needed or matrices.shape[0] != matrices.shape[1]:
            raise ValueError(
                f"{n_terms} terms need {needed} square matrices, got {matrices.n_matrices} of "
                f"shape {matrices.shape}"
            )
        if children not in ("none", "spread", "gathered"):
            raise ValueError(f"children must be 'none', 'spread' or 'gathered', got {children!r}")
        if children != "none" and matrices.shape[0] % 4:
            raise ValueError(
                f"cells must come in fours where parents take part, got {matrices.shape[0]} cells"
            )
        self.matrices, self.n_terms = matrices, n_terms
        self.recursive, self.children = recursive, children
        # attributes, no properties: torch reads them while it compiles
        self.n_source = matrices.shape[1] // (4 if children == "spread" else 1)
        self.n_target = matrices.shape[0] // (4 if children == "gathered" else 1)
        self.number = next(_numbers)
        _live[self.number] = self

    @classmethod
    def of(
        cls,
        matrices: FixedMatrices,
        *,
        n_terms: int,
        recursive: bool = True,
        children: Children = "none",
    ) -> "Basis":
        """The one basis of these matrices and options.

        Parameters
        ----------
        matrices, n_terms, recursive, children
            As for the class.

        Returns
        -------
        Basis
            The same object as long as the matrices live.

        Examples
        --------
        >>> matrices = FixedMatrices([sparse.csr_array([[0.0, 1.0], [2.0, 0.0]])])
        >>> Basis.of(matrices, n_terms=2) is Basis.of(matrices, n_terms=2)
        True
        """
        return matrices.kept(
            ("basis", n_terms, recursive, children),
            lambda: cls(matrices, n_terms=n_terms, recursive=recursive, children=children),
        )

    def __reduce__(self) -> tuple[Any, ...]:
        """In another process, the one basis of its matrices there."""
        of = partial(Basis.of, n_terms=self.n_terms, recursive=self.recursive)
        return partial(of, children=self.children), (self.matrices,)

    @staticmethod
    def numbered(number: int) -> "Basis":
        """That of a number, while it lives."""
        basis = _live[number]
        assert isinstance(basis, Basis)
        return basis

    @property
    def transposed(self) -> "Basis":
        """Basis of the transposed matrices, between the same grids the other way."""
        turned: dict[Children, Children] = {
            "none": "none", "spread": "gathered", "gathered": "spread"
        }  # fmt: skip
        return Basis.of(
            self.matrices.transposed,
            n_terms=self.n_terms,
            recursive=self.recursive,
            children=turned[self.children],
        )


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def numbered_basis(number: int, n_terms: int, recursive: bool, children: Children) -> Basis:
    """The basis of the matrices of a number.

    What torch compiles has the basis in it, and is good for this number alone: read the number
    where torch sees it.

    Parameters
    ----------
    number : int
        Number of `FixedMatrices`.
    n_terms, recursive, children
        As for `Basis`.

    Returns
    -------
    Basis
        The same object as long as the matrices live.

    Examples
    --------
    >>> matrices = FixedMatrices([sparse.csr_array([[0.0, 1.0], [2.0, 0.0]])])
    >>> numbered_basis(matrices.number, 2, True, "none") is Basis.of(matrices, n_terms=2)
    True
    """
    matrices = FixedMatrices.numbered(number)
    return Basis.of(matrices, n_terms=n_terms, recursive=recursive, children=children)


def _canonical(matrix: sparse.csr_array) -> sparse.csr_array:
    """A copy whose rows have each column once, in ascending order."""
    copy = sparse.csr_array(matrix, copy=True)
    # compiled loops trust the columns
    copy.check_format(full_check=True)
    copy.sum_duplicates()
    return copy


def _pattern(matrices: Sequence[sparse.csr_array]) -> sparse.csr_array:
    """All entries that any of the matrices has."""
    marked = [
        sparse.csr_array((np.ones(m.nnz), m.indices, m.indptr), shape=m.shape) for m in matrices
    ]
    return _canonical(sum(marked[1:], start=marked[0]))


def _values(matrices: Sequence[sparse.csr_array], pattern: sparse.csr_array) -> NDArray[np.float64]:
    """Values of each matrix at the places of the pattern."""
    if len(matrices) == 1:
        return pattern.data[None]
    values = np.zeros((len(matrices), pattern.nnz))
    places = _places(pattern)
    for one, matrix in zip(values, matrices, strict=True):
        one[np.searchsorted(places, _places(matrix))] = matrix.data
    return values


def _places(matrix: sparse.csr_array) -> NDArray[np.int64]:
    """Where each entry stands in the whole matrix, row after row."""
    rows = np.repeat(np.arange(matrix.shape[0], dtype=np.int64), np.diff(matrix.indptr))
    return rows * matrix.shape[1] + matrix.indices


def _placed(array: NDArray[Any], device: torch.device, dtype: torch.dtype | None = None) -> Tensor:
    # a copy: torch has no tensors that must not be written. Those made for inference alone could
    # never be kept for gradients.
    with torch.inference_mode(False):
        return torch.tensor(array, device=device, dtype=dtype)


def _frozen(array: NDArray[Any]) -> NDArray[Any]:
    array = np.ascontiguousarray(array)
    array.flags.writeable = False
    return array
