"""Which stock tasks a suite selects: by mteb's names, benchmarks and subsets; unknown names are met with near ones."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from embed_foundry.errors import InputError

from stages.common.config.suite import AirgappedSuite, HubSuite
from stages.common.sources.suite_files import MtebTask, TaskLayout, layout_of
from stages.data import user_folder


@dataclass(frozen=True)
class SelectedTask:
    """One task, and how much of it is measured.

    Attributes:
        task: mteb's task object, restricted to `subsets` and its evaluation splits.
        layout: what its files hold.
        subsets: names of subsets, in mteb's order.
    """

    task: MtebTask
    layout: TaskLayout
    subsets: tuple[str, ...]

    @property
    def name(self) -> str:
        """Return mteb's name of the task."""
        return str(self.task.metadata.name)

    @property
    def type(self) -> str:
        """Return mteb's type of the task."""
        return str(self.task.metadata.type)


def require_task(name: str, setting: str) -> str:
    """Return mteb's type of a task.

    Raises:
        InputError: mteb has no such task; the message names near ones, and the setting.
    """
    return str(_get_task(name, setting).metadata.type)


def select_from_folder(suite: AirgappedSuite) -> list[SelectedTask]:
    """Return the tasks of a user's folder, by name.

    Raises:
        InputError: a folder or name is not an mteb task, a subset is unknown, or the folder holds no task.
    """
    root = Path(str(suite.data)).expanduser()
    selected = []
    for name in sorted(set(suite.tasks)) or user_folder.list_tasks(root):
        task = _get_task(name, "suite.tasks" if suite.tasks else f"suite.data {root / name}")
        subsets = user_folder.list_subsets(task, root / name, layout_of(task))
        selected.append(_select(name, subsets, task.eval_splits))
    return selected


def select_published(suite: HubSuite) -> list[SelectedTask]:
    """Return the tasks of the configured benchmarks, or those configured by name; in the order of their names.

    Raises:
        InputError: a benchmark, task or subset is unknown.
    """
    if suite.benchmarks:
        by_name = _group_by_name(_expand_aggregates(_benchmark_tasks(suite.benchmarks)))
        for name in suite.tasks:
            if name not in by_name:
                raise InputError(f"suite.tasks: {name} is in none of {suite.benchmarks}.{_suggest(name, by_name)}")
        by_name = {name: tasks for name, tasks in by_name.items() if not suite.tasks or name in suite.tasks}
    else:
        by_name = _group_by_name(_expand_aggregates(_get_task(name, "suite.tasks") for name in suite.tasks))
    for name in sorted(set(suite.subsets) - set(by_name)):
        _get_task(name, "suite.subsets")  # subsets of a task that is not selected are fine, a misspelt name is not
    return [_merge(name, tasks, suite.subsets.get(name)) for name, tasks in sorted(by_name.items())]


def _merge(name: str, tasks: list[MtebTask], only: list[str] | None) -> SelectedTask:
    """Return one selection for all that benchmarks take of a task: the union of their subsets and splits."""
    existing = list(tasks[0].metadata.hf_subsets)
    if unknown := sorted(set(only or ()) - set(existing)):
        raise InputError(f"suite.subsets: {name} has no {unknown[0]}.{_suggest(unknown[0], existing)}")
    subsets = set(only or ()) or {subset for task in tasks for subset in task.hf_subsets}
    splits = {split for task in tasks for split in task.eval_splits}
    return _select(
        name,
        [subset for subset in existing if subset in subsets],
        [split for split in tasks[0].metadata.eval_splits if split in splits],
    )


def _select(name: str, subsets: list[str], splits: list[str]) -> SelectedTask:
    import mteb

    task = mteb.get_task(name, eval_splits=list(splits), hf_subsets=list(subsets))
    return SelectedTask(task, layout_of(task), tuple(task.hf_subsets))


def _benchmark_tasks(benchmarks: list[str]) -> Iterator[MtebTask]:
    import mteb

    for name in benchmarks:
        try:
            yield from mteb.get_benchmark(name).tasks
        except KeyError:
            existing = [benchmark.name for benchmark in mteb.get_benchmarks()]
            raise InputError(f"suite.benchmarks: mteb has no {name!r}.{_suggest(name, existing)}") from None


def _expand_aggregates(tasks: Iterable[MtebTask]) -> Iterator[MtebTask]:
    """Yield tasks; one that only averages others (CQADupstackRetrieval) is replaced by those."""
    for task in tasks:
        if task.is_aggregate:
            yield from _expand_aggregates(task.metadata.tasks)
        else:
            yield task


def _group_by_name(tasks: Iterable[MtebTask]) -> dict[str, list[MtebTask]]:
    by_name: dict[str, list[MtebTask]] = {}
    for task in tasks:
        by_name.setdefault(task.metadata.name, []).append(task)
    return by_name


def _get_task(name: str, setting: str) -> MtebTask:
    import mteb

    try:
        return mteb.get_task(name)
    except KeyError:
        existing = [task.metadata.name for task in mteb.get_tasks(exclude_superseded=False)]
        raise InputError(
            f"{setting}: {name} is not a task of mteb {mteb.__version__}.{_suggest(name, existing)} "
            "Rename or remove it."
        ) from None


def _suggest(name: str, existing: Iterable[str]) -> str:
    """Return a question that names the existing names most like `name`, whatever their case; "" if there is none."""
    by_lower = {candidate.lower(): candidate for candidate in existing}
    matches = [by_lower[match] for match in get_close_matches(name.lower(), by_lower, n=3)]
    return f" Did you mean {' or '.join(matches)}?" if matches else ""
