"""Models: strict files, stable digests, inputs normalised and derived as the specification says."""

import copy
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tiers import examples
from tests.toys import storm_model, storm_spec
from xsphere.config import set_options
from xsphere.model import (
    Channel,
    GraphSpec,
    Model,
    ModelFileError,
    ModelSpec,
    Variable,
    build_network,
    derived_field,
)
from xsphere.model.file import to_bytes

# of the bundled model, whose scores are in its record
WEIGHTS = "04c783d12dc12acadf8bd514821e2fc5e9d7265d8a5121179ff252b66485d5cb"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return storm_model().save(tmp_path / "m.safetensors")


def edited(path: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """The file with another header: a change of the JSON, lengths mended."""
    content = path.read_bytes()
    n = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + n])
    change(header)
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + n :])
    return path


def edited_spec(path: Path, **entries: Any) -> Path:
    def change(header: dict[str, Any]) -> None:
        spec = json.loads(header["__metadata__"]["xsphere"]) | entries
        header["__metadata__"]["xsphere"] = json.dumps(spec)

    return edited(path, change)


def test_file_round_trip(file: Path) -> None:
    model, again = storm_model(), Model.load(file)
    assert again == model
    assert again.spec == model.spec
    assert again.digest == model.digest
    assert all(np.array_equal(again.tensors[name], model.tensors[name]) for name in model.tensors)


def test_digest_is_the_same_in_another_process(elsewhere: Any) -> None:
    code = "from tests.toys import storm_model; print(storm_model().digest)"
    assert elsewhere(code).strip() == storm_model().digest


def test_one_changed_bit_changes_the_digest() -> None:
    model = storm_model()
    tensors = {name: tensor.copy() for name, tensor in model.tensors.items()}
    tensors["head.bias"].view(np.uint32)[0] ^= 1
    assert Model(model.spec, tensors).digest != model.digest


def test_kernel_widths_are_written_down() -> None:
    spec = replace(storm_spec(), graph=GraphSpec(weights="gaussian"))
    assert len(Model.untrained(spec).spec.graph.kernel_widths) == 2


def test_a_consistent_graph_needs_no_width_and_takes_one() -> None:
    assert storm_model().spec.graph == GraphSpec(weights="consistent")
    wide = replace(storm_spec(), graph=GraphSpec(kernel_widths=(0.5, 0.9)))
    assert Model.untrained(wide).spec.graph.kernel_widths == (0.5, 0.9)
    with pytest.raises(ValueError, match="graph needs 2 kernel_widths, one a level, got 1"):
        Model.untrained(replace(wide, graph=GraphSpec(kernel_widths=(0.5,))))


@pytest.mark.parametrize("keep", [0, 4, 8, 100, -1, -1000])
def test_truncated_file_is_refused(file: Path, keep: int) -> None:
    content = file.read_bytes()
    file.write_bytes(content[:keep])
    with pytest.raises(ModelFileError, match=r"is refused: (its|tensor)"):
        Model.load(file)


def test_longer_file_is_refused(file: Path) -> None:
    file.write_bytes(file.read_bytes() + b"x")
    with pytest.raises(ModelFileError, match=r"\d+ are there"):
        Model.load(file)


def test_foreign_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"\x80\x04\x95pickle?" * 100)
    with pytest.raises(ModelFileError, match="not a safetensors file"):
        Model.load(path)
    from safetensors.numpy import save_file

    save_file({"a": np.zeros(2, np.float32)}, path)
    with pytest.raises(ModelFileError, match="has no 'xsphere' specification"):
        Model.load(path)


def test_wrong_shape_is_refused(file: Path) -> None:
    spec = storm_spec().to_dict() | {
        "network": {"architecture": "unet", "features": [4, 7], "depths": [0, 1], "kernel_size": 3}
    }
    with pytest.raises(ModelFileError, match=r"tensor '.*' has shape .*, its network needs"):
        Model.load(edited_spec(file, network=spec["network"]))


def test_model_of_another_number_of_channels_is_refused(file: Path) -> None:
    channels = storm_spec().to_dict()["channels"][:3]
    with pytest.raises(ModelFileError, match=r"encoder.*has shape \(3, 4, 4\), its network needs"):
        Model.load(edited_spec(file, channels=channels))


def test_unknown_architecture_is_refused(file: Path) -> None:
    with pytest.raises(ModelFileError, match="unknown architecture 'transformer'"):
        Model.load(edited_spec(file, network={"architecture": "transformer"}))


def test_absurd_sizes_are_refused_before_anything_is_allocated(file: Path) -> None:
    network = {"architecture": "unet", "features": [10**9], "depths": [0]}
    with pytest.raises(ModelFileError, match="features must be"):
        Model.load(edited_spec(file, network=network))
    with pytest.raises(ModelFileError, match="level must be from 0 to 12, got 29"):
        Model.load(edited_spec(file, level=29))


def test_absurd_tensor_is_refused(file: Path) -> None:
    def change(header: dict[str, Any]) -> None:
        header["head.weight"]["shape"] = [10**15, 10**15]

    with pytest.raises(ModelFileError, match="absurd shape"):
        Model.load(edited(file, change))


@pytest.mark.parametrize("name", ["missing", "superfluous", "dtype", "overlap"])
def test_misfit_tensors_are_refused(file: Path, name: str) -> None:
    def change(header: dict[str, Any]) -> None:
        if name == "missing":
            header["head.bios"] = header.pop("head.bias")
        elif name == "superfluous":
            header["extra"] = header["head.bias"]
        elif name == "dtype":
            header["head.bias"]["dtype"] = "F64"
        else:
            header["head.bias"]["data_offsets"] = [0, 12]

    expected = {
        "missing": "lacks tensors",
        "superfluous": "overlap or leave holes",
        "dtype": "dtype 'F64'",
        "overlap": "overlap or leave holes",
    }
    with pytest.raises(ModelFileError, match=expected[name]):
        Model.load(edited(file, change))


def test_nan_weights_are_refused(tmp_path: Path) -> None:
    model = storm_model()
    tensors = {name: tensor.copy() for name, tensor in model.tensors.items()}
    tensors["head.bias"][0] = np.nan
    path = tmp_path / "nan.safetensors"
    path.write_bytes(to_bytes(model.spec.to_dict(), tensors))
    with pytest.raises(ModelFileError, match=r"\['head.bias'\] hold values that are not finite"):
        Model.load(path)


def test_unknown_entries_are_refused(file: Path) -> None:
    with pytest.raises(ModelFileError, match=r"unknown entries \['colour'\]"):
        Model.load(edited_spec(file, colour="red"))


def test_newer_format_is_refused(file: Path) -> None:
    with pytest.raises(ModelFileError, match="format must be 1, got 2; update xsphere"):
        Model.load(edited_spec(file, format=2))


@examples(200)
@given(st.data())
def test_any_flipped_bit_is_noticed(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """In the header and among the weights: the file is refused, or says the same."""
    content = bytearray(storm_model()._content)
    n_header = 8 + int.from_bytes(content[:8], "little")
    # as often in the header as in the rest
    positions = st.one_of(
        st.integers(0, 7), st.integers(8, n_header - 1), st.integers(n_header, len(content) - 1)
    )
    content[data.draw(positions)] ^= 1 << data.draw(st.integers(0, 7))
    path = tmp_path_factory.getbasetemp() / "flipped.safetensors"
    path.unlink(missing_ok=True)
    path.write_bytes(content)
    try:
        model = Model._read(path)
    except ModelFileError:
        return
    assert model == storm_model()


def test_file_without_a_digest_is_refused(file: Path) -> None:
    with pytest.raises(ModelFileError, match=r"holds no digest of its contents.*make it again"):
        Model.load(edited(file, lambda header: header["__metadata__"].pop("sha256")))


def test_weights_of_the_bundled_model_are_those_that_were_measured() -> None:
    sha = hashlib.sha256()
    tensors = Model.load("tc-ar").tensors
    for name in sorted(tensors):
        sha.update(f"{name} {tensors[name].shape} ".encode() + tensors[name].tobytes())
    assert sha.hexdigest() == WEIGHTS


def test_another_file_of_one_size_and_time_is_another_model(file: Path) -> None:
    before, stat = Model.load(file), file.stat()
    file.write_bytes(storm_model(seed=1)._content)
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert file.stat().st_size == stat.st_size
    assert Model.load(file) == storm_model(seed=1) != before


def test_unknown_model_is_refused() -> None:
    with pytest.raises(FileNotFoundError, match=r"neither a file nor one of the bundled models \["):
        Model.load("no-such-model")


def test_file_name_must_say_its_format(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"must end in '\.safetensors'"):
        storm_model().save(tmp_path / "m.pt")


def test_failed_save_leaves_the_former_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = file.read_bytes()

    def fail(*_: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        storm_model(seed=1).save(file)
    assert file.read_bytes() == before
    assert list(file.parent.iterdir()) == [file]


def test_specification_names_everything_wrong() -> None:
    with pytest.raises(
        ValueError, match=r"level must be .*; unknown regridding 'magic'.*; .*differ"
    ):
        replace(storm_spec(), level=-1, regridding="magic", classes=("a", "a"))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="made from unknown \\['V850'\\]"):
        replace(storm_spec(), variables=storm_spec().variables[:2])


def test_channels_are_checked() -> None:
    with pytest.raises(ValueError, match="unknown kind 'curl'"):
        Channel(name="c", kind="curl")
    with pytest.raises(ValueError, match="takes 2 sources"):
        Channel(name="c", kind="wind_speed", sources=("U850",))
    with pytest.raises(ValueError, match="positive std"):
        Channel(name="c", sources=("PSL",), std=0.0)
    with pytest.raises(ValueError, match="pressure of U850"):
        Variable(name="U850", units="m s-1", pressure=-1.0)


def test_plain_values_round_trip() -> None:
    spec = storm_spec()
    assert ModelSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths of all that a JSON value holds."""
    items = value.items() if isinstance(value, dict) else ()
    items = enumerate(value) if isinstance(value, list) else items
    for key, inner in items:
        yield (*path, key)
        yield from places(inner, (*path, key))


SPEC = json.loads(json.dumps(storm_spec().to_dict() | {"scores": {"iou": [0.5, 0.7]}}))
PLAIN = (
    st.none() | st.booleans() | st.integers(-(10**40), 10**40) | st.floats() | st.text(max_size=20)
)
ABSURD = st.sampled_from(
    [
        "x" * 10**5,
        "9**9**9**9",
        [[]] * 10**4,
        10**400,
        -1,
        0,
        1,
        [],
        {},
        "",
        [None],
        [True],
        {"": {}},
    ]
)
VALUES = ABSURD | st.recursive(
    PLAIN, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner)
)
OURS = re.compile(
    r"must|unknown|lacks|needs|differ|takes|nested|would need|has shape|it has|JSON object|unusable"
)


@examples(300)
@given(st.data())
def test_any_specification_is_sound_or_refused_in_our_words(data: st.DataObject) -> None:
    spec = json.loads(json.dumps(SPEC))
    for _ in range(data.draw(st.integers(1, 3))):
        *path, last = data.draw(st.sampled_from(list(places(spec))))
        inner = spec
        for key in path:
            inner = inner[key]
        match data.draw(st.sampled_from(["replace", "replace", "remove", "add"])):
            case "replace":
                inner[last] = copy.deepcopy(data.draw(VALUES))
            case "remove":
                del inner[last]
            case _ if isinstance(inner, dict):
                inner[data.draw(st.text(max_size=5))] = copy.deepcopy(data.draw(VALUES))
    message = ""
    try:
        model = Model(ModelSpec.from_dict(spec), storm_model().tensors)
    except ValueError as error:
        message = str(error)
    if message:
        assert OURS.search(message), message
        assert len(message) < 20_000
        return
    # what was taken can be written, hashed and read again
    assert ModelSpec.from_dict(json.loads(json.dumps(model.spec.to_dict()))) == model.spec
    assert len(model.digest) == 64


def test_everything_wrong_with_a_specification_is_said_at_once() -> None:
    spec = storm_spec().to_dict()
    spec["name"], spec["level"], spec["scores"] = ["storms"], True, {"iou": float("nan")}
    spec["channels"][0]["mean"] = "high"
    spec["variables"][1]["pressure"] = False
    spec["graph"]["kernel_widths"] = "wide"
    with pytest.raises(ValueError, match="name must be text") as caught:
        ModelSpec.from_dict(spec)
    for words in (
        "level must be an integer, got True",
        r"scores['iou'] must be a finite number, got nan; leave it out or say None",
        "entry 0 of channels: unusable channel: mean must be a finite number, got 'high'",
        "entry 1 of variables: unusable variable: pressure must be a finite number, got False",
        "graph: unusable graph: kernel_widths must be a list, got 'wide'",
    ):
        assert words in str(caught.value)


@pytest.mark.parametrize(
    "scores", [{"iou": np.nan}, {"a": [1, np.inf]}, {"a": {1: 2}}, {"a": {1, 2}}]
)
def test_scores_that_json_cannot_hold_are_refused(scores: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"(scores|names in scores).* must be"):
        replace(storm_spec(), scores=scores)


@pytest.mark.parametrize("text", ["NaN", "-Infinity", "1e999", "[" * 5000])
def test_numbers_that_are_none_are_refused_in_files(file: Path, text: str) -> None:
    def change(header: dict[str, Any]) -> None:
        spec = header["__metadata__"]["xsphere"]
        header["__metadata__"]["xsphere"] = spec.replace(
            '"scores": {}', f'"scores": {{"a": {text}}}'
        )

    with pytest.raises(ModelFileError, match=r"which is no number|must be a finite|is not JSON"):
        Model.load(edited(file, change))


@pytest.mark.parametrize("change", [{"level": 12}, {"level": 8, "graph": GraphSpec(k=200)}])
def test_memory_is_estimated_before_anything_is_built(
    tmp_path: Path, change: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = replace(storm_spec(), **change)
    path = tmp_path / "large.safetensors"
    # a file of few bytes: the weights are the same for every grid
    path.write_bytes(to_bytes(spec.to_dict(), storm_model().tensors))
    message = r"would need about \d+\.\d GiB .*set_options\(max_model_bytes="
    with pytest.raises(ModelFileError, match=message):
        Model.load(path)
    for build in (Model.untrained, build_network):
        with pytest.raises(ValueError, match=message):
            build(spec)
    with set_options(max_model_bytes=10**12):
        assert Model.load(path).level == spec.level


def test_the_limit_of_memory_can_be_lowered_and_is_checked() -> None:
    with set_options(max_model_bytes=1000), pytest.raises(ValueError, match="would need about"):
        Model.untrained(storm_spec())
    with set_options(max_model_bytes="1e9"):
        Model.untrained(storm_spec())
    for wrong in ("much", True, 0, float("nan"), [1]):
        with (
            set_options(max_model_bytes=wrong),
            pytest.raises(ValueError, match="max_model_bytes must be a positive number"),
        ):
            Model.untrained(storm_spec())


def test_channels_are_normalised_in_order() -> None:
    model = storm_model()
    n = model.grid.n_cells
    psl, u, v = np.full((1, n), 102000.0), np.full((1, n), 6.0), np.full((1, n), 8.0)
    channels, valid = model.channels(psl, u, v)
    assert valid.all()
    np.testing.assert_allclose(channels[0, :, 0], 1.0)
    np.testing.assert_allclose(channels[0, :, 1], 0.0, atol=1e-6)
    expected = (np.abs(model.grid.centres[:, 2]) - 0.5) / 0.3
    np.testing.assert_allclose(channels[0, :, 3], expected, rtol=1e-5)


def test_what_is_not_finite_is_not_valid() -> None:
    model = storm_model()
    psl = np.full((1, model.grid.n_cells), 101000.0)
    psl[0, 7] = np.inf
    wind = np.zeros_like(psl)
    channels, valid = model.channels(psl, wind, wind)
    assert np.flatnonzero(~valid[0]).tolist() == [7]
    assert np.isfinite(channels).all()


def test_vorticity_of_a_turning_earth() -> None:
    """Solid rotation u = U cos(lat) has the vorticity 2 U sin(lat) / a, cyclonic where positive."""
    grid = storm_model(4).grid
    sin_lat = grid.centres[:, 2]
    u = (10.0 * np.sqrt(1 - sin_lat**2))[None]
    vorticity = derived_field("vorticity", grid, u, 0 * u)[0]
    np.testing.assert_allclose(vorticity, 2 * 10.0 * sin_lat / 6.371e6, atol=3e-8)
    cyclonic = derived_field("cyclonic_vorticity", grid, u, 0 * u)[0]
    np.testing.assert_allclose(cyclonic, np.abs(vorticity), atol=1e-9)


def test_derived_fields_are_checked() -> None:
    grid = storm_model().grid
    with pytest.raises(ValueError, match="unknown derived field"):
        derived_field("heat", grid)
    with pytest.raises(ValueError, match="takes 2 fields, got 1"):
        derived_field("divergence", grid, np.zeros((1, grid.n_cells)))


def test_nothing_is_pickled() -> None:
    """No module of the package imports pickle or asks torch or numpy for it."""
    package = Path(__file__).parent.parent / "xsphere"
    for path in package.rglob("*.py"):
        text = path.read_text()
        assert "torch.load(" not in text
        assert "allow_pickle=True" not in text
