"""The server: routes and policy, dialects of HTTP APIs, and the page."""
