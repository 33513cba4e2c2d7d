"""Which tasks are measured and where their text comes from: the schema of `suite` in params.yaml."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from stages.common.config.strict import Strict

# What to do with a task whose sample counts are not those that mteb publishes: end the stage, or warn and record it.
Counts = Literal["refuse", "warn"]


class BuiltinSuite(Strict):
    """Tasks of our own, made from text in installed packages.

    Attributes:
        seed: of all samples.
        queries, corpus: how many queries and documents the retrieval task has.
        services: how many AWS services classification and clustering tell apart.
        languages: Django locale codes whose translations are matched with English.
    """

    name: str
    source: Literal["builtin"]
    seed: int
    queries: int = Field(gt=0)
    corpus: int = Field(gt=0)
    services: int = Field(gt=1)
    languages: list[str]


class AirgappedSuite(Strict):
    """Stock mteb tasks from a local folder.

    Attributes:
        data: the folder.
        tasks: the tasks to take; empty takes every task in the folder.
        counts: what to do with a task whose sample counts differ from the published ones.
    """

    name: str
    source: Literal["folder"]
    data: str | None
    tasks: list[str]
    counts: Counts

    @model_validator(mode="after")
    def _require_folder(self) -> "AirgappedSuite":
        if not self.data:
            raise ValueError("source=folder needs suite.data=FOLDER, with one subfolder per task (docs/suites.md)")
        return self


class HubSuite(Strict):
    """Stock mteb tasks from the hub.

    Attributes:
        benchmarks: mteb benchmarks whose tasks are taken.
        tasks: tasks by name; with benchmarks, only those of their tasks.
        subsets: task -> the subsets (languages) to take; a task that is missing here keeps all of them.
        counts: what to do with a task whose sample counts differ from the published ones.
    """

    name: str
    source: Literal["hub"]
    benchmarks: list[str]
    tasks: list[str]
    subsets: dict[str, list[str]]
    counts: Counts

    @model_validator(mode="after")
    def _require_tasks(self) -> "HubSuite":
        if not self.benchmarks and not self.tasks:
            raise ValueError("source=hub needs suite.benchmarks or suite.tasks")
        if empty := sorted(task for task, subsets in self.subsets.items() if not subsets):
            raise ValueError(f"suite.subsets: {empty} are empty; remove a task there to take all its subsets")
        return self


Suite = Annotated[BuiltinSuite | AirgappedSuite | HubSuite, Field(discriminator="source")]
