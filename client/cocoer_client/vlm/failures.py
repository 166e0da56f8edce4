"""Why a request to a vision-language model has no answer; each message is one line that a person can act on."""

from __future__ import annotations

import re

import openai

from cocoer_client.errors import CocoerError
from cocoer_client.vlm.privacy import scrubbed
from cocoer_client.vlm.settings import EndpointOptions
from cocoer_client.vlm.told import Told


class RequestFailed(CocoerError):
    """This request has no answer; others may have one."""


class EndpointUnusable(CocoerError):
    """No request will have one: no such server, model or key. What was answered before stays."""


Failure = RequestFailed | EndpointUnusable


def _words(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE)


NO_MONEY = _words(r"insufficient_quota|insufficient.balance|exceeded your current quota|billing|payment required")
NO_MODEL = _words(
    r"model_?not_?found|deployment_?not_?found|unknown model|no such model|invalid model|is pinned to|"
    r"model.{0,200}(?:not found|does not exist|not exist|is not (?:loaded|available|served))|deployment.{0,60}not exist"
)
FEW_IMAGES = _words(
    r"at most \d+ image|too many images|(?:only|at most) (?:one|a single|1) image|multiple images|"
    r"limit-mm-per-prompt|number of images|images? per (?:prompt|request|message)"
)
NO_IMAGES = _words(
    r"at most 0 image|image input is not supported|data required for image input|not a multi-?modal model|"
    r"(?:not|n.t) support (?:image|vision|multi-?modal)|image_url is only supported|support image input|"
    r"images are not supported|only text message|unsupported content part type|"
    r"content must be a string|unknown variant `image_url`|no multi-?modal|mmproj"
)
TOO_LONG = _words(
    r"context.?(?:length|size|window)|maximum model length|max_model_len|too many tokens|reduce the length|"
    r"max_new_tokens`? must be|prompt is too long|input is too long|(?:tokens|length|prompt|input).{0,40}exceeds? the"
)
TOO_LARGE = _words(
    r"(?:image|payload|body|request|entity|content).{0,40}too large|exceeds? .{0,40}(?:size|bytes|pixels)"
)
LIMIT_TOO_LARGE = _words(r"max_(?:completion_)?tokens.{0,60}too large|max_(?:completion_)?tokens.{0,80}at most")


def failure_of(told: Told, options: EndpointOptions) -> Failure:
    """A refusal as this package's error."""
    return _by_status(told, options) or _by_words(told, options) or _other(told, options)


def _by_status(told: Told, options: EndpointOptions) -> Failure | None:
    url, status, message = options.base_url, told.status, scrubbed(told.message, options.key)
    if 300 <= status < 400:
        return EndpointUnusable(
            f"{url} leads to another address (HTTP {status}), where images are not sent unasked; if it is right, "
            "give it as --base-url"
        )
    if status == 402 or told.says(NO_MONEY) and status in (400, 403, 429):
        return EndpointUnusable(f"{url}: nothing is left to pay with, or no payment set up: {message}")
    if status == 401 or (status == 403 and not told.says(NO_MODEL)):
        if options.key:
            return EndpointUnusable(f"{url} does not take this key (of --api-key-file, or $OPENAI_API_KEY): {message}")
        return EndpointUnusable(f"{url} wants a key (--api-key-file, or $OPENAI_API_KEY): {message}")
    if status == 413:
        return _too_large(url, message)
    if status == 429:
        wait = f"; Retry-After: {told.wait}" if told.wait else ""
        return RequestFailed(
            f"{url} has too much to do (HTTP 429: {message}{wait}); ask for less at once (--concurrency), or be more "
            "patient (--model-retries)"
        )
    return None


def _by_words(told: Told, options: EndpointOptions) -> Failure | None:
    url, message = options.base_url, scrubbed(told.message, options.key)
    if told.says(NO_IMAGES):
        return EndpointUnusable(f"{options.model!r} at {url} takes no images: {message}")
    if told.says(FEW_IMAGES):
        return EndpointUnusable(
            f"{options.model!r} at {url} does not take that many images at once; send one with --collage, or start "
            f"vLLM with --limit-mm-per-prompt '{{\"image\": 3}}': {message}"
        )
    if told.says(LIMIT_TOO_LARGE):
        return RequestFailed(f"{url} does not give answers that long; lower --max-tokens: {message}")
    if told.says(TOO_LONG):
        return RequestFailed(
            f"too much for {options.model!r} at {url}: send smaller images (--longest-side, --detail low), or give the "
            f"model a longer context: {message}"
        )
    if told.says(TOO_LARGE):
        return _too_large(url, message)
    if told.status in (400, 403, 404, 422) and told.says(NO_MODEL):
        return EndpointUnusable(
            f"{url} has no model {options.model!r} (what it has: {url.rstrip('/')}/models): {message}"
        )
    return None


def _other(told: Told, options: EndpointOptions) -> Failure:
    url, message = options.base_url, scrubbed(told.message, options.key)
    if told.status in (404, 405):
        hint = "" if url.rstrip("/").endswith("/v1") else "; does --base-url lack /v1?"
        return EndpointUnusable(
            f"there is no {url.rstrip('/')}/chat/completions (HTTP {told.status}: {message or 'nothing said'}){hint}"
        )
    kind = "failed" if told.status >= 500 else "refuses this request"
    return RequestFailed(f"{url} {kind} (HTTP {told.status}): {message or 'nothing said'}")


def _too_large(url: str, message: str) -> RequestFailed:
    return RequestFailed(f"the images are too large for {url}; lower --longest-side: {message or 'nothing said'}")


def no_interface(url: str) -> EndpointUnusable:
    """Where a web page comes instead of an answer."""
    hint = "" if url.rstrip("/").endswith("/v1") else "; does --base-url lack /v1?"
    return EndpointUnusable(f"what answers at {url} is a web site, not OpenAI's interface{hint}")


def no_connection(error: openai.APIConnectionError, options: EndpointOptions) -> Failure:
    """A connection that did not come about, or broke.

    The library's own message says nothing; what its HTTP library said is the cause, told apart by the names of classes,
    which are the same in httpx and httpx2.
    """
    cause = error.__cause__
    kind, message = type(cause).__name__, scrubbed(str(cause or ""), options.key)
    if kind == "ConnectTimeout":
        return EndpointUnusable(f"no server answers at {options.base_url}")
    if isinstance(error, openai.APITimeoutError):
        return RequestFailed(
            f"no answer from {options.base_url} within {options.timeout:g} s, each time; raise --model-timeout"
        )
    if "SSL" in message or "certificate" in message.lower():
        return EndpointUnusable(
            f"no secure connection to {options.base_url}: does the server speak TLS (https), and is its certificate by "
            f"an authority you trust ($SSL_CERT_FILE)? ({message})"
        )
    if kind == "ProxyError":
        return EndpointUnusable(f"the proxy does not lead to {options.base_url} ($HTTPS_PROXY and so on): {message}")
    if kind == "ConnectError":
        return EndpointUnusable(f"no server at {options.base_url} ({message})")
    hint = "; does it want https?" if options.base_url.lower().startswith("http:") else ""
    return RequestFailed(f"the connection to {options.base_url} was lost ({message or kind}){hint}")
