"""One service on a small release, shared by the tests of this folder that do not change it."""

import pytest

from support.served import serve


@pytest.fixture(scope="session")
def service(released, tmp_path_factory):
    """Return a running service of onnx_int8, onnx_fp32 and static."""
    with serve(released.folder, tmp_path_factory.mktemp("service")) as running:
        yield running
