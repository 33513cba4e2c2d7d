"""Training in several processes: one for each GPU, or on a CPU as many as configured.

torch's elastic agent, which `accelerate launch` runs too, starts them and ends all when one fails; accelerate finds
them and wraps the model into DistributedDataParallel. A batch is that of one process, shared out: each rank embeds its
part, and every text of the batch competes, because the loss gathers the vectors of all ranks.
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
from typing import Any, TypeVar

import torch
from accelerate.data_loader import prepare_data_loader
from accelerate.utils import broadcast_object_list
from embed_foundry.errors import InputError, IntegrityError, RetryableError
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from stages.finetune.trainer import StoppedError, Trainer

HERE = "localhost"
# What a rank may raise on purpose; it comes back to the process that started it. All else is a fault of ours.
EXPECTED: dict[str, Callable[[str], Exception]] = {
    kind.__name__: kind for kind in (StoppedError, InputError, IntegrityError, RetryableError)
}
Result = TypeVar("Result")


def launch(processes: int, train: Callable[..., Result], task: tuple[Any, ...], scratch: Path) -> list[Result]:
    """Call a function in several processes at once and return what it returns in each, by rank.

    When one of them fails or is killed, the others are ended; when this one is killed, all are.

    Args:
        processes: how many.
        train: a module's function.
        task: its arguments; must be picklable.
        scratch: a folder in which the ranks' failures are written down.

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
        rdzv_endpoint=f"{HERE}:0",
        local_addr=HERE,
        max_restarts=0,
        logs_specs=logs,
        signals_to_handle="SIGTERM,SIGINT",
    )
    for name in ("torch.distributed.elastic", "torch.multiprocessing"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # what went wrong is told below
    try:
        with _handlers():
            found = elastic_launch(settings, _rank)(os.getpid(), train, task)
    except SignalException:
        raise KeyboardInterrupt from None
    except ChildFailedError as failed:
        raise _cause(failed, Path(logs.root_log_dir)) from None
    return [found[rank] for rank in range(processes)]


class SharedTrainer(Trainer):
    """The trainer of one rank: the others' texts compete, one look at the dev split counts for all."""

    def compute_loss(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        """Return the loss; in training over the vectors of all ranks, at a look over the whole batch that each has."""
        self.loss.loss.gather_across_devices = self.model.training
        return super().compute_loss(*args, **kwargs)

    def get_train_dataloader(self) -> Any:  # noqa: ANN401
        """Return this rank's parts of the batches, in another order each epoch, which accelerate's shard keeps away."""
        loader = super().get_train_dataloader()
        loader.batch_sampler.set_epoch = loader.batch_sampler.batch_sampler.set_epoch
        return loader

    def get_eval_dataloader(self, eval_dataset: Any = None) -> Any:  # noqa: ANN401
        """Return all dev examples, in the batches of one process: of shares of them the loss would be another."""
        del eval_dataset
        drop, self.args.dataloader_drop_last = self.args.dataloader_drop_last, False
        loader = self._build_dataloader(self.eval_dataset, self.args.eval_batch_size, dataset_kind="eval")
        self.args.dataloader_drop_last = drop
        return prepare_data_loader(loader, self.args.device, num_processes=1, process_index=0, put_on_device=True)

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        """Look at the dev split; the first rank's figures are everybody's, so that all of them stop at one step."""
        self.gather_function = self._whole
        if not self.is_world_process_zero():
            self.evaluator = None
        output = super().evaluation_loop(*args, **kwargs)
        (metrics,) = broadcast_object_list([output.metrics])
        return output._replace(metrics=metrics)

    def _whole(self, losses: torch.Tensor) -> torch.Tensor:
        """Return a dev batch's loss as often as the batch has examples, as accelerate's gather_for_metrics does."""
        state = self.accelerator.gradient_state
        return losses[: state.remainder] if state.end_of_dataloader and state.remainder > 0 else losses

    def _save_rng_state(self, output_dir: str) -> None:
        """Write this rank's random state; the checkpoint is whole, and says so, only when all have written theirs."""
        super()._save_rng_state(output_dir)
        self.accelerator.wait_for_everyone()


def _rank(starter: int, train: Callable[..., Result], task: tuple[Any, ...]) -> Result:
    """Run in a rank: its GPU, its end, and what libraries would say in it."""
    # The kernel sends SIGINT when the process that started this one is gone (torch.multiprocessing asks it to). As a
    # KeyboardInterrupt it would wait for a step that never ends without the others.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if os.getppid() != starter:  # gone before it could be asked
        raise SystemExit(1)
    os.environ["OMP_NUM_THREADS"] = "1"  # else accelerate takes the host's number
    warnings.simplefilter("ignore")
    if torch.cuda.is_available():
        # "cuda" means this one from here on, for 4-bit weights, too: transformers loads them to the current device.
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    else:
        # accelerate calls a rank's CPU "cpu:0", the trainer loads the optimizer of a checkpoint there, and torch knows
        # no such place.
        torch.serialization.register_package(0, lambda _: None, _to_cpu)
    try:
        return train(*task)
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


def _to_cpu(storage: Any, place: str) -> Any:  # noqa: ANN401
    return storage if place.startswith("cpu:") else None


@contextmanager
def _handlers() -> Iterator[None]:
    """Put back the signal handlers that the agent replaces."""
    before = {one: signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


def _cause(failed: ChildFailedError, logs: Path) -> Exception:
    """Return what made the ranks fail: one of them raised it, the others lost the connection."""
    for path in logs.rglob("error.json"):
        kind, _, text = json.loads(path.read_text(encoding="utf-8"))["message"]["message"].partition(": ")
        if kind in EXPECTED:
            return EXPECTED[kind](text)
        if number := re.match(r"\[Errno (\d+)\] (.+)", text):
            return OSError(int(number[1]), number[2])
    _, first = failed.get_first_failure()
    if first.exitcode < 0:
        return StoppedError(f"a process was ended by {first.signal_name()}, as the kernel does when memory is out")
    return RuntimeError(str(failed))
