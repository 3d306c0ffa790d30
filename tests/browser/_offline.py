"""The guard that holds a browser page to the promise that nothing of ours needs the network."""

from __future__ import annotations

from playwright.sync_api import BrowserContext, ConsoleMessage, Route

INSIDE = ("about:", "blob:", "data:", "file:")


class Offline:
    """Aborts and records what would leave the machine; keeps the page's own complaints."""

    def __init__(self, context: BrowserContext):
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self._inside = list(INSIDE)
        context.route("**/*", self._route)
        context.on("console", self._console)
        context.on("weberror", lambda error: self.complaints.append(str(error.error)))

    def allow(self, prefix: str) -> None:
        """Let requests through whose address begins with `prefix`: a server of the test's own."""
        self._inside.append(prefix)

    def check(self) -> None:
        assert self.requests == [], "the page tried to reach the network"
        assert self.complaints == [], "the page reported errors"

    def _route(self, route: Route) -> None:
        if route.request.url.startswith(tuple(self._inside)):
            route.continue_()
        else:
            self.requests.append(route.request.url)
            route.abort()

    def _console(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.complaints.append(message.text)
