"""Train on ClimateNet's training maps and score on its test maps; or, reduced, on GCM maps."""

import argparse
from pathlib import Path

import xarray as xr

import xsphere
from xsphere.datasets import LabelledFields, climatenet
from xsphere.datasets.channels import CHANNELS
from xsphere.nn.training import TrainingOptions

CHOSEN = ("TMQ", "U850", "V850", "PSL")


def gcm(folder: Path) -> tuple[LabelledFields, LabelledFields]:
    """Every sixth map of two runs of a model, with the probabilities of a teacher."""

    def run(name: str) -> LabelledFields:
        fields = xr.open_dataset(folder / f"fields_{name}.nc", chunks={"time": 32})
        labels = xr.open_dataset(folder / f"labels_{name}.nc", chunks={"time": 32})
        every = slice(None, None, 6)
        probability = labels.probability.isel(time=every) / 250.0
        return LabelledFields(fields.isel(time=every), probability)

    return run("run_a"), run("run_b")


def options() -> argparse.Namespace:
    """What the command was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="folder that holds train and test")
    parser.add_argument("--out", type=Path, default=Path("climatenet-output"))
    parser.add_argument("--channels", nargs="+", choices=CHANNELS, default=CHOSEN, metavar="NAME")
    parser.add_argument("--checksums", type=Path, help="as md5sum writes them: checked first")
    parser.add_argument("--level", type=int, help="of the network: 7 (4 if reduced)")
    parser.add_argument("--epochs", type=int, help="30 (6 if reduced)")
    parser.add_argument("--device", default="auto")
    parser.add_argument(
        "--reduced", action="store_true", help="data is a folder of GCM maps (fields_run_a.nc ...)"
    )
    return parser.parse_args()


def main() -> None:
    """Train, score, report."""
    args = options()
    if args.reduced:
        train, test = gcm(args.data)
    else:
        train, test = (
            climatenet(args.data, part, checksums=args.checksums) for part in ("train", "test")
        )
    level = args.level or (4 if args.reduced else 7)
    epochs = args.epochs or (6 if args.reduced else 30)
    args.out.mkdir(parents=True, exist_ok=True)
    channels = [*args.channels]
    model = xsphere.fit(
        train.fields[channels],
        train.labels,
        level=level,
        options=TrainingOptions(epochs=epochs, device=args.device),
        checkpoint=args.out / f"level-{level}.checkpoint",
        log=args.out / "training.csv",
        scratch=args.out,
        name="climatenet-example",
    )
    model.save(args.out / "model.safetensors")
    # as published: each cell of the labels counts as one
    report = xsphere.evaluate(
        model, test.labels, test.fields[channels], weighting="cells", progress=True
    )
    report.write(args.out / "report", overwrite=True)
    print(report.to_markdown())


if __name__ == "__main__":
    main()
