"""Every parser of what people and stores bring, by name: its door, and valid files to damage."""

import numpy as np
from embed_foundry import Variant, contract, manifest, text_lines
from embed_foundry.store.releases import load_manifest
from faults.doors import (
    STORED,
    STORED_DIGEST,
    Parser,
    as_json,
    as_jsonl,
    call,
    encode,
    in_folder,
    in_store,
    list_history,
    open_graph,
    open_release,
    open_signed,
    read_golden,
    read_graph,
    read_signed,
    read_variant,
    sealed_manifest,
    unpack,
    write_channel,
    write_tars,
    write_then,
)
from faults.input_doors import (
    HUB_ANSWER,
    LABELLED,
    LISTS,
    PARAMS,
    RETRIEVAL_FILES,
    SCORED,
    SMALL_YAML,
    ask_hub,
    make_records,
    make_retrieval,
    parse_params,
    read_split,
    write_parquet,
)
from faults.text_doors import COMPLETION, HTML, MARKDOWN, REPLIES, Stream, make_document, read_completion, read_reply
from safetensors.numpy import save

from stages.common import config
from stages.common.records.latency import LatencyReport
from stages.common.records.machine import Machine
from stages.common.records.scores import Compatibility, Floor, Samples, Scores, TruncatedScores
from stages.common.records.verdict import Verdict
from stages.common.sources import intake
from stages.common.sources.base_model.layout import list_weights, read_modules
from stages.finetune import triplet_files
from stages.finetune.llm import answers
from support import sample_documents, small_release, tiny_model
from support.gate_facts import MACHINE, latency_report

SAFETENSORS = save({"embeddings": np.ones((2, 3), "float32"), "weights": np.ones(2, "float32")})
TRIPLETS = [
    {"anchor": "what is it", "positive": "it is this", "negative": "not that", "negative_2": None},
    {"anchor": "who", "positive": "she", "negatives": ["he", "they"]},
]
MODEL = tiny_model.files()
VERDICT = read_golden("evidence/verdict.json")

# The share of files for parsers that are not the build's own, or take milliseconds.
FEW = 0.05

PARSERS: dict[str, Parser] = {
    "manifest": Parser((STORED,), in_folder("manifest.json", manifest.read)),
    "manifest with a digest that fits": Parser(
        (
            manifest.canonical(
                {
                    "schema": 1,
                    "stage": "data",
                    "files": {"a": {"sha256": "0" * 64, "size": 1}},
                    "inputs": {},
                    "parameters": {"a": [1]},
                }
            ),
        ),
        sealed_manifest,
        reads_valid=False,
    ),
    "bundle.json": Parser((read_golden("bundle.json"),), in_folder("bundle.json", contract.Contract.load)),
    "variant.json": Parser((read_golden("variants/static/variant.json"),), in_folder("variant.json", Variant.load)),
    **{
        f"release with another {name}": Parser(
            (read_golden(name),), open_release(name), structured=name.endswith(".json"), share=0.02
        )
        for name in (
            *("bundle.json", "evidence/verdict.json", "evidence/catalog/catalog.json", "bom.cdx.json"),
            *("variants/static/variant.json", "variants/static/tokenizer.json", "variants/static/table.safetensors"),
            *("probes/probes.json", "probes/golden.safetensors"),
        )
    },
    **{
        f"variant that encodes by another {name}": Parser(
            (read_variant(name),), encode(name), structured=name.endswith(".json"), share=FEW
        )
        for name in ("variant.json", "tokenizer.json", "table.safetensors")
    },
    "graph with weights beside it": Parser((read_graph(),), open_graph, structured=False, share=FEW),
    "tar": Parser(write_tars(), unpack, structured=False, reads_valid=False),
    **{
        name: Parser((read_signed(name),), open_signed(name), share=0.2)
        for name in ("model.sig", "provenance.intoto.json")
    },
    "channel": Parser((write_channel(),), in_store("channels/stable.json", list_history)),
    "manifest in a store": Parser(
        (STORED,),
        in_store(f"releases/{STORED_DIGEST}/manifest.json", lambda store: load_manifest(store, STORED_DIGEST)),
    ),
    "params": Parser((as_json(PARAMS),), call(parse_params), lists_faults=True),
    "params.yaml": Parser(
        (SMALL_YAML,), write_then("params.yaml", config.load), structured=False, lists_faults=True, reads_valid=False
    ),
    "safetensors": Parser(
        (SAFETENSORS, MODEL["2_Dense/model.safetensors"]),
        write_then("a.safetensors", intake.check_file),
        structured=False,
    ),
    "config.json of a model": Parser(
        (
            as_json(
                {"auto_map": {"AutoModel": "m.BertModel"}, "activation_function": "torch.nn.Tanh", "a": [{"b": 1}]}
            ),
            MODEL["config.json"],
        ),
        write_then("config.json", intake.check_file),
        share=0.2,
    ),
    "modules.json": Parser((MODEL["modules.json"],), in_folder("modules.json", read_modules)),
    "index of weights": Parser(
        (as_json({"metadata": {"total_size": 1}, "weight_map": {"a": "x.safetensors", "b": "y.safetensors"}}),),
        in_folder("model.safetensors.index.json", list_weights),
    ),
    "jsonl": Parser(
        (as_jsonl({"text": "a", "label": 0}, {"text": "b", "label": 1}),),
        in_folder("test.jsonl", read_split(LABELLED)),
    ),
    "jsonl of lists": Parser(
        (as_jsonl({"sentences": ["a", "b"], "labels": [0, 1]}),), in_folder("test.jsonl", read_split(LISTS))
    ),
    "csv": Parser(
        (b'text,label\n"a, b",0\n"c""d",1\n', b"\xef\xbb\xbftext,label\r\nx,one\r\n"),
        in_folder("test.csv", read_split(LABELLED)),
        structured=False,
    ),
    "csv of scores": Parser(
        (b'sentence1,sentence2,score\na,b,0.5\n"c\nd",e,1e3\n',),
        in_folder("test.csv", read_split(SCORED)),
        structured=False,
    ),
    "parquet": Parser((write_parquet(),), in_folder("test.parquet", read_split(LABELLED)), structured=False),
    **{name: make_retrieval(name) for name in RETRIEVAL_FILES},
    "triplets.jsonl": Parser((as_jsonl(*TRIPLETS),), write_then("t.jsonl", triplet_files.read_triplets)),
    "triplets.csv": Parser(
        (b"anchor,positive,negative\nwhat,it,that\nwho,she,\n",),
        write_then("t.csv", triplet_files.read_triplets),
        structured=False,
    ),
    "hub metadata": Parser((as_json(HUB_ANSWER),), ask_hub, share=0.02),
    **make_records(
        (Verdict, VERDICT),
        (LatencyReport, as_json(latency_report({"fp32": small_release.times()}))),
        (Machine, MACHINE),
        (
            Scores,
            {
                "fp32": {"384": {"T": {"type": "STS", "metric": "cosine_spearman", "main_score": 0.5, "samples": 3}}},
                "b": {"error": "x"},
            },
        ),
        (Samples, {"384": {"T": {"default": {"cosine": [0.1, 0.2], "gold": [1, 2]}}}}),
        (Floor, {"T": 0.25}),
        (Compatibility, {"T": {"a": {"b": {"ndcg_at_10": 0.1, "recall_at_10": 0.2, "overlap_at_10": 0.3}}}}),
        (TruncatedScores, {"T": {"fp32": {"128": 0.5}}}),
    ),
    "document.md": make_document("a.md", MARKDOWN),
    "document.html": make_document("a.html", HTML, share=FEW),
    "document.txt": make_document(
        "a.txt", "Ein Text.\n\nNoch einer – mit Zeichen.\n模型。".encode(), "\ufeffText".encode("utf-16"), share=FEW
    ),
    "document.pdf": make_document("a.pdf", sample_documents.write_chinese_pdf("模型"), share=FEW),
    "document.docx": make_document(
        "a.docx",
        sample_documents.write_docx(("Titel", "Title"), ("Standard", "A text."), table=(("a", "b"),)),
        share=FEW,
    ),
    "reply of a model": Parser(REPLIES, call(read_reply)),
    "completion": Parser(
        (as_json(COMPLETION),),
        call(read_completion),
        refusal=(answers.RefusedAnswerError, answers.NotCompletionError),
    ),
    "lines of standard input": Parser(
        ("one\r\nzwei\n模型".encode(), b"\xef\xbb\xbfa\n"),
        call(lambda data: text_lines.read_lines(Stream(data))),
        structured=False,
    ),
}
