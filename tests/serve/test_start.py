"""Requests that come while the first release opens: they wait for it, whatever they ask."""

from concurrent.futures import ThreadPoolExecutor

from support.served import serve

ASKED = {
    "/v1/models": None,
    "/v1/embeddings": {"model": "auto", "input": "a"},
    "/api/tags": None,
    "/api/ps": None,
    "/api/version": None,
    "/api/show": {"model": "auto"},
    "/api/embed": {"model": "auto", "input": "a"},
    "/embed": {"inputs": "a"},
    "/tokenize": {"inputs": "a"},
    "/info": None,
    "/v2/embed": {"model": "static", "texts": ["a"], "input_type": "search_query"},
    "/api/v1/embed": {"model": "auto", "inputs": ["a"]},
}


def test_a_request_waits_for_the_first_release(released, tmp_path):
    with serve(released.folder, tmp_path) as service, ThreadPoolExecutor(len(ASKED)) as pool:

        def ask(path: str) -> int:
            body = ASKED[path]
            answer = service.client.post(path, json=body) if body else service.client.get(path)
            return answer.status_code

        assert dict(zip(ASKED, pool.map(ask, ASKED), strict=True)) == dict.fromkeys(ASKED, 200)
