"""Three tasks from the API documentation that botocore carries (Apache-2.0): retrieval, classification, clustering.

An operation's documentation is split into its first sentence and the rest. Operations are shuffled once and shared out:
those of the retrieval corpus are in no other task, and classification's training and test operations are disjoint.
"""

import random
from collections import defaultdict
from pathlib import Path

from embed_foundry.errors import InputError

from stages.common.config.suite import BuiltinSuite
from stages.common.records.tasks import TaskRecord
from stages.common.sources.aws import Operation, load_operations
from stages.common.sources.suite_files import BUILTIN_LAYOUTS, RetrievalSplit, SplitContent, TaskFiles

RETRIEVAL, CLASSIFICATION, CLUSTERING = "AwsOperationRetrieval", "AwsServiceClassification", "AwsServiceClustering"
# Longest text to classify, in characters: about 200 tokens, which fits every model.
CHARACTERS_MAX = 1000
# Operations of each service that go to classification: training, then test.
TRAIN, TEST = 16, 20


def write_tasks(suite: BuiltinSuite, work: Path) -> list[TaskRecord]:
    """Write the three tasks' files under `work` and return their records.

    Raises:
        InputError: botocore documents fewer operations than the suite needs.
    """
    operations = load_operations()
    if len(operations) < suite.corpus or suite.queries > suite.corpus:
        raise InputError(
            f"suite: corpus {suite.corpus} and queries {suite.queries} are too many; botocore documents "
            f"{len(operations)} operations, and each query needs its document. Lower them."
        )
    rng = random.Random(suite.seed)  # noqa: S311 - a sample, not a secret
    rng.shuffle(operations)
    by_service = _largest_services(operations[suite.corpus :], suite.services)
    train = [operation for group in by_service.values() for operation in group[:TRAIN]]
    test = [operation for group in by_service.values() for operation in group[TRAIN : TRAIN + TEST]]
    labels = {service: label for label, service in enumerate(by_service)}
    return [
        _write_task(
            work,
            _record(RETRIEVAL, "Retrieval", "ndcg_at_10", "First sentence of an operation to the rest."),
            {"test": _retrieval_split(operations[: suite.corpus], suite.queries)},
        ),
        _write_task(
            work,
            _record(CLASSIFICATION, "Classification", "accuracy", "Description of an operation to its service."),
            {
                split: [{"text": _description(operation), "label": labels[operation.service]} for operation in part]
                for split, part in (("train", train), ("test", test))
            },
        ),
        _write_task(
            work,
            _record(CLUSTERING, "Clustering", "v_measure", "Operations grouped by service."),
            {
                "test": [
                    {"sentences": _description(operation), "labels": labels[operation.service]} for operation in test
                ]
            },
        ),
    ]


def _write_task(work: Path, record: TaskRecord, splits: dict[str, SplitContent]) -> TaskRecord:
    files = TaskFiles(work / record.name, BUILTIN_LAYOUTS[record.type])
    for split, content in splits.items():
        files.write("default", split, content)
    return record


def _description(operation: Operation) -> str:
    """Return the whole text, truncated after a word; classification and clustering share it, so it is encoded once.

    Variants differ most on it: accuracy of fp32 and static is 0.73 and 0.59; on first sentences, 0.60 and 0.54.
    """
    text = f"{operation.summary} {operation.details}"
    return text if len(text) <= CHARACTERS_MAX else text[: CHARACTERS_MAX + 1].rpartition(" ")[0]


def _retrieval_split(operations: list[Operation], queries: int) -> RetrievalSplit:
    ids = {operation: f"{operation.service}.{operation.name}" for operation in operations}
    return RetrievalSplit(
        corpus=[{"id": ids[operation], "title": "", "text": operation.details} for operation in operations],
        queries=[{"id": ids[operation], "text": operation.summary} for operation in operations[:queries]],
        relevant={ids[operation]: {ids[operation]: 1} for operation in operations[:queries]},
    )


def _largest_services(operations: list[Operation], count: int) -> dict[str, list[Operation]]:
    """Return the operations of the services that have most, by service name."""
    groups: dict[str, list[Operation]] = defaultdict(list)
    for operation in operations:
        groups[operation.service].append(operation)
    largest = sorted(groups, key=lambda service: (-len(groups[service]), service))[:count]
    if len(largest) < count or any(len(groups[service]) <= TRAIN for service in largest):
        raise InputError(f"suite: services {count} is too many for the operations outside the corpus. Lower it.")
    return {service: groups[service] for service in sorted(largest)}


def _record(name: str, task_type: str, metric: str, description: str) -> TaskRecord:
    return TaskRecord(
        name=name,
        type=task_type,
        description=f"AWS API documentation: {description}",
        main_score=metric,
        languages={"default": ["eng-Latn"]},
        license="apache-2.0",
        reference="https://github.com/boto/botocore",
        package="botocore",
    )
