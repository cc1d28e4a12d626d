"""The models that come with the package."""

from pathlib import Path

from xsphere.model.file import read_specification
from xsphere.paths import local_path

BUNDLED = Path(__file__).parent.parent / "data" / "models"


def list_models() -> dict[str, str]:
    """Names of the models that come with the package, and what each is for.

    Returns
    -------
    dict of str
        Descriptions by name; `Model.load` and `xsphere.segment` take the names.

    Examples
    --------
    >>> "atmospheric rivers" in list_models()["tc-ar"]
    True
    """
    # headers alone are read
    return {
        path.stem: str(read_specification(path)[0]["description"])
        for path in sorted(BUNDLED.glob("*.safetensors"))
    }


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
    bundled = {path.stem: path for path in sorted(BUNDLED.glob("*.safetensors"))}
    if str(name_or_path) in bundled:
        return bundled[str(name_or_path)]
    path = local_path(name_or_path, "the model")
    if not path.is_file():
        raise FileNotFoundError(
            f"no model {str(name_or_path)!r}: it is neither a file nor one of the bundled models "
            f"{list(bundled)}"
        )
    return path
