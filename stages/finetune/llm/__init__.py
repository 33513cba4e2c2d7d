"""Questions about passages, written and judged by an OpenAI-compatible endpoint.

Answers are JSON by schema where the endpoint offers it, and read by one strict parser everywhere. Only a reply that
parses is kept; the same request is paid for once.
"""

from stages.finetune.llm.questions import GeneratedExamples, generate_examples

__all__ = ["GeneratedExamples", "generate_examples"]
