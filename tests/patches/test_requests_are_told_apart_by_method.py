"""What is wrong with a request is what is wrong with the one that its method names."""

from typing import Any, get_args

import pytest
from mcp.types import CallToolRequest, ClientRequest, ClientRequestType, ListToolsRequest, PingRequest
from pydantic import ValidationError


def test_a_request_is_validated_as_what_its_method_says() -> None:
    with pytest.raises(ValidationError) as error:
        ClientRequest.model_validate({"method": "tools/call", "params": {}})
    assert [problem["loc"] for problem in error.value.errors()] == [("tools/call", "params", "name")]
    with pytest.raises(ValidationError) as error:
        ClientRequest.model_validate({"method": "tools/destroy"})
    assert error.value.error_count() == 1
    not_requests: list[Any] = [{}, {"params": {}}, {"method": 7}, {"method": ["ping"]}, [], "ping", None]
    for wrong in not_requests:
        with pytest.raises(ValidationError):
            ClientRequest.model_validate(wrong)

    call = {"method": "tools/call", "params": {"name": "add", "arguments": {"a": 1}, "_meta": {"more": 1}}, "id": 1}
    known = ClientRequest.model_validate(call)
    assert isinstance(known.root, CallToolRequest)
    assert known.model_dump(by_alias=True, exclude_none=True) == call
    assert ClientRequest(ListToolsRequest()).root == ClientRequest.model_validate({"method": "tools/list"}).root
    assert isinstance(ClientRequest.model_validate({"method": "ping"}).root, PingRequest)
    methods = [kind.model_fields["method"].default for kind in get_args(ClientRequestType)]
    assert len(set(methods)) == len(methods)
