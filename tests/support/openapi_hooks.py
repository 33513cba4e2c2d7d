"""For schemathesis: keeps values that are valid, but not for the model that is served, out of requests."""

import schemathesis

FULL = 256  # the shortest full vector of the release that tests serve
ALTERNATIVES = {
    ("truncate", "START"): "END",
    ("truncation_direction", "Left"): "Right",
    ("truncation_direction", "left"): "right",
    ("normalize", False): True,
}


@schemathesis.hook
def before_call(context, case, kwargs):
    """Change no value that the schema forbids: it must be refused."""
    body = case.body
    if not isinstance(body, dict):
        return
    for name, value in body.items():
        if isinstance(value, bool | str) and (name, value) in ALTERNATIVES:
            body[name] = ALTERNATIVES[name, value]
        elif name in ("dimensions", "output_dimension") and isinstance(value, int | float) and FULL < value <= 1 << 20:
            body[name] = FULL if value == int(value) else value
        elif name == "prompt_name" and isinstance(value, str) and len(value) <= 256:
            body[name] = None
