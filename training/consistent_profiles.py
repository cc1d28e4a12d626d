"""Search of the weights and responses that `SphereGraph(weights="consistent")` is fitted with.

    python training/consistent_profiles.py [K ...]

For each number of neighbours it looks for the weights a_l and the target eigenvalues c_l of the
degrees l that make the mean Schur error over l = 1 .. 60 least at HEALPix level 5 (each degree
counted 10 / (l + 5) times), with no degree up to 95 worse than the Gaussian graph of the same k
where there is a published one; 1.3 times worse elsewhere.

For given c_l that is a convex problem (a sum of norms): the rows that solve it are least-squares
solutions for some a_l, found by reweighting a_l = (m_l + mu_l) / (c_l**2 E_l) with the errors E_l,
the measure m_l and the multipliers mu_l of the bounds. The c_l follow the response that rows have.
The result goes to xsphere/data/graph/consistent.json.
"""

import argparse
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from xsphere.graph.links import HealpixLinks
from xsphere.graph.width import kernel_width
from xsphere.grids import HealpixGrid

LEVEL, N_DEGREES = 5, 128
KS = (5, 6, 8, 10, 12, 16, 20, 28, 40, 60)
KNOTS = np.concatenate(
    [np.linspace(0, 0.4, 5), np.linspace(0.5, 2.0, 13), np.linspace(2.2, 4.2, 11)]
)
STARTS = (0.9, 1.0)  # of the published width
SHOWN = np.array([5, 10, 20, 30, 45, 60, 75, 90])
LARGEST_DEGREE = 95
# at level 5, in radians (Defferrard et al., 2020)
PUBLISHED_WIDTHS = {8: 0.02500, 20: 0.03185, 40: 0.042432, 60: 0.051720}
OUTPUT = Path(__file__).parent.parent / "xsphere" / "data" / "graph" / "consistent.json"

degrees = np.arange(N_DEGREES)
eigenvalues = degrees * (degrees + 1.0)
grid = HealpixGrid(LEVEL)
area = 4 * np.pi / grid.n_cells
x_of = np.sqrt(eigenvalues * area)


def representatives():
    """Cells of a sixteenth of the sphere, which stand for all by symmetry, and how many each."""
    lon, lat = grid.centre_lonlat
    cells = np.flatnonzero((lat > -1e-9) & (lon < 45 + 1e-9))
    shares = np.where(np.abs(lat[cells]) < 1e-9, 0.5, 1.0)
    shares[(lon[cells] < 1e-9) | (np.abs(lon[cells] - 45) < 1e-9)] *= 0.5
    return cells, shares / shares.sum()


def legendre_forms(ids):
    """1 - P_l between the members of each stencil: (n, degrees, m, m)."""
    points = grid.centres[ids]
    half = ((points[:, :, None] - points[:, None]) ** 2).sum(axis=-1) / 2
    forms = np.zeros((len(ids), N_DEGREES, *half.shape[1:]))
    before, now = np.zeros_like(half), np.ones_like(half)
    for degree in range(1, N_DEGREES):
        forms[:, degree] = half * now
        following = (2 * degree + 1) * ((1 - half) * now + 1) - degree * before
        before, now = now, following / (degree + 1)
    return forms


def stencils(k):
    """Shares and forms of the representatives, in groups of one size."""
    counts, ids = HealpixLinks(LEVEL, k).of_rows(slice(0, grid.n_cells))
    starts = np.concatenate([[0], np.cumsum(counts)])
    cells, shares = representatives()
    sizes = np.diff(starts)[cells]
    # a matter of memory: a part of the cells will do for large stencils
    kept = np.arange(0, cells.size, max(1, round((k / 16) ** 2)))
    groups = []
    for size in np.unique(sizes[kept]):
        chosen = kept[sizes[kept] == size]
        members = [[c, *ids[starts[c] : starts[c + 1]]] for c in cells[chosen]]
        groups.append((shares[chosen] / shares[kept].sum(), legendre_forms(np.array(members))))
    return groups


def fitted(forms, a, c):
    """Rows that minimise the sum of a_l times the squared error, their sum zero."""
    gram = np.einsum("l,nlij->nij", a, forms, optimize=True)
    right = -np.einsum("l,nlj->nj", a * c, forms[:, :, :, 0], optimize=True)[:, 1:]
    near = gram[:, 1:, 0]
    matrix = near[:, :, None] + near[:, None, :] - gram[:, 1:, 1:]
    ridge = 1e-13 * np.trace(matrix, axis1=1, axis2=2) / matrix.shape[1]
    matrix += ridge[:, None, None] * np.eye(matrix.shape[1])
    rows = np.linalg.solve(matrix, right[..., None])[..., 0]
    return np.concatenate([-rows.sum(axis=1, keepdims=True), rows], axis=1)


def measured(groups, a, c):
    """Schur error and mean response of every degree."""

    def one(group):
        shares, forms = group
        rows = fitted(forms, a, c)
        power = -np.einsum("ni,nlij,nj->nl", rows, forms, rows, optimize=True)
        along = -np.einsum("ni,nli->nl", rows, forms[:, :, :, 0])
        return shares @ power, shares @ along

    with ThreadPoolExecutor(2) as pool:
        power, along = (np.sum(parts, axis=0) for parts in zip(*pool.map(one, groups), strict=True))
    power[0] = 1.0
    return np.sqrt(np.maximum(1 - along**2 / power, 0)), along


def gaussian_errors(k):
    """Schur errors of the published kind of graph, the bound that none shall exceed."""
    from xsphere.equivariance import equivariance_error
    from xsphere.graph import SphereGraph

    graph = SphereGraph(grid, k=k, weights="gaussian", kernel_width=published_width(k))
    result = equivariance_error(graph.laplacian, grid, degrees[1 : LARGEST_DEGREE + 1])
    slack = 1.0 if k in PUBLISHED_WIDTHS else 1.3
    return np.concatenate([[1.0], slack * result.error])


def published_width(k):
    """Width printed, else by the law fitted to these."""
    return PUBLISHED_WIDTHS.get(k, kernel_width(grid, k))


def smoothed(values):
    """Values of degrees 1, 2, ... at the knots and back, by least squares in x."""
    basis = np.stack([np.interp(x_of[1:], KNOTS, row) for row in np.eye(KNOTS.size)], axis=1)
    density = 1 / np.maximum(degrees[1:], 1)
    inside = np.linalg.lstsq(
        np.concatenate(
            [basis * np.sqrt(density)[:, None], 1e-3 * np.diff(np.eye(KNOTS.size), 2, 0)]
        ),
        np.concatenate([values * np.sqrt(density), np.zeros(KNOTS.size - 2)]),
    )[0]
    return inside, basis @ inside


def search(k, width_factor, groups, bound, n_steps=140):
    """Knots of log weights and response, and what they reach, from the heat kernel of a width."""
    time = (width_factor * published_width(k)) ** 2 / (4 * np.log(2))
    response = np.concatenate(
        [[1.0], -np.expm1(-time * eigenvalues[1:]) / (time * eigenvalues[1:])]
    )
    # means over degrees that stand for equal steps of log l, from 5 to 60
    measure = np.where((degrees >= 1) & (degrees <= 60), 10 / (degrees + 5.0), 1e-3)
    extra = np.where((degrees > 40) & (degrees <= LARGEST_DEGREE), 0.1, 0.0)
    log_a = -0.5 * np.log(eigenvalues[1:])
    for step in range(n_steps):
        knots_a, log_a = smoothed(log_a)
        knots_r, inner = smoothed(response[1:])
        c = eigenvalues * np.concatenate([[1.0], inner / knots_r[0]])
        a = np.concatenate([[0.0], np.exp(log_a - log_a.max()) / c[1:] ** 2])
        error, along = measured(groups, a, c)
        if step == n_steps - 1:
            break
        response[1:] = (along[1:] / eigenvalues[1:]) / (along[2] / eigenvalues[2])
        if step > 30:
            over = error[: LARGEST_DEGREE + 1] / (0.99 * bound)
            extra[: LARGEST_DEGREE + 1] *= np.clip(over, 0.5, 2) ** 0.5
            extra = np.clip(extra, 1e-6 * (degrees > 40), 50) * (degrees <= LARGEST_DEGREE)
        wanted = np.log((measure + extra)[1:] / np.maximum(error[1:], 1e-6))
        log_a = 0.5 * (log_a - log_a.mean()) + 0.5 * (wanted - wanted.mean())
    return knots_a, knots_r / knots_r[0], error


def best(k):
    """Best of some starting widths: the least mean among those within the bound, if any is."""
    groups, bound = stencils(k), gaussian_errors(k)
    found = []
    for factor in STARTS:
        knots_a, knots_r, error = search(k, factor, groups, bound)
        worst = float((error[5:91] / bound[5:91]).max())
        mean = float(error[SHOWN[:6]].mean())
        print(
            f"k={k} start {factor}: mean {mean:.5f}, worst ratio {worst:.3f}",
            *error[SHOWN].round(4),
            flush=True,
        )
        found.append((mean * max(1.0, worst) ** 6, knots_a, knots_r, error))
    _, knots_a, knots_r, error = min(found, key=lambda entry: entry[0])
    return {
        "k": k,
        "log_weights": (knots_a - knots_a[0]).round(4).tolist(),
        "response": knots_r.round(6).tolist(),
        "errors": dict(zip(SHOWN.tolist(), error[SHOWN].round(5).tolist(), strict=True)),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("k", type=int, nargs="*", default=KS)
    chosen = parser.parse_args().k
    content = json.loads(OUTPUT.read_text()) if OUTPUT.exists() else {"profiles": []}
    profiles = {entry["k"]: entry for entry in content["profiles"]}
    for k in chosen:
        profiles[k] = best(k)
        OUTPUT.parent.mkdir(exist_ok=True)
        OUTPUT.write_text(
            json.dumps({"x": KNOTS.tolist(), "profiles": [profiles[k] for k in sorted(profiles)]})
        )
