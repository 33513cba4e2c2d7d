"""data: the suite's tasks as files, whatever they come from.

In: text that installed packages carry (suite=builtin), a folder of yours (suite=airgapped), or the model hub's datasets
at the revisions that mteb pins (suite=mteb_core, mteb_full). Out: data/tasks.json and one folder a task.
Fails: 2 a package lacks the text, an unknown task, or your files are not what a task needs; 3 wrong bytes, or other
sample counts than mteb publishes; 5 the hub refuses; 75 the hub is unavailable.
Target: the same bytes wherever the locked packages are installed.
"""

from stages.data.stage import run

__all__ = ["run"]
