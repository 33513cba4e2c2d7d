"""Training in several processes (ranks): one for each GPU, or on a CPU as many as configured.

torch's elastic agent, which `accelerate launch` uses too, starts them and ends all when one fails. Accelerate detects
them and wraps the model in DistributedDataParallel. A batch is that of one process, split into equal parts: each rank
embeds its part, and every text of the batch competes, because the loss gathers the vectors of all ranks.
"""

import json
import logging
import os
import re
import signal
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import torch
from accelerate.data_loader import prepare_data_loader
from datasets import Dataset
from embed_foundry.errors import InputError, IntegrityError, RetryableError
from sentence_transformers import SentenceTransformer
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch
from torch.utils.data import DataLoader
from transformers.trainer_utils import EvalLoopOutput

from stages.finetune.batches import EvenBatches
from stages.finetune.trainer import StoppedError, Trainer

LOCALHOST = "localhost"
# Errors that a rank raises on purpose; they are raised again in the process that started it. Any other is a bug.
EXPECTED: dict[str, Callable[[str], Exception]] = {
    error.__name__: error for error in (StoppedError, InputError, IntegrityError, RetryableError)
}
Argument = TypeVar("Argument")
Result = TypeVar("Result")


def launch(processes: int, function: Callable[[Argument], Result], argument: Argument, scratch: Path) -> list[Result]:
    """Call a function in several processes at once, and return what it returns in each, by rank.

    When one of them fails or is killed, the others end, too; when this process is killed, all end.

    Args:
        processes: how many.
        function: a module's function.
        argument: its argument; must be picklable.
        scratch: folder for records of the ranks' failures.

    Raises:
        StoppedError, InputError, IntegrityError, RetryableError, OSError: a rank raised it.
        StoppedError: a rank was killed.
        KeyboardInterrupt: this process got SIGINT or SIGTERM.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    logs = DefaultLogsSpecs(str(scratch / "ranks"))
    for stale in Path(logs.root_log_dir).rglob("error.json"):
        stale.unlink()
    settings = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id="finetune",
        rdzv_backend="c10d",
        rdzv_endpoint=f"{LOCALHOST}:0",
        local_addr=LOCALHOST,
        max_restarts=0,
        logs_specs=logs,
        signals_to_handle="SIGTERM,SIGINT",
    )
    for name in ("torch.distributed.elastic", "torch.multiprocessing"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # the cause is raised below
    try:
        with _restored_signal_handlers():
            results = elastic_launch(settings, _run_rank)(os.getpid(), function, argument)
    except SignalException:
        raise KeyboardInterrupt from None
    except ChildFailedError as failed:
        raise _find_cause(failed, Path(logs.root_log_dir)) from None
    return [results[rank] for rank in range(processes)]


class DistributedTrainer(Trainer):
    """The trainer of one rank: texts of all ranks compete."""

    def compute_loss(
        self, model: SentenceTransformer, inputs: dict[str, torch.Tensor], *args: object, **kwargs: object
    ) -> torch.Tensor:
        """Return the loss: in training over the vectors of all ranks, in evaluation over the whole batch of each."""
        self.loss.loss.gather_across_devices = self.model.training
        return super().compute_loss(model, inputs, *args, **kwargs)

    def sample_training(self, dataset: Dataset, batch_size: int, generator: torch.Generator, seed: int) -> EvenBatches:
        """Return this rank's part of the batches of training."""
        return EvenBatches(dataset, batch_size, generator, seed, self.args.process_index, self.args.world_size)

    def get_train_dataloader(self) -> DataLoader:
        """Return the batches' parts as they are; accelerate would divide them again."""
        return self._prepare_whole(self.train_dataset, self.args.train_batch_size, "train")

    def get_eval_dataloader(self, eval_dataset: object = None) -> DataLoader:
        """Return all dev examples in the batches of one process, because parts of a batch have another loss."""
        del eval_dataset
        return self._prepare_whole(self.eval_dataset, self.args.eval_batch_size, "eval")

    def _prepare_whole(self, dataset: Dataset, batch_size: int, kind: str) -> DataLoader:
        loader = self._build_dataloader(dataset, batch_size, dataset_kind=kind)
        return prepare_data_loader(loader, self.args.device, num_processes=1, process_index=0, put_on_device=True)

    def evaluation_loop(self, *args: object, **kwargs: object) -> EvalLoopOutput:
        """Evaluate the dev split; all ranks embed its texts and take the first one's scores, so all stop together."""
        self.gather_function = self._drop_padding
        return super().evaluation_loop(*args, **kwargs)

    def _drop_padding(self, losses: torch.Tensor) -> torch.Tensor:
        """Return a dev batch's loss once per example of the batch, as accelerate's gather_for_metrics does."""
        state = self.accelerator.gradient_state
        return losses[: state.remainder] if state.end_of_dataloader and state.remainder > 0 else losses

    def _save_rng_state(self, output_dir: str) -> None:
        """Write this rank's random state, and wait: a checkpoint is complete once all ranks have written theirs."""
        super()._save_rng_state(output_dir)
        self.accelerator.wait_for_everyone()


def _run_rank(parent: int, function: Callable[[Argument], Result], argument: Argument) -> Result:
    """Call the function in a rank: on its GPU, without libraries' warnings, and never longer than its parent lives."""
    # The kernel sends SIGINT when the parent is gone (torch.multiprocessing asks it to). As a KeyboardInterrupt it
    # would wait for a step that never ends without the other ranks.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if os.getppid() != parent:  # it was gone before the kernel was asked
        raise SystemExit(1)
    os.environ["OMP_NUM_THREADS"] = "1"  # else accelerate sets the host's number
    warnings.simplefilter("ignore")
    if torch.cuda.is_available():
        # From here on "cuda" is this GPU, for 4-bit weights, too: transformers loads them to the current device.
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    else:
        # accelerate calls a rank's CPU "cpu:0", and the trainer loads a checkpoint's optimizer there, but torch does
        # not know that device.
        torch.serialization.register_package(0, lambda _: None, _load_to_cpu)
    try:
        return function(argument)
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


def _load_to_cpu(storage: torch.UntypedStorage, device: str) -> torch.UntypedStorage | None:
    """Return a storage as it is for devices named "cpu:…"; None leaves it to torch's other loaders."""
    return storage if device.startswith("cpu:") else None


@contextmanager
def _restored_signal_handlers() -> Iterator[None]:
    """Restore the signal handlers that the agent replaces."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _find_cause(failed: ChildFailedError, logs: Path) -> Exception:
    """Return the error that made the ranks fail: one of them raised it, and the others lost the connection."""
    for path in logs.rglob("error.json"):
        name, _, text = json.loads(path.read_text(encoding="utf-8"))["message"]["message"].partition(": ")
        if name in EXPECTED:
            return EXPECTED[name](text)
        if number := re.match(r"\[Errno (\d+)\] (.+)", text):
            return OSError(int(number[1]), number[2])
    _, first = failed.get_first_failure()
    if first.exitcode < 0:
        return StoppedError(f"a process was killed by {first.signal_name()}, as the kernel does when memory is out")
    return RuntimeError(str(failed))
