"""Which stock tasks a suite names: mteb's names, benchmarks and subsets, with near matches where one is unknown."""

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from embed_foundry.errors import InputError

from stages.common.config.suite import AirgappedSuite, HubSuite
from stages.data import folder
from stages.data.shapes import Shape, shape


@dataclass(frozen=True)
class Choice:
    """One task, as much of it as is measured.

    Attributes:
        task: mteb's task object, restricted to `subsets` and its eval splits.
        shape: what its files hold.
        subsets: names of subsets, in mteb's order.
    """

    task: Any
    shape: Shape
    subsets: tuple[str, ...]

    @property
    def name(self) -> str:
        """Return mteb's name of the task."""
        return str(self.task.metadata.name)

    @property
    def several(self) -> bool:
        """Return whether subsets have folders of their own."""
        return bool(self.task.metadata.is_multilingual) and not self.shape.parallel


def airgapped(suite: AirgappedSuite) -> list[Choice]:
    """Return the tasks of a user's folder, by name.

    Raises:
        InputError: a folder or name is no mteb task, a subset is unknown, or nothing is there.
    """
    root = Path(str(suite.data)).expanduser()
    found = []
    for name in sorted(set(suite.tasks)) or folder.tasks(root):
        whole = _task(name, f"suite.data {root / name}" if not suite.tasks else "suite.tasks")
        subsets = folder.subsets(whole, root / name, shape(whole))
        found.append(_choice(name, subsets, whole.eval_splits))
    return found


def published(suite: HubSuite) -> list[Choice]:
    """Return the tasks of the named benchmarks or names, by name.

    Raises:
        InputError: a benchmark, task or subset is unknown, or nothing is left.
    """
    asked = _by_name(_expanded(_benchmark_tasks(suite.benchmarks)))
    for name in suite.tasks if suite.benchmarks else ():
        if name not in asked:
            raise InputError(f"suite.tasks: {name} is in none of {suite.benchmarks}.{_near(name, asked)}")
    if suite.benchmarks:
        asked = {name: tasks for name, tasks in asked.items() if not suite.tasks or name in suite.tasks}
    else:
        asked = _by_name(_expanded(_task(name, "suite.tasks") for name in dict.fromkeys(suite.tasks)))
    for name in sorted(set(suite.subsets) - set(asked)):
        _task(name, "suite.subsets")  # a task left out keeps its entry, a slip of the pen does not
    return [_merged(name, tasks, suite.subsets.get(name)) for name, tasks in sorted(asked.items())]


def _merged(name: str, tasks: list[Any], only: list[str] | None) -> Choice:
    """Return one choice for all that benchmarks ask of a task: the union of their subsets and splits."""
    known = list(tasks[0].metadata.hf_subsets)
    if unknown := sorted(set(only or ()) - set(known)):
        raise InputError(f"suite.subsets: {name} has no {unknown[0]}.{_near(unknown[0], known)}")
    wanted = set(only or ()) or {subset for task in tasks for subset in task.hf_subsets}
    splits = {split for task in tasks for split in task.eval_splits}
    return _choice(name, [s for s in known if s in wanted], [s for s in tasks[0].metadata.eval_splits if s in splits])


def _choice(name: str, subsets: list[str], splits: list[str]) -> Choice:
    import mteb

    task = mteb.get_task(name, eval_splits=list(splits), hf_subsets=list(subsets))
    return Choice(task, shape(task), tuple(task.hf_subsets))


def _benchmark_tasks(names: list[str]) -> Iterable[Any]:
    import mteb

    for name in names:
        try:
            yield from mteb.get_benchmark(name).tasks
        except KeyError:
            known = [benchmark.name for benchmark in mteb.get_benchmarks()]
            raise InputError(f"suite.benchmarks: mteb has no {name!r}.{_near(name, known)}") from None


def _expanded(tasks: Iterable[Any]) -> Iterable[Any]:
    """Yield tasks; one that only averages others (CQADupstackRetrieval) gives those."""
    for task in tasks:
        if task.is_aggregate:
            yield from _expanded(task.metadata.tasks)
        else:
            yield task


def _by_name(tasks: Iterable[Any]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for task in tasks:
        found.setdefault(task.metadata.name, []).append(task)
    return found


def _task(name: str, where: str) -> Any:  # noqa: ANN401 - mteb has no types
    import mteb

    try:
        return mteb.get_task(name)
    except KeyError:
        known = [task.metadata.name for task in mteb.get_tasks(exclude_superseded=False)]
        raise InputError(
            f"{where}: {name} is no task of mteb {mteb.__version__}.{_near(name, known)} Rename or remove it."
        ) from None


def _near(name: str, known: Iterable[str]) -> str:
    """Return a question that names what looks like `name`, in upper or lower case; "" if nothing does."""
    by_lower = {one.lower(): one for one in known}
    near = [by_lower[match] for match in get_close_matches(name.lower(), by_lower, n=3)]
    return f" Did you mean {' or '.join(near)}?" if near else ""
