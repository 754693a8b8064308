"""A fake of `krm_sops.http.Http` without sockets, for tests of what is asked and of what is never asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

from krm_sops.http import Http, Response, Unreachable
from tests.interop.fakes.internet import Answer, Seen

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class FakeHttp:
    """services: host[:port] -> what answers; a host without one is unreachable. requests: all that was asked."""

    def __init__(self, **services: Callable[[Seen], Answer]) -> None:
        self.services = dict(services)
        self.requests: list[Seen] = []
        self.local: list[str] = []

    def request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        *,
        local: bool = False,
        passing: Callable[[Response], bool] | None = None,
    ) -> Response:
        parts = urlsplit(url)
        assert parts.scheme == "https" or local, url
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        given = {name.lower(): value for name, value in (headers or {}).items()}
        seen = Seen(parts.netloc, method, path, given, body)
        self.requests.append(seen)
        if local:
            self.local.append(parts.netloc)
        if parts.netloc not in self.services:
            raise Unreachable(f"{parts.netloc} is unreachable: connection refused")
        answer = self.services[parts.netloc](seen)
        answered = {name.lower().replace("_", "-"): value for name, value in answer.headers.items()}
        return Response(answer.status, answered, answer.body, given.get("authorization", "").split()[1:])

    @property
    def asked(self) -> list[str]:
        return [f"{seen.host}{seen.path}" for seen in self.requests]


def as_http(fake: FakeHttp) -> Http:
    return cast("Http", fake)
