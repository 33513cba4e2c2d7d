"""akidb's embedding call, asked by plain HTTP."""


def embed(service, **body):
    return service.client.post("/api/v1/embed", json=body)


def test_vectors_are_those_of_ollamas_door(service):
    answer = embed(service, model="static", inputs=["a", "b"], normalize=True).json()
    other = service.client.post("/api/embed", json={"model": "static", "input": ["a", "b"]}).json()
    assert answer["embeddings"] == other["embeddings"]
    assert (answer["dimension"], answer["count"]) == (len(answer["embeddings"][0]), 2)


def test_vectors_of_another_length_than_one_are_refused(service):
    answer = embed(service, inputs=["a"], normalize=False)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_input")


def test_an_empty_list_is_refused(service):
    assert embed(service, inputs=[]).json()["code"] == "empty_input"
