"""What `xsphere doctor` says of a cluster: other versions, caches apart, workers without us."""

import sys
from pathlib import Path
from typing import Any

import pytest

from xsphere import doctor
from xsphere.doctor import cluster_report


class Cluster:
    """Stands for a client: workers that answer what a test says."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers

    def run(self, question: Any, on_error: str) -> dict[str, Any]:
        assert on_error == "return"
        own = question()
        return {
            address: answer if isinstance(answer, Exception) else own | answer(own)
            for address, answer in self.answers.items()
        }


def with_version(**versions: Any) -> Any:
    return lambda own: {"versions": own["versions"] | versions}


def test_equal_workers_are_no_problem(cache_folder: Path) -> None:
    facts, problems = cluster_report(Cluster(a=with_version(), b=with_version()))
    assert problems == []
    assert [line.split()[1] for line in facts] == ["a:", "b:"]
    # what was made to be seen is gone
    assert list(cache_folder.iterdir()) == []


def test_all_differences_are_said_at_once() -> None:
    cluster = Cluster(
        a=with_version(zarr="0.1"),
        b=with_version(zarr="0.1", torch=None),
        c=with_version(python="2.7"),
        d=ImportError("No module named 'xsphere'"),
        e=lambda own: {"shares_cache": False},
    )
    facts, problems = cluster_report(cluster)
    text = "\n".join(problems)
    assert "on a, b; install the same everywhere" in text
    assert "zarr is" in text
    assert "0.1 on a, b" in text
    assert "but missing on b" in text
    assert "but 2.7 on c" in text
    assert "d cannot run xsphere (No module named 'xsphere'); install the same version" in text
    assert "is not seen by e; point XSPHERE_CACHE_DIR" in text
    assert len(problems) == 5
    assert "d: no answer" in "\n".join(facts)


def test_many_workers_are_counted() -> None:
    cluster = Cluster(**{f"w{i}": with_version(dask="0") for i in range(7)})
    _, problems = cluster_report(cluster)
    assert "w0, w1, w2 and 4 more workers" in problems[0]


def test_workers_that_share_a_gpu_are_named() -> None:
    gpus = {"a": "host1 GPU-1", "b": "host1 GPU-2", "c": "host1 GPU-1"}
    workers = {name: lambda own, gpu=gpu: {"gpu": gpu} for name, gpu in gpus.items()}
    _, problems = cluster_report(Cluster(**workers))
    assert problems == [
        "a, c use one GPU (host1 GPU-1); start one worker for each, as dask-cuda does"
    ]


def test_no_workers_are_a_problem() -> None:
    assert cluster_report(Cluster())[1] == [
        "the cluster has no workers; start some, then ask again"
    ]


def test_a_cache_that_is_off_is_nobodys_problem() -> None:
    from xsphere.config import set_options

    with set_options(cache_dir=""):
        assert cluster_report(Cluster(a=with_version()))[1] == []


def test_workers_share_the_cache_or_have_one_of_their_own(
    tmp_path: Path,
    cluster: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Real processes, which share the cache of this one."""
    from xsphere.cli import main
    from xsphere.config import set_options

    facts, problems = cluster_report(cluster)
    assert (len(facts), problems) == (2, [])
    address = cluster.scheduler_info()["address"]
    monkeypatch.setattr(sys, "argv", ["xsphere", "doctor", "--scheduler", address])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr()
    assert not ended.value.code, said.err
    assert "worker      tcp://" in said.out
    with set_options(cache_dir=str(tmp_path)):
        facts, problems = cluster_report(cluster)
    assert len(facts) == 2
    assert "is not seen by tcp://" in problems[0]


def test_an_installation_that_lacks_a_package_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "PACKAGES", (*doctor.PACKAGES, "no-such-package"))
    _, problems = doctor.installation_report()
    assert problems == ["no-such-package is not installed; pip install no-such-package"]
