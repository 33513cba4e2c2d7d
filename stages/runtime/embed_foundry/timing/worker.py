"""The measured process: opens one variant as users do, then answers requests until its input ends.

Run as a file, `python -P worker.py FOLDER THREADS PROVIDERS`, so that it holds nothing but the runtime: imports of the
build would count in its cold start and memory. Each way carries one JSON object a line. The first answer, {"ready":
true}, comes after the first vector; then each request, {"command": a key of COMMANDS, "texts": [...]}, is answered with
{"result": value}. Any failure is answered with {"error": why} and ends the process. The asking side is
worker_process.py.
"""

import json
import os
import resource
import signal
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from embed_foundry import Encoder

# From linux/prctl.h.
PR_SET_PDEATHSIG = 1
# What every cold start encodes.
FIRST_TEXT = "What is the capital of France?"


def main(folder: str, threads: str, providers: str) -> None:
    """Answer requests on standard input; ends with it, so that a killed parent leaves no worker behind."""
    _end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent ends its workers
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints must not stand between answers

    def answer(content: Mapping[str, object]) -> None:
        answers.write(json.dumps(content) + "\n")
        answers.flush()

    try:
        from embed_foundry import TruncationWarning, open_variant

        # A truncated text does not have the length that it is reported under.
        warnings.simplefilter("error", TruncationWarning)
        encoder = open_variant(Path(folder), int(threads), providers=providers.split(","))
        encoder.encode([FIRST_TEXT])
        answer({"ready": True})
        for line in sys.stdin:
            request = json.loads(line)
            answer({"result": COMMANDS[request["command"]](encoder, request["texts"])})
    except Exception as error:
        answer({"error": f"{type(error).__name__}: {error}"})


def _end_with_parent() -> None:
    """Ask Linux to kill this process when its parent dies: a stopped process does not read the end of its input."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def count_tokens(encoder: "Encoder", texts: list[str]) -> list[int]:
    """Return the texts' lengths in tokens, special ones included, before truncation."""
    return encoder.count_tokens(texts)


def time_encode(encoder: "Encoder", texts: list[str]) -> float:
    """Return the milliseconds of one `encode` of all the texts in one batch."""
    start = time.perf_counter_ns()
    encoder.encode(texts, batch_size=len(texts))
    return (time.perf_counter_ns() - start) / 1e6


def count_operations(encoder: "Encoder", texts: list[str]) -> int:
    """Return the operations of the matrix products in one `encode` of an encoder that runs in torch.

    A multiply and an add are two operations. Counted by torch's FlopCounterMode, which has no formula for the CPU's
    fused attention; attention that is not fused consists of products, too.
    """
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        encoder.encode(texts)
    return int(counter.get_total_flops())


def read_peak_rss_mb(_encoder: "Encoder", _texts: list[str]) -> float:
    """Return this process's peak resident memory since it started, in 10^6 bytes.

    From VmHWM where Linux has it: there ru_maxrss keeps the peak of the process that started this one, because exec
    takes over its maximum (304 MB were reported for a process of 9 MB).
    """
    status = Path("/proc/self/status")
    if status.exists():
        fields = dict(line.split(":", 1) for line in status.read_text(encoding="utf-8").splitlines())
        return int(fields["VmHWM"].split()[0]) * 1024 / 1e6
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def list_providers(encoder: "Encoder", _texts: list[str]) -> list[str]:
    """Return what computes: execution providers in order."""
    return list(encoder.providers)


COMMANDS: dict[str, Callable[["Encoder", list[str]], object]] = {
    "count_tokens": count_tokens,
    "encode": time_encode,
    "operations": count_operations,
    "peak_rss_mb": read_peak_rss_mb,
    "providers": list_providers,
}


if __name__ == "__main__":
    main(*sys.argv[1:4])
