"""finetune: memory really runs out, in a process of its own that may have no more; the best adapter so far is kept."""

import json
import os
import re
import subprocess
import sys

import pytest
import yaml
from safetensors.numpy import load_file

from support import tiny_finetune

# Python imports this module first. From the moment that the first checkpoint is complete, the process may take no more
# memory than it has, but for a few megabytes: less than the next step needs, and enough to keep the adapter.
LIMIT = """
import os, resource, sys
ROOM = 3 << 20

def limit(event, arguments):
    if event == "open" and str(arguments[0]).endswith("checkpoint-2/trainer_state.json") and "w" in str(arguments[1]):
        pages = int(open("/proc/self/statm").read().split()[0])
        size = pages * os.sysconf("SC_PAGE_SIZE") + ROOM
        resource.setrlimit(resource.RLIMIT_AS, (size, size))

if "stages.finetune" in " ".join(sys.orig_argv):
    sys.addaudithook(limit)
"""


@pytest.mark.slow
def test_out_of_memory_ends_with_2_names_the_batch_and_keeps_the_last_good_adapter(base, root, tmp_path):
    place = tiny_finetune.write_place(tmp_path / "place", base / "tokenizer.json")
    (place / "models").mkdir()
    (place / "base").rename(place / "models" / "base")
    rows = [json.loads(line) for line in (place / "mine.jsonl").read_text(encoding="utf-8").splitlines()]
    longer = [{column: " ".join([text] * 9) for column, text in row.items()} for row in rows]  # fills 64 tokens
    (place / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in longer), encoding="utf-8")
    (tmp_path / "limit").mkdir()
    (tmp_path / "limit" / "sitecustomize.py").write_text(LIMIT, encoding="utf-8")
    params = tiny_finetune.compose_settings(root, mini_batch_size=16, max_tokens=64)
    params = params.model_copy(update={"model": tiny_finetune.model(params)})
    (place / "params.yaml").write_text(yaml.safe_dump(params.model_dump()), encoding="utf-8")
    process = subprocess.run(
        [sys.executable, "-m", "stages.finetune", "lora"],
        cwd=place,
        # What is freed goes back to the system at once, so that the next step has to ask for it again.
        env=os.environ
        | {"PYTHONPATH": f"{tmp_path / 'limit'}{os.pathsep}{root}", "MALLOC_MMAP_THRESHOLD_": "4096"}
        | {"MALLOC_TRIM_THRESHOLD_": "4096", "MALLOC_ARENA_MAX": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert process.returncode == 2, process.stderr
    assert "Traceback" not in process.stderr
    message = process.stderr.splitlines()[-1]
    assert re.search(r"step 3: out of memory, with batch_size 16, mini_batch_size 16, learning_rate", message), message
    assert "lower mini_batch_size" in message
    kept = place / re.search(r"The best adapter so far is kept in (\S+)\.", message)[1]
    assert load_file(kept / "adapter_model.safetensors")
    assert not (place / "finetune" / "lora").exists()
