"""A language model behind an OpenAI-compatible endpoint.

1. One POST to `{base_url}/chat/completions` per question; temperature 0.
2. An answer counts only when it can be read: `ask` hands it to `read`, and what `read` complains about (`Unusable`) is sent back with the
   answer, up to `retries` times; then `EndpointError` says what the last answer lacked.
3. Time-outs, connection failures and the codes 429 and 5xx are tried again after a pause; other codes end the call with the server's words.
4. The key is sent in a header only; it appears in no message or repr.
"""

from __future__ import annotations

import http.client
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from steering.errors import BadInput

Read = TypeVar("Read")


class EndpointError(RuntimeError):
    """The model gave no usable answer. The message says what was wrong with the last one."""


class Unusable(Exception):
    """An answer that cannot be taken; another attempt may mend it. The message is for the model."""


@dataclass(frozen=True)
class Endpoint:
    """A model that can be asked. Raises BadInput for an address that is none, or numbers out of range."""

    base_url: str
    """Up to and including the version, as in `http://127.0.0.1:8000/v1`."""
    model: str
    api_key: str | None = field(default=None, repr=False)
    timeout: float = 120.0
    """Seconds for one answer."""
    retries: int = 2
    """Further attempts after the first."""
    pause: float = 1.0
    """Seconds before the second attempt after a failure of the server; twice as long before each further one."""
    max_tokens: int = 8192

    def __post_init__(self) -> None:
        if not self.base_url.startswith(("http://", "https://")):
            raise BadInput(f"{self.base_url!r} is not an address; write http://host:port/v1 or https://...")
        if not self.model:
            raise BadInput("Name the model that judges, as the endpoint calls it.")
        if self.timeout <= 0 or self.retries < 0:
            raise BadInput("timeout must be above 0 and retries at least 0.")

    def ask(
        self,
        messages: list[dict[str, str]],
        read: Callable[[str], Read],
        *,
        what: str = "answer",
        remedy: str = "",
        error: type[EndpointError] = EndpointError,
    ) -> Read:
        """What `read` makes of the answer. `what` names the thing asked for and `remedy` ends each complaint. Raises `error`."""
        begun, trouble, wait = list(messages), "", self.pause
        for attempt in range(self.retries + 1):
            try:
                answer = self._answer(messages, error)
            except Unusable as complaint:
                trouble = str(complaint)
                if attempt < self.retries:
                    time.sleep(wait)
                    wait *= 2
                continue
            try:
                return read(answer)
            except Unusable as complaint:
                trouble = str(complaint)
                said = f"That cannot be used: {trouble} {remedy}".strip()
                messages = [*begun, {"role": "assistant", "content": answer}, {"role": "user", "content": said}]
        raise error(
            f"{self.model} at {self.base_url} gave no usable {what} in {self.retries + 1} attempts. The last: {trouble}"
        )

    def _answer(self, messages: list[dict[str, str]], error: type[EndpointError]) -> str:
        """The text of one answer. Raises Unusable for what another attempt may mend, `error` for what none will."""
        body = {"model": self.model, "messages": messages, "temperature": 0, "max_tokens": self.max_tokens}
        headers = {"Content-Type": "application/json"}
        if self.api_key:
            headers["Authorization"] = f"Bearer {self.api_key}"
        url = f"{self.base_url.rstrip('/')}/chat/completions"
        request = urllib.request.Request(url, json.dumps(body).encode(), headers)
        try:
            with urllib.request.urlopen(request, timeout=self.timeout) as response:
                raw = response.read()
        except urllib.error.HTTPError as failure:
            said = failure.read()[:300].decode(errors="replace")
            if failure.code == 429 or failure.code >= 500:
                raise Unusable(f"the server answered {failure.code}: {said}") from failure
            raise error(
                f"{url} answered {failure.code}: {said}. Check the address, the model's name and the key."
            ) from failure
        except TimeoutError as failure:
            raise Unusable(f"no answer within {self.timeout:g} s.") from failure
        except (OSError, http.client.HTTPException) as failure:
            reason = getattr(failure, "reason", failure)
            late = isinstance(reason, TimeoutError)
            raise Unusable(
                f"no answer within {self.timeout:g} s." if late else f"no connection ({reason})."
            ) from failure
        return _content(raw)


def _content(raw: bytes) -> str:
    try:
        document: Any = json.loads(raw)
        choice = document["choices"][0]
        content, refusal = choice["message"].get("content"), choice["message"].get("refusal")
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise Unusable(f"the server did not answer in the form of chat completions: {raw[:120]!r}.") from error
    if refusal:
        raise Unusable(f"the model refused: {str(refusal)[:200]}")
    if not isinstance(content, str) or not content.strip():
        raise Unusable("the answer is empty.")
    if choice.get("finish_reason") == "length":
        raise Unusable("the answer was cut at its token limit; raise max_tokens or send smaller pieces.")
    return content
