"""Where quality is evaluated: the schema of `engine` in params.yaml."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from stages.common.config.strict import Strict


class Engine(Strict):
    """Where quality's cells are evaluated: on this machine, or on a Dask cluster.

    Attributes:
        name: "local" or "dask".
        processes: how many one-thread processes work beside each other on this machine; None: as many as CPUs and
            memory allow.
        address: the Dask scheduler's.
        shared: the folder with dvc.yaml on the workers; None if they share no disk with the driver.
        wait_s: seconds to wait for the scheduler, and for a first worker.
    """

    name: Literal["local", "dask"]
    processes: Annotated[int, Field(gt=0)] | None = None
    address: Annotated[str, Field(pattern=r"^(tcp|tls)://[^/]+:\d+$")] | None = None
    shared: str | None = None
    wait_s: int = Field(default=60, gt=0)

    @model_validator(mode="after")
    def _require_address(self) -> "Engine":
        if self.name == "dask" and self.address is None:
            raise ValueError("engine=dask needs engine.address=tcp://HOST:PORT, the address of a Dask scheduler")
        return self
