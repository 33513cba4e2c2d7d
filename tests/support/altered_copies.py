"""Copies of real folders with one thing changed and manifests that fit: only their content is wrong."""

import json
import shutil

import numpy as np
from embed_foundry import manifest
from safetensors.numpy import load_file, save_file


def broken(source, target, change):
    """Return a copy of a static variant with its table changed; only its vectors are wrong, its manifest fits."""
    shutil.copytree(source, target)
    tensors = load_file(target / "table.safetensors")
    save_file(tensors | {"embeddings": change(tensors["embeddings"].astype(np.float32))}, target / "table.safetensors")
    return renamed(target)


def renamed(folder):
    """Give a copied variant its folder's name, and a manifest that fits."""
    record = json.loads((folder / "variant.json").read_text(encoding="utf-8"))
    (folder / "variant.json").write_bytes(manifest.canonical(record | {"name": folder.name}))
    (folder / "manifest.json").unlink()
    manifest.write(folder, {"stage": f"convert@{folder.name}"})
    return folder


def changed(source, target, name, text):
    """Return a copy of a suite with one file replaced, or removed if `text` is None."""
    shutil.copytree(source, target)
    (target / name).unlink() if text is None else (target / name).write_text(text, encoding="utf-8")
    (target / "manifest.json").unlink()
    manifest.write(target, {"stage": "data"})
    return target
