"""Size and speed of models whose weights cannot be had here: full size, random weights.

    python tests/benchmarks/full_size.py embeddinggemma_2 --scratch .cache/full_size --threads 2 \
        --variants onnx_fp32,onnx_int8,openvino_int8 --lengths 32,128,512,2048,8192

Builds the model once, converts each variant once, and times them against sentence-transformers in one run, as peers.py
does. Neither size nor speed depends on the values of weights; quality does, so nothing is compared. The tokenizer is a
small one, trained on the probe texts: a real one of 262,144 entries adds 14 MB or more to every variant.
"""

import argparse
import os
import shutil
import sys
import warnings
from pathlib import Path

import numpy as np
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import peers
from embed_foundry import manifest

from stages import convert
from stages.commands import compose
from stages.common import config
from stages.common.records.base import Failure
from stages.convert import stage
from support import architectures

# name -> model_type, pooling, tokenizer, longest text, vector length, transformers' configuration
GEMMA = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 1, "vocab_size": 262144}
SHAPES = {
    "embeddinggemma_2": ("embedding_gemma2_text", "mean", "bpe", 8192, 768, GEMMA),
    "embeddinggemma_300m": (
        "gemma3_text",
        "mean",
        "bpe",
        2048,
        768,
        GEMMA
        | {
            "hidden_size": 768,
            "intermediate_size": 1152,
            "num_hidden_layers": 24,
            "num_attention_heads": 3,
            "num_key_value_heads": 1,
            "head_dim": 256,
            "query_pre_attn_scalar": 256,
            "max_position_embeddings": 2048,
            "sliding_window": 512,
            "use_bidirectional_attention": True,
        },
    ),
    "qwen3_embedding_600m": (
        "qwen3",
        "lasttoken",
        "bpe",
        8192,
        1024,
        {
            "vocab_size": 151669,
            "hidden_size": 1024,
            "intermediate_size": 3072,
            "num_hidden_layers": 28,
            "num_attention_heads": 16,
            "num_key_value_heads": 8,
            "head_dim": 128,
            "max_position_embeddings": 32768,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0},
        },
    ),
    "multilingual_e5_base": (
        "xlm-roberta",
        "mean",
        "unigram",
        512,
        768,
        {
            "vocab_size": 250002,
            "hidden_size": 768,
            "intermediate_size": 3072,
            "num_hidden_layers": 12,
            "num_attention_heads": 12,
            "max_position_embeddings": 514,
            "type_vocab_size": 1,
        },
    ),
}
# EmbeddingGemma-300m's heads, after pooling.
HEADS = {"embeddinggemma_300m": ((768, 3072), (3072, 768))}


def build(name, folder):
    """Write a SentenceTransformer folder of a full-size model with random weights, and its manifest."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling, Transformer
    from transformers import AutoConfig, AutoModel

    model_type, pooling, tokenizer, limit, _, settings = SHAPES[name]
    torch.manual_seed(0)
    with torch.device("meta"):
        model = AutoModel.from_config(AutoConfig.for_model(model_type, **settings))
    model = model.to_empty(device="cpu")
    model.init_weights()
    with torch.no_grad():
        for key, weight in model.named_parameters():
            if weight.ndim == 2:
                weight.normal_(std=weight.shape[1] ** -0.5)
            elif "q_norm" in key and model_type != "gemma3_text":
                # Scores of about 1, whatever the width of a head.
                weight.fill_(len(weight) ** -0.5 if model_type == "embedding_gemma2_text" else 1.0)
    source = folder.with_name(f"{folder.name}.transformer")
    model.eval().save_pretrained(source)
    architectures.save_tokenizer(tokenizer, source)
    body = Transformer(str(source), max_seq_length=limit, processor_kwargs={"model_max_length": limit})
    heads = [Dense(*sizes, bias=False, activation_function=torch.nn.Identity()) for sizes in HEADS.get(name, ())]
    modules = [body, Pooling(body.get_embedding_dimension(), pooling), *heads, Normalize()]
    SentenceTransformer(modules=modules, device="cpu").save(str(folder), create_model_card=False)
    shutil.rmtree(source)
    manifest.write(folder, {"stage": "download"})


def convert_variants(name, base, variants, names):
    """Convert what is not there yet, without parity: random weights have none worth minutes at 8192 tokens."""
    overrides = [f"variant=[{','.join(['fp32', *names])}]"]  # a build has its baseline, fp32, in any case
    params = config.parse(yaml.safe_load(compose.compose(overrides, peers.ROOT / "conf")), "conf/")
    limit, dimensions = SHAPES[name][3:5]
    changes = {"name": name, "dimensions": dimensions, "matryoshka": [], "max_tokens": limit, "prompts": {}}
    model = params.model.model_copy(update=changes)
    stage._compare = lambda *_arguments: Failure(error="not compared: random weights")
    for variant in names:
        if not (variants / variant / "variant.json").exists():
            print(f"converting {variant}", file=sys.stderr, flush=True)
            convert.run(
                variant, params.variants[variant], model, base, variants / variant, cache=variants.with_name("cache")
            )


def parse_arguments():
    """Return the command line's arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=sorted(SHAPES))
    parser.add_argument(
        "--scratch", type=Path, required=True, help="folder for models and variants, kept for next time"
    )
    parser.add_argument("--variants", default="onnx_fp32,onnx_q8,onnx_int8,openvino_fp32,openvino_int8")
    parser.add_argument(
        "--lengths", default="32,128,512,2048,8192", help="tokens; those over the model's limit are left out"
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5, help="the fewest of a length; short ones get more")
    parser.add_argument("--busy", action="store_true", help="time calls of a process at work, not of an idle one")
    return parser.parse_args()


def main():
    """Build, convert, time, print the table."""
    arguments = parse_arguments()
    warnings.simplefilter("ignore")
    folder = arguments.scratch / arguments.model
    base, variants = folder / "base", folder / "variants"
    variants.mkdir(parents=True, exist_ok=True)
    if not (base / "manifest.json").exists():
        build(arguments.model, base)
    names = arguments.variants.split(",")
    convert_variants(arguments.model, base, variants, names)
    peers.ENVIRONMENT |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(arguments.threads))
    plan = [("torch", "torch", base), *((name, "variant", variants / name) for name in names)]
    runners = [
        peers.Peer(label, runner, base, path, sum(file.stat().st_size for file in path.rglob("*") if file.is_file()))
        for label, runner, path in plan
    ]
    columns = {"MB": [f"{runner.size / 1e6:.0f}" for runner in runners]}
    for length in arguments.lengths.split(","):
        if int(length) <= SHAPES[arguments.model][3]:
            batches = peers.make_batches(base, length)
            times = peers.measure_times(runners, batches, busy=arguments.busy, fewest=arguments.rounds)
            columns[f"{length} tok"] = peers.describe_speedups(times)
            load = os.getloadavg()[0]
            print(
                f"{length}: torch {np.median(times[:, 0]):.1f} ms, {len(times)} rounds, load {load:.1f}",
                file=sys.stderr,
            )
    columns["RSS MB"] = [f"{runner.request([peers.QUESTION], rss=True)['rss']:.0f}" for runner in runners]
    peers.print_table(runners, columns)
    for runner in runners:
        runner.stop()


if __name__ == "__main__":
    main()
