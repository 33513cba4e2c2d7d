"""The measured process: opens one variant as users do, then answers requests until its input ends.

Run as a file, `python -P worker.py FOLDER THREADS`, so that it holds nothing but the runtime: imports of the build
would count in its cold start and memory. One JSON object a line each way. The first answer, {"ready": true}, comes
after the first vector. Requests and answers:
    {"do": "count", "texts": [...]}  ->  {"counts": [...]}          tokens, special ones included, before truncation
    {"do": "encode", "texts": [...]} ->  {"ms": 1.25}               one `encode` of all the texts
    {"do": "rss"}                    ->  {"peak_rss_mb": 512.3}     10^6 bytes, since the process started
    {"do": "operations", "texts": [...]} -> {"operations": 1234}    of one `encode`, if torch runs it (kind torch)
Any failure is answered with {"error": why} and ends the process.
"""

import json
import os
import resource
import signal
import sys
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from embed_foundry import Encoder

# What every cold start encodes.
FIRST = "What is the capital of France?"


def main(folder: str, threads: str) -> None:
    """Answer requests on standard input; ends with it, so a killed parent leaves no worker behind."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent ends its workers
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever a library prints must not stand between answers

    def answer(value: dict[str, Any]) -> None:
        answers.write(json.dumps(value) + "\n")
        answers.flush()

    try:
        from embed_foundry import TruncationWarning, open_variant

        warnings.simplefilter("error", TruncationWarning)  # a cut text has not the length it is reported under
        encoder = open_variant(Path(folder), int(threads))
        encoder.encode([FIRST])
        answer({"ready": True})
        for line in sys.stdin:
            answer(answered(encoder, json.loads(line)))
    except Exception as error:
        answer({"error": f"{type(error).__name__}: {error}"})


def answered(encoder: "Encoder", request: dict[str, Any]) -> dict[str, Any]:
    """Return the answer to one request."""
    if request["do"] == "encode":
        start = time.perf_counter_ns()
        encoder.encode(request["texts"], batch_size=len(request["texts"]))
        return {"ms": (time.perf_counter_ns() - start) / 1e6}
    if request["do"] == "count":
        return {"counts": encoder.count_tokens(request["texts"])}
    if request["do"] == "operations":
        return {"operations": operations(encoder, request["texts"])}
    return {"peak_rss_mb": peak_rss_mb()}


def operations(encoder: "Encoder", texts: list[str]) -> int:
    """Return the operations of the matrix products in one `encode`: a multiply and an add are two.

    By torch's FlopCounterMode, which knows no formula for the CPU's fused attention: without fusing it is products too.
    """
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        encoder.encode(texts)
    return int(counter.get_total_flops())


def peak_rss_mb() -> float:
    """Return this process's peak resident memory in 10^6 bytes.

    From VmHWM where Linux has it: ru_maxrss there keeps the peak of the process that started this one, since exec takes
    over its maximum (seen: 304 MB reported for a process of 9 MB).
    """
    status = Path("/proc/self/status")
    if status.exists():
        fields = dict(line.split(":", 1) for line in status.read_text(encoding="utf-8").splitlines())
        return int(fields["VmHWM"].split()[0]) * 1024 / 1e6
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
