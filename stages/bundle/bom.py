"""The bill of materials: a CycloneDX ML-BOM of the base model, the variants, the data and the libraries.

Deterministic: its serial number is derived from the content's digest, and it has no time stamp.
"""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from embed_foundry.encoders.kinds import KINDS

from stages.bundle.npm import NpmPackage
from stages.common.records.bundle import BundleModel, BundleRecord, BundleVariant, Library, TaskSource, WeightsSource

if TYPE_CHECKING:
    from cyclonedx.model.component import Component
    from cyclonedx.model.license import License

# Libraries that run any bundle; its kinds add theirs, and all others only made or measured it.
RUNTIME = {"numpy", "onnxruntime", "safetensors", "tokenizers"}
# mteb writes ids in lower case.
SPDX = {"apache-2.0": "Apache-2.0", "bsd-3-clause": "BSD-3-Clause", "mit": "MIT", "cc-by-4.0": "CC-BY-4.0"}


def render(record: BundleRecord, files: Mapping[str, str], packages: Sequence[NpmPackage] = ()) -> str:
    """Return the BOM as CycloneDX 1.6 JSON.

    Args:
        record: bundle.json.
        files: the bundle's files: name -> SHA-256.
        packages: those of npm in browser/packages.
    """
    from cyclonedx.model.bom import Bom
    from cyclonedx.model.component import ComponentScope
    from cyclonedx.output.json import JsonV1Dot6

    whole = _describe_bundle(record)
    base = _describe_base(record.model, record.sources.weights)
    variants = [_describe_variant(name, variant, record.model, files) for name, variant in record.variants.items()]
    runtime = _describe_runtime(files)
    data = [_describe_task(task) for task in record.sources.data.tasks]
    required = RUNTIME.union(*(KINDS[variant.kind].distributions for variant in record.variants.values()))
    libraries = [_describe_library(library, required=library.name in required) for library in record.build.libraries]
    bom = Bom(serial_number=uuid.uuid5(uuid.NAMESPACE_OID, record.content), version=1)
    bom.metadata.timestamp = None  # type: ignore[assignment] # a clock; the format allows its absence, the type does not
    bom.metadata.component = whole
    scripts = [_describe_package(package, files) for package in packages]
    for component in (base, *variants, runtime, *data, *libraries, *scripts):
        bom.components.add(component)
    bom.register_dependency(whole, [*variants, runtime, *scripts])
    for variant in variants:
        bom.register_dependency(variant, [base])
    bom.register_dependency(runtime, [library for library in libraries if library.scope is ComponentScope.REQUIRED])
    return JsonV1Dot6(bom).output_as_string(indent=2) + "\n"


def _describe_bundle(record: BundleRecord) -> "Component":
    from cyclonedx.model.component import Component, ComponentType

    return Component(
        name=f"{record.model.name}-{record.target.name}",
        version=record.content[:12],
        type=ComponentType.MACHINE_LEARNING_MODEL,
        bom_ref="bundle",
        licenses=_find_licences(record.model.license.name),
    )


def _describe_base(model: BundleModel, weights: WeightsSource) -> "Component":
    from cyclonedx.model.component import Component, ComponentType
    from packageurl import PackageURL

    owner, _, name = model.repo.rpartition("/")
    return Component(
        name=model.repo,
        version=model.revision,
        type=ComponentType.MACHINE_LEARNING_MODEL,
        bom_ref="base",
        purl=PackageURL("huggingface", owner or None, name, model.revision),
        licenses=_find_licences(model.license.name),
        components=[_describe_file("base", f"base/{file}", digest) for file, digest in weights.files.items()],
    )


def _describe_variant(name: str, variant: BundleVariant, model: BundleModel, files: Mapping[str, str]) -> "Component":
    from cyclonedx.model.component import Component, ComponentType

    return Component(
        name=name,
        version=variant.digest[:12],
        type=ComponentType.MACHINE_LEARNING_MODEL,
        bom_ref=f"variant:{name}",
        description=f"{model.repo} as {variant.kind}, {variant.precision}",
        components=_describe_files(f"variants/{name}/", files),
    )


def _describe_runtime(files: Mapping[str, str]) -> "Component":
    from cyclonedx.model.component import Component, ComponentType

    return Component(
        name="embed_foundry",
        type=ComponentType.LIBRARY,
        bom_ref="runtime",
        licenses=_find_licences("Apache-2.0"),
        components=[
            *_describe_files("runtime/", files),
            *(file for file in _describe_files("browser/", files) if not file.name.startswith("browser/packages/")),
        ],
    )


def _describe_package(package: NpmPackage, files: Mapping[str, str]) -> "Component":
    from cyclonedx.model.component import Component, ComponentType
    from packageurl import PackageURL

    scope, _, name = package.name.rpartition("/")
    return Component(
        name=package.name,
        version=package.version,
        type=ComponentType.LIBRARY,
        bom_ref=f"npm:{package.name}@{package.version}",
        purl=PackageURL("npm", scope or None, name, package.version),
        licenses=_find_licences(package.license),
        components=_describe_files(f"browser/packages/{package.folder}/", files),
    )


def _describe_task(task: TaskSource) -> "Component":
    from cyclonedx.model.component import Component, ComponentType

    return Component(
        name=task.name,
        version=task.version,
        type=ComponentType.DATA,
        bom_ref=f"data:{task.name}",
        description=f"data that quality was measured on ({task.type})",
        licenses=_find_licences(task.license or "not specified"),
    )


def _describe_library(library: Library, *, required: bool) -> "Component":
    from cyclonedx.model.component import Component, ComponentScope, ComponentType
    from packageurl import PackageURL

    return Component(
        name=library.name,
        version=library.version,
        type=ComponentType.LIBRARY,
        bom_ref=f"pypi:{library.name}@{library.version}",
        purl=PackageURL("pypi", None, library.name, library.version),
        scope=ComponentScope.REQUIRED if required else ComponentScope.EXCLUDED,
    )


def _describe_files(prefix: str, files: Mapping[str, str]) -> "list[Component]":
    return [_describe_file("bundle", name, digest) for name, digest in files.items() if name.startswith(prefix)]


def _describe_file(holder: str, name: str, digest: str) -> "Component":
    from cyclonedx.model import HashAlgorithm, HashType
    from cyclonedx.model.component import Component, ComponentType

    digests = [HashType(alg=HashAlgorithm.SHA_256, content=digest)]
    return Component(name=name, type=ComponentType.FILE, bom_ref=f"{holder}:{name}", hashes=digests)


def _find_licences(name: str) -> "Iterable[License]":
    """Return a licence by its SPDX id where it has one, else by its name; none where it is not specified."""
    from cyclonedx.contrib.license.factories import LicenseFactory

    return [] if name == "not specified" else [LicenseFactory().make_from_string(SPDX.get(name, name))]
