"""What a bundle for browsers holds beside the variants: the JavaScript runtime, and what transformers.js looks for."""

import importlib.metadata
import shutil
from collections.abc import Mapping
from pathlib import Path

from embed_foundry import Variant

from stages.bundle import npm
from stages.bundle.npm import NpmPackage
from stages.common.config import Target

# Bytes of browser/, with room.
BYTES = 50_000_000
# The bundle's folder, and the runtime's in this repository.
FOLDER, SOURCE = "browser", "stages/runtime/browser"
# Package -> its files that the runtime loads: onnxruntime-web for CPUs, and for GPUs by WebGPU; a page fetches one.
BROWSER_FILES = {
    "onnxruntime-web": [
        "dist/ort.wasm.min.mjs",
        "dist/ort-wasm-simd-threaded.mjs",
        "dist/ort-wasm-simd-threaded.wasm",
        "dist/ort.webgpu.min.mjs",
        "dist/ort-wasm-simd-threaded.asyncify.mjs",
        "dist/ort-wasm-simd-threaded.asyncify.wasm",
    ],
    "@huggingface/tokenizers": ["dist/tokenizers.min.mjs", "LICENSE"],
}
# transformers.js opens a folder with these and a graph.
TRANSFORMERS = ("config.json", "tokenizer.json", "tokenizer_config.json")


def is_browser(target: Target) -> bool:
    """Return whether a target is a web page."""
    return target.host.system == "browser"


def write(work: Path, shipped: Mapping[str, Path], weights: Path, project: Path) -> list[NpmPackage]:
    """Write browser/ and the base model's files for transformers.js into a bundle, and return the packages in it.

    Args:
        work: the bundle.
        shipped: name -> folder of the shipped variants.
        weights: the base model.
        project: the repository root.

    Raises:
        InputError: npm cannot fetch a package.
        IntegrityError: a package has other bytes than the lock.
    """
    source, folder = project / SOURCE, work / FOLDER
    folder.mkdir()
    for path in sorted([*source.glob("*.js"), *source.glob("*.html"), *source.glob("*.css")]):
        shutil.copyfile(path, folder / path.name)
    packages = npm.read_lock(source / "package-lock.json")
    for name, files in BROWSER_FILES.items():
        place = folder / "packages" / packages[name].folder
        place.mkdir(parents=True)
        for file, content in npm.read_members(npm.fetch(packages[name], project / npm.CACHE), files):
            (place / Path(file).name).write_bytes(content)
    _copy_licences(folder / "packages" / "onnxruntime-web")
    if any(Variant.load(variant).kind == "onnx" for variant in shipped.values()):
        for file in TRANSFORMERS:
            if (weights / file).is_file():
                shutil.copyfile(weights / file, work / file)
    return [packages[name] for name in BROWSER_FILES]


def _copy_licences(place: Path) -> None:
    """Copy the terms of ONNX Runtime, which its npm package leaves out, from its Python package."""
    distribution = importlib.metadata.distribution("onnxruntime")
    for name in ("LICENSE", "ThirdPartyNotices.txt"):
        shutil.copyfile(str(distribution.locate_file(f"onnxruntime/{name}")), place / name)
