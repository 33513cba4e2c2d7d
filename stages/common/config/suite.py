"""The suites there can be: which tasks are measured, and where their text comes from."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from stages.common.config.strict import Strict

# What becomes of a task with other sample counts than mteb publishes: refused, or told and recorded.
Counts = Literal["refuse", "warn"]


class BuiltinSuite(Strict):
    """Tasks of our own, on text that installed packages carry."""

    name: str
    source: Literal["builtin"]
    seed: int
    queries: int = Field(gt=0)
    corpus: int = Field(gt=0)
    services: int = Field(gt=1)
    languages: list[str]


class AirgappedSuite(Strict):
    """Stock mteb tasks from a folder of one's own; no task named takes every one that is there."""

    name: str
    source: Literal["folder"]
    data: str | None
    tasks: list[str]
    counts: Counts

    @model_validator(mode="after")
    def _folder(self) -> "AirgappedSuite":
        if not self.data:
            raise ValueError("source=folder needs suite.data=FOLDER, one folder a task in it (docs/suites.md)")
        return self


class HubSuite(Strict):
    """Stock mteb tasks from the hub: whole benchmarks, tasks of them, or tasks by name."""

    name: str
    source: Literal["hub"]
    benchmarks: list[str]
    tasks: list[str]
    subsets: dict[str, list[str]]
    counts: Counts

    @model_validator(mode="after")
    def _something(self) -> "HubSuite":
        if not self.benchmarks and not self.tasks:
            raise ValueError("source=hub needs suite.benchmarks or suite.tasks")
        if empty := sorted(task for task, subsets in self.subsets.items() if not subsets):
            raise ValueError(f"suite.subsets of {empty} are empty; leave a task out there to take all its subsets")
        return self


Suite = Annotated[BuiltinSuite | AirgappedSuite | HubSuite, Field(discriminator="source")]
