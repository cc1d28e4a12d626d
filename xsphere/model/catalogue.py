"""Variables that climate models and reanalyses name differently: standard names and aliases."""

from dataclasses import replace

from xsphere.model.bounds import usual_bounds
from xsphere.model.spec_parts import Variable


def _wind(letter: str, pressure: int, cf: str) -> Variable:
    low = letter.lower()
    aliases = (
        f"{low}{pressure}",
        f"{low}a{pressure}",
        f"{low.upper()}_{pressure}",
        low,
        f"{low}a",
        letter,
        f"{'u' if low == 'u' else 'v'}_component_of_wind",
    )
    return Variable(
        name=f"{letter}{pressure}",
        units="m s-1",
        standard_name=cf,
        aliases=aliases,
        pressure=float(pressure),
    )


VARIABLES = {
    variable.name: replace(
        variable, valid_range=usual_bounds(variable.standard_name, variable.units)
    )
    for variable in (
        Variable(
            name="TMQ",
            units="kg m-2",
            standard_name="atmosphere_mass_content_of_water_vapor",
            aliases=(
                "tcwv",
                "prw",
                "pwat",
                "tqv",
                "TQV",
                "IWV",
                "total_column_water_vapour",
                "precipitable_water",
            ),
        ),
        Variable(
            name="PSL",
            units="Pa",
            standard_name="air_pressure_at_mean_sea_level",
            aliases=("psl", "msl", "slp", "SLP", "prmsl", "mslet", "mean_sea_level_pressure"),
        ),
        _wind("U", 850, "eastward_wind"),
        _wind("V", 850, "northward_wind"),
    )
}
