"""Pixels do not depend on the CPU instructions that OpenCV, torch and libjpeg-turbo find."""

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

COUNT = 400
OPENCV_FEATURES = "SSSE3,SSE4.1,SSE4.2,POPCNT,AVX,FP16,FMA3,AVX2,AVX512-SKX"
SWITCHED_OFF = {
    "OPENCV_CPU_DISABLE": OPENCV_FEATURES,
    "OPENCV_IPP": "disabled",
    "ATEN_CPU_CAPABILITY": "default",
    "JSIMD_FORCENONE": "1",
}


def digests_in_another_process(folder: Path, switches: dict[str, str]) -> dict:
    program = [sys.executable, str(Path(__file__).parent / "report.py"), "digests", str(folder), str(COUNT)]
    environment = {name: value for name, value in os.environ.items() if name not in SWITCHED_OFF}
    done = subprocess.run(program, check=True, stdout=subprocess.PIPE, text=True, env=environment | switches)
    return json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="the switches are x86's")
def test_pixels_do_not_depend_on_instruction_sets(jpeg_folder):
    normal = digests_in_another_process(jpeg_folder, {})
    plain = digests_in_another_process(jpeg_folder, SWITCHED_OFF)
    middle = digests_in_another_process(
        jpeg_folder, {"ATEN_CPU_CAPABILITY": "avx2", "OPENCV_CPU_DISABLE": "AVX512-SKX"}
    )

    assert plain["torch"] == "DEFAULT", "the switch for torch had no effect"
    in_use = [feature for feature in plain["opencv"] if feature.startswith("*") and not feature.endswith("?")]
    assert in_use == [], "the switch for OpenCV had no effect"
    assert len(set(normal["digests"])) > 0.9 * COUNT
    for other in (plain, middle):
        differing = [seed for seed in range(COUNT) if normal["digests"][seed] != other["digests"][seed]]
        assert differing == []
