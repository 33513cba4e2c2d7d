"""OpenAI's embeddings API: POST /v1/embeddings, GET /v1/models."""

import base64
from typing import Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from ..answers import answer_headers, json_response
from ..requests import AUTO, EmbedRequest
from ..service import Service


class EmbeddingsBody(BaseModel):
    """The body of POST /v1/embeddings."""

    input: str | list[str]
    model: str = AUTO
    dimensions: int | None = None
    encoding_format: Literal["float", "base64"] = "float"
    user: str = ""


def router(service: Service) -> APIRouter:
    """Return the door's routes."""
    routes = APIRouter(tags=["openai"])

    @routes.post("/v1/embeddings")
    async def create_embeddings(body: EmbeddingsBody, request: Request) -> Response:
        texts = (body.input,) if isinstance(body.input, str) else tuple(body.input)
        answer = await service.embed(
            EmbedRequest(
                texts,
                body.model,
                dimensions=body.dimensions,
                expected_space=request.headers.get("X-Expect-Space-Id", ""),
            )
        )
        encode = _to_base64 if body.encoding_format == "base64" else lambda vector: vector
        data = [
            {"object": "embedding", "index": index, "embedding": encode(vector)}
            for index, vector in enumerate(answer.vectors)
        ]
        total = sum(answer.tokens)
        usage = {"prompt_tokens": total, "total_tokens": total}
        content = {"object": "list", "data": data, "model": answer.variant, "usage": usage}
        return json_response(content, headers=answer_headers(answer))

    return routes


def _to_base64(vector: object) -> str:
    """Return a vector as OpenAI's client reads it: little-endian float32."""
    import numpy as np

    return base64.b64encode(np.asarray(vector, dtype="<f4").tobytes()).decode()
