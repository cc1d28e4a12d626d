from .config import set_options as set_options
from .conventions import horizontal_grid as horizontal_grid
from .fitting import fit as fit
from .graph import SphereGraph as SphereGraph
from .grids import HealpixGrid as HealpixGrid
from .grids import LatLonGrid as LatLonGrid
from .grids import PointGrid as PointGrid
from .model import Channel as Channel
from .model import GraphSpec as GraphSpec
from .model import Model as Model
from .model import ModelSpec as ModelSpec
from .model import Variable as Variable
from .model import bundled_models as bundled_models
from .plotting import plot as plot
from .pyramids import write_pyramid as write_pyramid
from .regions import events as events
from .regions import events_to_csv as events_to_csv
from .regridding import coarsen as coarsen
from .regridding import refine as refine
from .regridding import regrid as regrid
from .regridding import to_healpix as to_healpix
from .regridding import to_latlon as to_latlon
from .sample import sample_dataset as sample_dataset
from .segmentation import segment as segment

__version__: str
