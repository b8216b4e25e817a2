"""Requests that schemathesis makes up from the OpenAPI description, valid ones and invalid ones."""

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

EXAMPLES = 15  # of each kind for each operation

# A schema cannot say that a text fits the context, or that an expression can be compiled.
NOT_CHECKED = [positive_data_acceptance]

OPERATIONS = [
    ("POST", "/v1/completions"),
    ("POST", "/v1/chat/completions"),
    ("POST", "/v1/embeddings"),
    ("POST", "/tokenize"),
    ("POST", "/detokenize"),
    ("GET", "/v1/models"),
    ("GET", "/v1/models/{name}"),
    ("GET", "/health"),
    ("GET", "/metrics"),
]


@pytest.fixture(scope="module")
def api(url):
    return schemathesis.openapi.from_url(f"{url}/openapi.json")


def test_every_operation_is_tried(api):
    described = {(found.ok().method.upper(), found.ok().path) for found in api.get_all_operations()}
    assert described == set(OPERATIONS)


VALID = [(*operation, GenerationMode.POSITIVE) for operation in OPERATIONS]
# Without a body there is nothing invalid: the only path with a parameter takes any text.
INVALID = [(*operation, GenerationMode.NEGATIVE) for operation in OPERATIONS if operation[0] == "POST"]


@pytest.mark.parametrize(("method", "path", "mode"), VALID + INVALID)
def test_every_answer_is_as_described(api, method, path, mode):
    operation = api[path][method]

    @settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck), database=None, derandomize=True)
    @given(operation.as_strategy(generation_mode=mode))
    def check(case):
        if isinstance(case.body, dict):
            case.body.pop("model", None)  # any other name would be 404, and nothing else be tried
        case.call_and_validate(timeout=60, excluded_checks=NOT_CHECKED)

    check()
