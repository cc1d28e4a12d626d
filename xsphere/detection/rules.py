"""Published rules for events, as functions of the fields of one step; a rule is one entry.

Every length is in km and every area in km2, so that a rule means the same on every grid. The
numbers are those of the papers.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from xsphere.detection import blocking, cyclones, rivers
from xsphere.detection.contours import DEGREE
from xsphere.detection.vapour_transport import COMPONENTS
from xsphere.grids import Grid
from xsphere.model.catalogue import VARIABLES
from xsphere.model.spec_parts import Variable

Event = Literal["tropical_cyclone", "atmospheric_river", "blocking"]
Fields = Mapping[str, NDArray[Any]]
Find = Callable[[Fields, Grid, Mapping[str, float]], NDArray[np.bool_]]

VAPOUR = Variable(
    name="IWV",
    units="kg m-2",
    standard_name="atmosphere_mass_content_of_water_vapor",
    aliases=("TMQ", "tcwv", "prw", "pwat", "tqv", "TQV", "total_column_water_vapour"),
)
PRESSURE = Variable(
    name="PSL",
    units="Pa",
    standard_name="air_pressure_at_mean_sea_level",
    aliases=("psl", "msl", "slp", "SLP", "prmsl", "mslet", "mean_sea_level_pressure"),
)


def _temperature(pressure: int) -> Variable:
    aliases = (f"t{pressure}", f"ta{pressure}", "t", "ta", "T", "temperature")
    return Variable(
        name=f"T{pressure}",
        units="K",
        standard_name="air_temperature",
        aliases=aliases,
        pressure=float(pressure),
    )


def _height(pressure: int) -> Variable:
    aliases = (f"z{pressure}", f"zg{pressure}", f"gh{pressure}", "gh", "zg", "Z", "z", "Z3")
    return Variable(
        name=f"Z{pressure}",
        units="m",
        standard_name="geopotential_height",
        aliases=aliases,
        pressure=float(pressure),
    )


@dataclass(frozen=True, kw_only=True)
class Rule:
    """How events of one kind are found.

    Parameters
    ----------
    variables : tuple of Variable
        What is read; those of the transport of vapour are integrated where they are not there.
    settings : dict of str to float
        Numbers of the paper by name.
    find : callable
        From fields by name, each of shape (n_cells,), the grid and settings to what is in an event.
    reference : str
        Where the rule is from.
    needs, takes : dict of str to str
        Fields that are given beside the dataset, by the argument's name, and what they are: those
        it cannot do without, and those it can.
    """

    variables: tuple[Variable, ...]
    settings: Mapping[str, float]
    find: Find
    reference: str
    needs: Mapping[str, str] = field(default_factory=dict)
    takes: Mapping[str, str] = field(default_factory=dict)


RULES: Mapping[Event, Mapping[str, Rule]] = {
    "atmospheric_river": {
        "tempest": Rule(
            variables=COMPONENTS,
            settings={
                "max_laplacian": -2e4,  # kg m-1 s-1 rad-2
                "laplacian_distance": 10 * DEGREE,
                "min_latitude": 15.0,
                "min_area": 4e5,
            },
            find=rivers.tempest_river,
            reference="Ullrich et al. (2021), https://doi.org/10.5194/gmd-14-5023-2021",
        ),
        "guan_waliser": Rule(
            variables=COMPONENTS,
            settings={
                "min_transport": 100.0,
                "min_length": 2000.0,
                "min_length_to_width": 2.0,
                "max_turn": 45.0,
                "min_coherence": 0.5,
                "min_poleward_transport": 50.0,
            },
            find=rivers.guan_waliser,
            reference="Guan and Waliser (2015), https://doi.org/10.1002/2015JD024257",
            needs={
                "threshold": "the 85th percentile of the transport in kg m-1 s-1, such as "
                "transport.quantile(0.85, 'time')"
            },
        ),
        "rutz": Rule(
            variables=COMPONENTS,
            settings={"min_transport": 250.0, "min_length": 2000.0},
            find=rivers.rutz,
            reference="Rutz et al. (2014), https://doi.org/10.1175/MWR-D-13-00168.1",
        ),
        "gershunov": Rule(
            variables=(*COMPONENTS, VAPOUR),
            settings={"min_transport": 250.0, "min_vapour": 15.0, "min_length": 1500.0},
            find=rivers.gershunov,
            reference="Gershunov et al. (2017), https://doi.org/10.1002/2017GL074175",
        ),
        "ralph": Rule(
            variables=(VAPOUR,),
            settings={"min_vapour": 20.0, "min_length": 2000.0, "max_width": 1000.0},
            find=rivers.ralph,
            reference="Ralph et al. (2004), https://doi.org/10.1175/1520-0493(2004)132",
        ),
    },
    "tropical_cyclone": {
        "tempest": Rule(
            variables=(PRESSURE, _height(300), _height(500)),
            settings={
                "min_pressure_rise": 200.0,  # Pa
                "pressure_distance": 5.5 * DEGREE,
                "min_thickness_fall": 6.0,  # m
                "thickness_distance": 6.5 * DEGREE,
                "core_distance": 1.0 * DEGREE,
                "merge_distance": 6.0 * DEGREE,
            },
            find=cyclones.tempest_cyclone,
            reference="Zarzycki and Ullrich (2017), https://doi.org/10.1002/2016GL071606",
        ),
        "gfdl": Rule(
            variables=(
                VARIABLES["U850"],
                VARIABLES["V850"],
                PRESSURE,
                _temperature(200),
                _temperature(500),
                _height(200),
                _height(1000),
            ),
            settings={
                "min_vorticity": 1.6e-4,  # s-1
                "vorticity_window": 7.74 * DEGREE,
                "low_distance": 2.0 * DEGREE,
                "min_pressure_rise": 400.0,  # Pa
                "pressure_distance": 5.0 * DEGREE,
                "core_distance": 2.0 * DEGREE,
                "min_warmth_fall": 0.8,  # K
                "warmth_distance": 5.0 * DEGREE,
                "min_thickness_fall": 50.0,  # m
                "thickness_distance": 4.0 * DEGREE,
            },
            find=cyclones.gfdl_cyclone,
            reference="Knutson et al. (2007), https://doi.org/10.1175/BAMS-88-10-1549",
        ),
    },
    "blocking": {
        "tempest": Rule(
            variables=(_height(500),),
            settings={
                "min_anomaly": 100.0,  # m
                "min_latitude": 25.0,
                "max_latitude": 75.0,
                "min_area": 1e6,
            },
            find=blocking.tempest_blocking,
            reference="Pinheiro et al. (2019), https://doi.org/10.1007/s00382-019-04782-5",
            needs={"climatology": "the usual height of 500 hPa in m"},
            takes={"threshold": "the least anomaly in m, such as 1.5 standard deviations"},
        ),
        "gradient": Rule(
            variables=(_height(500),),
            settings={
                "distance": 15.0 * DEGREE,
                "min_equatorward_gradient": 0.0,  # m per degree
                "max_poleward_gradient": -10.0,  # m per degree
                "min_latitude": 35.0,
                "max_latitude": 75.0,
                "min_area": 0.0,
            },
            find=blocking.gradient_blocking,
            reference="Scherrer et al. (2006), https://doi.org/10.1002/joc.1250",
        ),
    },
}
