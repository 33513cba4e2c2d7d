"""Questions about passages and the marks that a judge gives them."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from embed_foundry import RemoteError
from embed_foundry.progress import bar

from stages.common.config.finetune import LlmEndpoint
from stages.finetune.documents import Passage
from stages.finetune.llm.answers import parse_mark, parse_questions
from stages.finetune.llm.endpoint import Endpoint
from stages.finetune.triplets import Triplet

QUESTION_PROMPT = (
    "Write {count} different questions that a user could ask a search engine and that this passage answers, in the "
    "passage's language. Do not mention the passage; do not copy its sentences. Reply with a JSON object and nothing "
    'else: its field "questions" is a list of {count} strings.\n\nTitle: {title}\nPassage: {text}'
)
JUDGE_PROMPT = (
    "How well does the passage answer the question? 5: fully, 4: mostly, 3: in part, 2: hardly, 1: not at all. Reply "
    'with a JSON object and nothing else: its field "mark" is that number.\n\nQuestion: {question}\nPassage: {text}'
)
# Without keywords that some endpoints refuse, such as minItems.
QUESTION_SCHEMA: Final = {
    "type": "object",
    "properties": {"questions": {"type": "array", "items": {"type": "string"}}},
    "required": ["questions"],
    "additionalProperties": False,
}
MARK_SCHEMA: Final = {
    "type": "object",
    "properties": {"mark": {"type": "integer", "enum": [1, 2, 3, 4, 5]}},
    "required": ["mark"],
    "additionalProperties": False,
}
# A larger share of unanswered requests is an endpoint that cannot do it. Fewer than FEW say little until the end.
UNANSWERED_MAX, FEW = 0.2, 5


@dataclass(frozen=True)
class GeneratedExamples:
    """Examples from an endpoint.

    Attributes:
        triplets: a passage and each question about it that the judge accepts.
        rejected: questions that the judge marks too low.
        unanswered: requests, for questions or for a mark, of which no reply parsed; their examples are missing.
    """

    triplets: list[Triplet]
    rejected: int
    unanswered: int

    @property
    def left_out(self) -> dict[str, int]:
        """Return reason -> number of questions or requests without an example."""
        counts = {"llm: marked too low": self.rejected, "llm: no reply that parses": self.unanswered}
        return {reason: count for reason, count in counts.items() if count}


def generate_examples(passages: list[Passage], config: LlmEndpoint, replies: Path) -> GeneratedExamples:
    """Return the passages with the questions that the endpoint writes about them and accepts as their judge.

    Progress, tokens and cost go to stderr.

    Args:
        passages: what to ask about.
        config: the endpoint, questions per passage, and the lowest accepted mark (None: no judge).
        replies: folder that keeps the endpoint's replies, by which a run that was ended continues.

    Raises:
        InputError: its key is not set.
        RemoteError: the endpoint refuses, or too many of its replies do not parse.
        RetryableError: it cannot be reached.
    """
    triplets: list[Triplet] = []
    rejected = 0
    with Endpoint(config, replies) as endpoint, bar("questions", len(passages)) as progress:
        try:
            for passage in passages:
                for question in _ask_questions(endpoint, passage) or []:
                    mark = _ask_mark(endpoint, question, passage.text)
                    if mark is None or mark < (config.judge_min or 0):
                        rejected += mark is not None
                    else:
                        triplets.append(Triplet(question, passage.text, group=passage.document))
                _require_answers(endpoint, few=FEW)
                progress.set_description_str(f"questions ({endpoint.usage.describe(config)})", refresh=False)
                progress.update(1)
            _require_answers(endpoint, few=1)
        finally:
            sys.stderr.write(f"questions: {endpoint.usage.describe(config)}\n")
    return GeneratedExamples(triplets, rejected, endpoint.usage.unanswered)


def _ask_questions(endpoint: Endpoint, passage: Passage) -> list[str] | None:
    count, title = endpoint.config.queries, ": ".join(passage.titles[-2:]) or passage.document
    prompt = QUESTION_PROMPT.format(count=count, title=title, text=passage.text)
    questions = endpoint.ask(prompt, "questions", QUESTION_SCHEMA, parse_questions)
    return questions and list(dict.fromkeys(questions[:count]))


def _ask_mark(endpoint: Endpoint, question: str, text: str) -> int | None:
    """Return a question's mark; without a judge 5, unasked."""
    if endpoint.config.judge_min is None:
        return 5
    return endpoint.ask(JUDGE_PROMPT.format(question=question, text=text), "mark", MARK_SCHEMA, parse_mark)


def _require_answers(endpoint: Endpoint, few: int) -> None:
    unanswered = endpoint.usage.unanswered
    requests = unanswered + endpoint.usage.answered
    if unanswered >= few and unanswered > UNANSWERED_MAX * requests:
        raise RemoteError(
            f"{endpoint.url}: {unanswered} of {requests} requests have no reply that parses, expected at most "
            f"{UNANSWERED_MAX:.0%}. The last such reply {endpoint.latest_refusal}. Replies that parse are kept; choose "
            "a model that follows a JSON schema, or give it room for more tokens."
        )
