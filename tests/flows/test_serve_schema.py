"""What `/openapi.json` says is what happens, whatever is sent."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from tests.served import Server

pytest.importorskip("fastapi")
schemathesis = pytest.importorskip("schemathesis")

EXAMPLES = 8
SERVED = {"model": "digits", "version": "1"}


@pytest.mark.slow
def test_every_operation_keeps_to_its_description(server: Server) -> None:
    from schemathesis.checks import not_a_server_error
    from schemathesis.generation import GenerationMode
    from schemathesis.specs.openapi.checks import (
        content_type_conformance,
        response_schema_conformance,
        status_code_conformance,
    )

    checks = [not_a_server_error, status_code_conformance, content_type_conformance,
              response_schema_conformance]  # fmt: skip
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    operations = [result.ok() for result in schema.get_all_operations()]
    assert len(operations) > 5
    for operation in operations:
        # What it should understand, about a model that is there and any other, and what it
        # should refuse, where there is more than an address to get wrong.
        strategy = operation.as_strategy()
        if "{" in operation.path:
            strategy |= operation.as_strategy(path_parameters=SERVED)
        if operation.body:
            strategy |= operation.as_strategy(GenerationMode.NEGATIVE, path_parameters=SERVED)

        @given(case=strategy)
        @settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck))
        def keeps(case: Any) -> None:
            response = case.call(base_url=server.url, timeout=30)
            case.validate_response(response, checks=checks)

        keeps()
