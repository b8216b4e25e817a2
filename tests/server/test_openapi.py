"""Requests that schemathesis makes up from the OpenAPI description, valid ones and invalid ones."""

import pytest
import schemathesis
from hypothesis import HealthCheck, settings

EXAMPLES = 12  # for each operation

schema = schemathesis.pytest.from_fixture("api")


@pytest.fixture(scope="module")
def api(url):
    return schemathesis.openapi.from_url(f"{url}/openapi.json")


@schema.parametrize()
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
def test_every_answer_is_as_described(case):
    case.call_and_validate()
