"""The service: one process that answers every client's dialect from one verified release. `embed-foundry serve`.

A request crosses these rooms: a door (doors/) reads a dialect into an `EmbedRequest`; `Service.embed` answers it from
the served release; the door writes the `EmbedAnswer`, or the refusal, in its dialect. Needs the extra `serve`.

A process crosses these: source.py says which release is served, service.py swaps them, server.py listens and ends, and
supervisor.py runs several of them on one port.
"""
