"""The bill of materials: a CycloneDX ML-BOM of the base model, the variants, the data and the libraries.

Deterministic: its serial number is derived from the content's digest, and it has no time stamp.
"""

import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from embed_foundry.kinds import KINDS

if TYPE_CHECKING:
    from cyclonedx.model.component import Component

# Libraries that run any bundle; its kinds add theirs, and all others only made or measured it.
RUNTIME = {"numpy", "onnxruntime", "safetensors", "tokenizers"}
# mteb writes ids in lower case.
SPDX = {"apache-2.0": "Apache-2.0", "bsd-3-clause": "BSD-3-Clause", "mit": "MIT", "cc-by-4.0": "CC-BY-4.0"}


def render(told: Mapping[str, Any], files: Mapping[str, str]) -> str:
    """Return the BOM as CycloneDX 1.6 JSON.

    Args:
        told: bundle.json's content.
        files: the bundle's files: name -> SHA-256.
    """
    from cyclonedx.model.bom import Bom
    from cyclonedx.model.component import Component, ComponentScope, ComponentType
    from cyclonedx.output.json import JsonV1Dot6
    from packageurl import PackageURL

    kind = ComponentType
    model, target = told["model"], told["target"]["name"]
    owner, _, name = model["repo"].rpartition("/")
    whole = Component(
        name=f"{model['name']}-{target}",
        version=told["content"][:12],
        type=kind.MACHINE_LEARNING_MODEL,
        bom_ref="bundle",
        licenses=_licence(model["license"]["name"]),
    )
    base = Component(
        name=model["repo"],
        version=model["revision"],
        type=kind.MACHINE_LEARNING_MODEL,
        bom_ref="base",
        purl=PackageURL("huggingface", owner or None, name, model["revision"]),
        licenses=_licence(model["license"]["name"]),
        components=[
            _file("base", f"base/{name}", digest) for name, digest in told["sources"]["weights"]["files"].items()
        ],
    )
    variants = [
        Component(
            name=name,
            version=entry["digest"][:12],
            type=kind.MACHINE_LEARNING_MODEL,
            bom_ref=f"variant:{name}",
            description=f"{model['repo']} as {entry['kind']}, {entry['precision']}",
            components=_files(f"variants/{name}/", files),
        )
        for name, entry in told["variants"].items()
    ]
    runtime = Component(
        name="embed_foundry",
        type=kind.LIBRARY,
        bom_ref="runtime",
        licenses=_licence("Apache-2.0"),
        components=_files("runtime/", files),
    )
    data = [
        Component(
            name=task["name"],
            version=task.get("version"),
            type=kind.DATA,
            bom_ref=f"data:{task['name']}",
            description=f"measured quality by it ({task['type']})",
            licenses=_licence(task.get("license", "not specified")),
        )
        for task in told["sources"]["data"]["tasks"]
    ]
    running = RUNTIME.union(*(KINDS[entry["kind"]].distributions for entry in told["variants"].values()))
    libraries = [
        Component(
            name=item["name"],
            version=item["version"],
            type=kind.LIBRARY,
            bom_ref=f"pypi:{item['name']}@{item['version']}",
            purl=PackageURL("pypi", None, item["name"], item["version"]),
            scope=ComponentScope.REQUIRED if item["name"] in running else ComponentScope.EXCLUDED,
        )
        for item in told["build"]["libraries"]
    ]
    bom = Bom(serial_number=uuid.uuid5(uuid.NAMESPACE_OID, told["content"]), version=1)
    bom.metadata.timestamp = None  # type: ignore[assignment] # a clock; the format allows its absence, the type does not
    bom.metadata.component = whole
    for component in (base, *variants, runtime, *data, *libraries):
        bom.components.add(component)
    bom.register_dependency(whole, [*variants, runtime])
    for variant in variants:
        bom.register_dependency(variant, [base])
    bom.register_dependency(runtime, [item for item in libraries if item.scope is ComponentScope.REQUIRED])
    return JsonV1Dot6(bom).output_as_string(indent=2) + "\n"


def _files(prefix: str, files: Mapping[str, str]) -> "list[Component]":
    return [_file("bundle", name, digest) for name, digest in files.items() if name.startswith(prefix)]


def _file(where: str, name: str, digest: str) -> "Component":
    from cyclonedx.model import HashAlgorithm, HashType
    from cyclonedx.model.component import Component, ComponentType

    digests = [HashType(alg=HashAlgorithm.SHA_256, content=digest)]
    return Component(name=name, type=ComponentType.FILE, bom_ref=f"{where}:{name}", hashes=digests)


def _licence(name: str) -> list[Any]:
    """Return a licence by its SPDX id where it has one, else by its name; none where nobody says."""
    from cyclonedx.contrib.license.factories import LicenseFactory

    return [] if name == "not specified" else [LicenseFactory().make_from_string(SPDX.get(name, name))]
