"""add_model: a model's files -> conf/model/NAME.yaml, commented like the others there. Not a DVC stage.

In: a repository of the hub, or a SentenceTransformer folder; weights are not downloaded. Out: the YAML, whole or not.
Fails: 2 a model that cannot be converted, with the reason, or a name that is taken; 3 the hub sends wrong bytes;
5 the hub refuses (gated, no such repository or revision); 75 the hub is unavailable.
"""

from stages.commands.add_model.command import AddedModel, run

__all__ = ["AddedModel", "run"]
