"""Threads of a service follow the container's CPU quota, those of the libraries too."""

import subprocess
import sys

import pytest

from stages.common.config import Resources
from stages.latency import control_groups

PROGRAM = """
import asyncio, os, sys, threading
from pathlib import Path
from embed_foundry.serve import server
from embed_foundry.serve.requests import EmbedRequest
from embed_foundry.serve.service import Service
from embed_foundry.serve.settings import Settings
from embed_foundry.serve.source import Watch

async def main():
    service = Service(Watch(Path(sys.argv[1])), Settings(), None)
    await service.start()
    answer = await service.embed(EmbedRequest(("a text",) * 64))
    encoder = service.engine.pool.find(answer.variant).encoder
    lanes = sum(thread.name.startswith("lane-") for thread in threading.enumerate())
    print(answer.variant, lanes, encoder.threads, os.environ["RAYON_NUM_THREADS"])
    await service.close()

server.limit_threads(Settings())
asyncio.run(main())
"""


@pytest.mark.parametrize("cpus", [0.5, 1.0])
def test_lanes_and_encoders_have_as_many_threads_as_the_quota(released, cpus):
    with control_groups.enforce(Resources(threads=1, cpus=cpus, memory_mb=4096), ["program"]) as groups:
        if not groups.throttles:
            pytest.skip(f"this machine permits no CPU quota: {groups.cpu.why}")
        command = [*groups.prefixes["program"], sys.executable, "-c", PROGRAM, released.folder]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["onnx_int8", "1", "1", "1"], done.stderr
