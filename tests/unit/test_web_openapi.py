"""The gateway's OpenAPI document: valid, true to the code, with examples that hold; and the page that shows it."""

import json
import re

import jsonschema
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator
from starlette.datastructures import QueryParams

from cocoer_client.results import Result
from cocoer_client.web import components, openapi
from cocoer_client.web.asked import Asked, AskedToDraw, read_asked
from cocoer_client.web.problems import MEDIA_TYPE, REASONS, RETRY_AFTER
from tests.asgi import opened
from tests.builds import PROJECT
from tests.pages import SCHEMA

DOCUMENT = json.loads(openapi.text())
OPERATIONS = {
    (path, method): operation
    for path, operations in DOCUMENT["paths"].items()
    for method, operation in operations.items()
}
POSTED = [operation for (_, method), operation in OPERATIONS.items() if method == "post"]
OF_PAGES = {"/", "/docs", "/docs/{name}", "/openapi.json", "/page"}
"""Paths that are for browsers, or the document itself."""


@pytest.fixture(scope="module")
def web():
    with opened() as client:
        yield client


def followed(part):
    """It, or what it refers to."""
    while "$ref" in part:
        found = DOCUMENT
        for name in part["$ref"].removeprefix("#/").split("/"):
            found = found[name]
        part = found
    return part


def validator(schema):
    return jsonschema.Draft202012Validator({**schema, "components": DOCUMENT["components"]})


def answers():
    """Operation, status, media type, and what is said of such an answer."""
    for place, operation in OPERATIONS.items():
        for status, response in operation["responses"].items():
            for media_type, content in followed(response)["content"].items():
                yield pytest.param(content, id=f"{place[0]}-{status}-{media_type}")


def test_it_is_an_openapi_document():
    assert DOCUMENT["openapi"] == "3.1.0"
    assert [error.message for error in OpenAPIV31SpecValidator(DOCUMENT).iter_errors()] == []


def test_the_file_of_the_documentation_is_this_one(tmp_path):
    openapi.main([str(tmp_path / "openapi.json")])
    written = (tmp_path / "openapi.json").read_text()
    assert written == (PROJECT / "docs" / "openapi.json").read_text(), "see cocoer_client.web.openapi"


def test_every_endpoint_is_in_it(web):
    there = {route.path for route in web.app.routes if hasattr(route, "path")}
    for route in web.app.routes:
        there |= {one.path for one in getattr(getattr(route, "original_router", None), "routes", ())}
    assert there - OF_PAGES == set(DOCUMENT["paths"])


def test_operations_have_names_and_descriptions():
    names = [operation["operationId"] for operation in OPERATIONS.values()]
    assert len(set(names)) == len(names)
    tags = {tag["name"] for tag in DOCUMENT["tags"]}
    for operation in OPERATIONS.values():
        assert operation["summary"]
        assert set(operation["tags"]) <= tags
        for response in operation["responses"].values():
            assert "X-Request-Id" in followed(response)["headers"]


def test_result_is_that_of_the_one_model():
    """Its schema is the published one; only the place of its parts differs."""
    published = json.loads(json.dumps(SCHEMA["$defs"]).replace("#/$defs/", components.SCHEMAS))
    ours = DOCUMENT["components"]["schemas"]
    used = set(published) - {"Failure", "Error"}
    assert {name: ours[name] for name in used} == {name: published[name] for name in used}
    Result.model_validate(components.examples()["result"])


@pytest.mark.parametrize(("operation", "asked"), list(zip(POSTED, (Asked, AskedToDraw, Asked))))
def test_options_are_those_that_are_read(operation, asked):
    """In the query and in the form, with the same schemas."""
    parameters = [followed(parameter) for parameter in operation["parameters"]]
    query = {one["name"]: one["schema"] for one in parameters if one["in"] == "query"}
    form = operation["requestBody"]["content"]["multipart/form-data"]["schema"]
    fields = {name: dict(schema) for name, schema in form["properties"].items() if name != "image"}
    for schema in fields.values():
        assert schema.pop("description")
    assert set(query) == set(asked.model_fields)
    assert {name: {**fields[name], "default": schema.get("default")} for name, schema in query.items()} == {
        name: {**schema, "default": asked.model_fields[name].default} for name, schema in query.items()
    }
    assert form["required"] == ["image"]
    for name, schema in query.items():
        given = {"persons": openapi.BOXES, "on_damage": "accept", "timing": "true", "fast_decode": "true"}
        value = given.get(name, str(schema.get("default", schema.get("maximum"))))
        validator(schema).validate(value if schema["type"] == "string" else json.loads(value))
        read_asked(asked, QueryParams({name: value}), {})


@pytest.mark.parametrize("content", list(answers()))
def test_examples_hold(content):
    for example in content.get("examples", {}).values():
        validator(content["schema"]).validate(example["value"])


def test_every_reason_has_its_example_and_nothing_else_does():
    seen = {}
    for name, response in DOCUMENT["components"]["responses"].items():
        for reason, example in response["content"][MEDIA_TYPE]["examples"].items():
            seen[reason] = example["value"]["status"]
            assert name == f"Problem{REASONS[reason][0]}"
            assert ("Retry-After" in response["headers"]) >= (reason in RETRY_AFTER)
            assert "invalid" not in example["value"]["detail"]
    assert seen == {reason: status for reason, (status, _) in REASONS.items() if reason not in components.NEVER_SENT}
    assert set(components.DETAILS).isdisjoint(components.examples()["details"])


def test_it_is_served_and_asked_for_anew_once(web):
    answer = web.get("/openapi.json")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    assert answer.json() == DOCUMENT
    again = web.get("/openapi.json", headers={"If-None-Match": f'"other", W/{answer.headers["etag"]}'})
    assert (again.status_code, again.content) == (304, b"")


def test_the_page_has_its_files_beside_it(web):
    """All relative, so that it works below a path too; nothing is inline, nothing comes from elsewhere."""
    page = web.get("/docs")
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    named = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert {name for name in named if not re.match(r"[a-z]", name)} == set()
    assert len(named) == 6
    for name in named:
        answer = web.get(f"/{name}")
        assert (answer.status_code, answer.content == b"") == (200, False), name
    assert not re.search(r"<style|<script>| on\w+=| style=", page.text)
    assert "script-src 'self';" in page.headers["content-security-policy"]


@pytest.mark.parametrize("name", ["index.html", "__init__.py", "..%2fopenapi.py", "swagger-ui-bundle.js.map"])
def test_nothing_else_is_beside_it(web, name):
    answer = web.get(f"/docs/{name}")
    assert (answer.status_code, answer.json()["reason"]) == (404, "not-found")
