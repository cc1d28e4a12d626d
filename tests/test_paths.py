"""One meaning of a path, wherever a user gives one."""

from pathlib import Path, PurePosixPath

import pytest

from xsphere.paths import local_path, source_path

URLS = [
    "s3://bucket/x.zarr",
    "gs://bucket/x.zarr",
    "https://host/x.zarr",
    "memory://x.zarr",
    "S3://bucket/x.nc",
    "abfs+ssl://a@b/x.zarr",
    "simplecache::s3://bucket/x.nc",
]


@pytest.mark.parametrize("url", URLS)
@pytest.mark.parametrize("kind", [str, Path, PurePosixPath])
def test_urls_are_no_places_to_write(url, kind):
    with pytest.raises(ValueError, match=r"must be on this machine, got the URL .*; give a local"):
        local_path(kind(url))


@pytest.mark.parametrize("url", URLS[:-1])
@pytest.mark.parametrize("kind", [str, Path])
def test_urls_are_read_as_they_are(url, kind):
    assert source_path(kind(url)) == url


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("file:///data/x.nc", "/data/x.nc"),
        ("file://localhost/data/a%20b.nc", "/data/a b.nc"),
        (Path("file:///data/x.nc"), "/data/x.nc"),
        ("FILE:///data/x.nc", "/data/x.nc"),
        ("x.nc", "x.nc"),
        ("./s3:/x.zarr", "./s3:/x.zarr"),
        ("12:00/x.zarr", "12:00/x.zarr"),
        ("a~b/~c.nc", "a~b/~c.nc"),
        (PurePosixPath("/data/x.nc"), "/data/x.nc"),
    ],
)
def test_paths_of_this_machine(given, meant):
    assert source_path(given) == meant
    assert local_path(given) == Path(meant)


def test_tilde_is_the_home_of_the_user(monkeypatch):
    monkeypatch.setenv("HOME", "/home/her")
    assert local_path("~/x.zarr") == local_path(Path("~/x.zarr")) == Path("/home/her/x.zarr")
    assert source_path("~") == "/home/her"
    with pytest.raises(ValueError, match=r"but there is no such home .*; write \./~nobody-here/x"):
        local_path("~nobody-here/x")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("", "must be the name of a file or folder, got ''"),
        ("  ", "must be the name of a file or folder"),
        ("a\0b", "must be the name of a file or folder"),
        (r"C:\data\x.zarr", "is a path of Windows"),
        ("c:/data/x.zarr", "is a path of Windows"),
        (r"\\server\share\x.nc", "is a path of Windows"),
        ("file://host/x.nc", "on 'host'; file:// URLs have three slashes"),
    ],
)
def test_what_is_no_place_is_refused(given, words):
    for meaning in (local_path, source_path):
        with pytest.raises(ValueError, match=words):
            meaning(given)


@pytest.mark.parametrize("given", [None, 3, b"x.nc", ["x.nc"]])
def test_what_is_no_path_is_refused(given):
    with pytest.raises(TypeError, match=r"the table must be a path, got"):
        local_path(given, "the table")
