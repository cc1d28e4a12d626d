"""Arguments and options that several commands have."""

from typing import Annotated

import typer

# texts, not paths, which would make one slash of the two of a URL
Input = Annotated[str, typer.Argument(metavar="IN", help="NetCDF file or Zarr store, or its URL.")]
Output = Annotated[str, typer.Argument(metavar="OUT", help="File to write (.zarr or .nc).")]
ModelName = Annotated[str, typer.Option("--model", "-m", help="Bundled name or model file.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")]
Workers = Annotated[
    int | None,
    typer.Option(help="Processes on this machine; threads of one process if not given."),
]
Scheduler = Annotated[str | None, typer.Option(help="Address of a Dask scheduler to work on.")]
BlockSize = Annotated[int | None, typer.Option(help="Maps in a task.")]
BatchSize = Annotated[int, typer.Option(help="Maps a worker handles at a time.")]
What = Annotated[str, typer.Option(help="mask or probability.")]
Grid = Annotated[str, typer.Option(help="healpix or source.")]
Device = Annotated[str | None, typer.Option(help="A torch device; a GPU if there is one.")]
Precision = Annotated[str, typer.Option(help="float32; on GPUs also bfloat16 or float16.")]
MissingChunks = Annotated[
    str, typer.Option(help="Chunks that are not in a Zarr source: raise, invalid or fill.")
]
MendedSource = Annotated[
    bool,
    typer.Option("--mended-source", help="Go on though the source was changed: it was mended."),
]
MinArea = Annotated[float, typer.Option(help="Smallest area of an event in km2.")]
