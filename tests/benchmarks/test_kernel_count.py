"""Counting launches in XLA's list of them, and the description of the target."""

import re

import pytest

from benchmarks import kernel_count

THUNKS = """000: kCommandBuffer [source       | next=002 (1)]
    001: kCustomKernel [source        | sink] loop_add_fusion grid: [1, 1, 1] threads: [1, 1, 1]
002: kWhile         [prev=000 (1) | next=000 (1)]
condition:
    003: kCustomKernel [source | sink] loop_compare_fusion grid: [1, 1, 1] threads: [1, 1, 1]
  body:
    000: kCommandBuffer [source | sink]
        004: kCustomKernel [source        | next=005 (1) ] loop_slice_fusion grid: [34, 1, 1]
        005: kCustomKernel [prev=004 (1)  | next=006 (1) ] gemm_fusion_dot_45 grid: [1024, 1, 1]
        006: kCopy         [prev=005 (1)  | sink         ] kCopy
    007: kGemm [source | sink] custom-call.3
000: kCommandBuffer [prev=002 (1) | sink]
    008: kCustomKernel [source | sink] loop_multiply_fusion_1 grid: [1, 1, 1] threads: [1, 1, 1]
"""


def test_the_body_of_the_loop_is_counted():
    counted = kernel_count.count(THUNKS)
    assert counted["launches"] == 4
    assert (counted["kernels"], counted["copies"], counted["products"]) == (3, 1, 2)


def test_the_target_is_whole():
    text = re.sub(r"^#.*$", "", kernel_count.TARGET.read_text(), flags=re.MULTILINE)
    assert text.count("{") == text.count("}")
    assert "#" not in text


def test_a_compiler_that_fails_is_named(monkeypatch):
    monkeypatch.setattr(kernel_count.sys, "executable", "/bin/false")
    with pytest.raises(RuntimeError, match="compiling for the H200 failed: nothing was dumped"):
        kernel_count.count_elsewhere({"members": 1})
