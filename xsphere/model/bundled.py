"""The models that come with the package."""

from pathlib import Path

from xsphere.paths import local_path

BUNDLED = Path(__file__).parent.parent / "data" / "models"


def bundled_models() -> list[str]:
    """Names of the models that come with the package.

    Returns
    -------
    list of str
        Names that `Model.load` takes.

    Examples
    --------
    >>> "tc-ar" in bundled_models()
    True
    """
    return sorted(path.stem for path in BUNDLED.glob("*.safetensors"))


def model_path(name_or_path: str | Path) -> Path:
    """File of a bundled model or at a path.

    Parameters
    ----------
    name_or_path : str or Path
        Name of a bundled model, or a path.

    Returns
    -------
    Path
        A file that exists.

    Raises
    ------
    FileNotFoundError
        If there is neither.

    Examples
    --------
    >>> model_path("tc-ar").name
    'tc-ar.safetensors'
    """
    if str(name_or_path) in bundled_models():
        return BUNDLED / f"{name_or_path}.safetensors"
    path = local_path(name_or_path, "the model")
    if not path.is_file():
        raise FileNotFoundError(
            f"no model {str(name_or_path)!r}: it is neither a file nor one of the bundled models "
            f"{bundled_models()}"
        )
    return path
