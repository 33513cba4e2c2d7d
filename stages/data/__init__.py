"""data: the suite's tasks as files, whatever their source.

In: text that installed packages carry (suite=builtin), a folder of yours (suite=airgapped), or the model hub's datasets
at the revisions that mteb pins (suite=mteb_core, mteb_full). Out: data/tasks.json (records.tasks) and one folder per
task (sources.suite_files).
Fails: 2 a package lacks the text, a task is unknown, or your files are not what a task needs; 3 wrong bytes, or other
sample counts than mteb publishes; 5 the hub refuses; 75 the hub is unavailable.
Target: the same bytes wherever the locked packages are installed.
"""

from stages.data.stage import run

__all__ = ["run"]
