"""A session of requests whose host names lead to servers on this machine."""

from typing import Any

import requests
from requests.adapters import HTTPAdapter

from pttfaces.http import LoopbackHosts


class _Adapter(HTTPAdapter):
    def __init__(self, hosts: LoopbackHosts) -> None:
        super().__init__()
        self._hosts = hosts

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> Any:
        resolved = request.copy()
        resolved.url, headers = self._hosts.resolve(request.url or "")
        resolved.headers.update(headers)
        response = super().send(resolved, *args, **kwargs)
        response.url, response.request = request.url or "", request
        return response


def session(hosts: LoopbackHosts) -> requests.Session:
    """Keeps cookies and follows redirects; a response has the URL that was requested."""
    made = requests.Session()
    made.mount("http://", _Adapter(hosts))
    made.mount("https://", _Adapter(hosts))
    return made
