"""Three tasks from the API documentation that botocore carries (Apache-2.0): retrieval, classification, clustering.

An operation's documentation is split in its first sentence and the rest. Operations are drawn once and shared out:
those of the retrieval corpus are in no other task, and classification's training and test operations are disjoint.
"""

import random
from collections import defaultdict
from pathlib import Path

from embed_foundry.errors import InputError

from stages.common.config.suite import BuiltinSuite
from stages.common.contract.tables import csv_file, json_lines
from stages.common.records.tasks import TaskRecord
from stages.common.sources.aws import Operation, operations

# Longest text to classify, in characters: about 200 tokens, which every model takes in.
LONGEST = 1000
# Operations a service gives to classification: training, then test.
TRAIN, TEST = 16, 20


def write(suite: BuiltinSuite, work: Path) -> list[TaskRecord]:
    """Write the three tasks' files under `work` and return their records.

    Raises:
        InputError: botocore documents fewer operations than the suite asks for.
    """
    found = operations()
    if len(found) < suite.corpus or suite.queries > suite.corpus:
        raise InputError(
            f"suite: corpus {suite.corpus} and queries {suite.queries} are too many; botocore documents {len(found)} "
            "operations, and each query needs its document. Lower them."
        )
    rng = random.Random(suite.seed)  # noqa: S311 - a sample, not a secret
    rng.shuffle(found)
    _retrieval(found[: suite.corpus], suite.queries, work / "AwsOperationRetrieval")
    groups = _by_service(found[suite.corpus :], suite.services)
    train = [op for ops in groups.values() for op in ops[:TRAIN]]
    test = [op for ops in groups.values() for op in ops[TRAIN : TRAIN + TEST]]
    labels = {service: at for at, service in enumerate(groups)}
    for split, chosen in (("train", train), ("test", test)):
        rows = [(_description(op), labels[op.service]) for op in chosen]
        csv_file(work / "AwsServiceClassification" / f"{split}.csv", ("text", "label"), rows)
    rows = [(_description(op), labels[op.service]) for op in test]
    csv_file(work / "AwsServiceClustering" / "test.csv", ("sentences", "labels"), rows)
    return [
        _record("AwsOperationRetrieval", "Retrieval", "ndcg_at_10", "First sentence of an operation to the rest."),
        _record(
            "AwsServiceClassification", "Classification", "accuracy", "Description of an operation to its service."
        ),
        _record("AwsServiceClustering", "Clustering", "v_measure", "Operations grouped by service."),
    ]


def _description(op: Operation) -> str:
    """Return the whole text, cut after a word: classification and clustering share it, so it is encoded for both.

    On it variants differ most (accuracy of fp32 and static 0.73 and 0.59; on first sentences 0.60 and 0.54).
    """
    text = f"{op.summary} {op.details}"
    return text if len(text) <= LONGEST else text[: LONGEST + 1].rpartition(" ")[0]


def _retrieval(corpus: list[Operation], queries: int, folder: Path) -> None:
    ids = {op: f"{op.service}.{op.name}" for op in corpus}
    json_lines(folder / "corpus.jsonl", [{"id": ids[op], "title": "", "text": op.details} for op in corpus])
    json_lines(folder / "queries.jsonl", [{"id": ids[op], "text": op.summary} for op in corpus[:queries]])
    (folder / "qrels.tsv").write_bytes("".join(f"{ids[op]}\t{ids[op]}\t1\n" for op in corpus[:queries]).encode())


def _by_service(found: list[Operation], services: int) -> dict[str, list[Operation]]:
    """Return the operations of the services that have most, by service name."""
    groups: dict[str, list[Operation]] = defaultdict(list)
    for op in found:
        groups[op.service].append(op)
    largest = sorted(groups, key=lambda service: (-len(groups[service]), service))[:services]
    if len(largest) < services or any(len(groups[service]) <= TRAIN for service in largest):
        raise InputError(f"suite: services {services} is too many for what a corpus of this size leaves. Lower it.")
    return {service: groups[service] for service in sorted(largest)}


def _record(name: str, kind: str, metric: str, description: str) -> TaskRecord:
    return TaskRecord(
        name=name,
        type=kind,
        description=f"AWS API documentation: {description}",
        main_score=metric,
        languages={"default": ["eng-Latn"]},
        license="apache-2.0",
        reference="https://github.com/boto/botocore",
        package="botocore",
    )
