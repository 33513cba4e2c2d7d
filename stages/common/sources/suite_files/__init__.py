"""The files of a suite's tasks under data/: where they are, what they hold, writing and reading them."""

from stages.common.sources.suite_files.layout import (
    BUILTIN_LAYOUTS,
    ColumnType,
    RetrievalSplit,
    Rows,
    SplitContent,
    TaskLayout,
)
from stages.common.sources.suite_files.mteb_layout import MtebTask, layout_of
from stages.common.sources.suite_files.task_files import SampleCounts, TaskFiles
from stages.common.sources.suite_files.texts import read_passages, read_texts, write_passages

__all__ = [
    "BUILTIN_LAYOUTS",
    "ColumnType",
    "MtebTask",
    "RetrievalSplit",
    "Rows",
    "SampleCounts",
    "SplitContent",
    "TaskFiles",
    "TaskLayout",
    "layout_of",
    "read_passages",
    "read_texts",
    "write_passages",
]
