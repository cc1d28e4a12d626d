"""What the interpreter of Triton does not show: whether kernels compile, and with which options."""

import os
import subprocess
import sys
from importlib.util import find_spec

import pytest
import torch

from xsphere.nn.sparse import launches

has_triton = pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed")
COMPILE = """
from triton import language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile
from xsphere.nn.sparse import kernels, launches

def check(kernel, half, constants):
    names = kernel.fn.arg_names
    types = dict.fromkeys(names, "i32") | dict.fromkeys(half, "*bf16")
    types |= {"indptr": "*i32", "indices": "*i32", "values": "*fp32"}
    types |= dict.fromkeys(constants, "constexpr")
    source = ASTSource(kernel.fn, {name: types[name] for name in names}, constants)
    options = {"num_warps": 4, **launches.OPTIONS}
    made = compile(source, target=GPUTarget("cuda", 80, 32), options=options)
    assert made.asm["cubin"]

arrays = ["x", "plus", "minus", "out", "sums", "norm", "shift"]
check(kernels.weigh, arrays, dict(
    sums=None, X_SHIFT=0, PLUS_SHIFT=2, MINUS_SHIFT=0, N_MATRICES=2, SCALE=2, RECTIFY=True,
    SUM=tl.float32, BLOCK_CHANNELS=16, BLOCK_ROWS=32, AHEAD=2))
arrays = ["x0", "x1", "terms", "weight", "out", "norm", "shift"]
check(kernels.mix, arrays, dict(
    x1=None, SHIFT=0, CHILDREN=4, N_STORED=2, N_MADE=1, RECTIFY=True, PRECISION="ieee",
    IS_INTERPRETED=False, BLOCK_OUT=16, BLOCK_ROWS=32, BLOCK_IN=16, AHEAD=1))
"""
FITTING = """
import torch
from xsphere.nn.sparse import kernels

for wide in (16, 32, 64, 128):
    left = kernels._filling(kernels.weigh.configs, {}, BLOCK_CHANNELS=wide)
    assert len(left) == 2
for wide in (16, 32, 64, 128, 256):
    for dtype in (torch.float32, torch.bfloat16):
        named = {"weight": torch.empty(1, dtype=dtype)}
        if wide < 256 or dtype != torch.float32:
            assert kernels._fitting(kernels.mix.configs, named, BLOCK_OUT=wide, PRECISION="ieee")
"""


@pytest.mark.slow
@has_triton
@pytest.mark.parametrize("code", [COMPILE, FITTING], ids=["compile", "fitting"])
def test_kernels_can_be_compiled_without_a_gpu(code: str) -> None:
    # the interpreter takes much that the compiler does not, and tries no block sizes
    environment = {**os.environ, "TRITON_INTERPRET": "0"}
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, env=environment)


@pytest.mark.parametrize("setting", ["highest", "high"])
def test_float32_is_exact_unless_tf32_is_allowed(setting: str) -> None:
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision(setting)
        assert launches._precision() == {"highest": "ieee", "high": "tf32"}[setting]
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.mark.slow
def test_modules_can_be_read_without_triton() -> None:
    code = (
        "import sys; sys.modules['triton'] = None\n"
        "import importlib.util as u; f = u.find_spec\n"
        "u.find_spec = lambda n, *a: None if n == 'triton' else f(n, *a)\n"
        "from xsphere.nn.sparse import gpu, kernels, launches\n"
        "assert not gpu.is_available() and kernels.triton is None"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
