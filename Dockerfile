# Untested: it was written without access to Docker. Please report any problem.
#
#   docker build -t moa .
#   docker run --rm -v moa:/data moa key add ann          prints a key; without one the server does not start
#   docker run --rm -v moa:/data -p 8000:8000 -e OPENROUTER_API_KEY moa
#
# For yourself alone, without keys, publish the port on the host's loopback only. The server then refuses pages of other
# sites, and other names than localhost; put no proxy in front of it.
#
#   docker run --rm -p 127.0.0.1:8000:8000 -e OPENROUTER_API_KEY moa serve --host 0.0.0.0 --no-auth
#
# It has no embedded models: without a provider's API key moa/auto has no model to call.
FROM python:3.12-slim
COPY --from=ghcr.io/astral-sh/uv:0.13 /uv /usr/local/bin/uv
WORKDIR /app
COPY pyproject.toml uv.lock README.md LICENSE ./
COPY src src
RUN uv sync --locked --no-dev --no-cache
RUN useradd --create-home moa && mkdir /data && chown moa /data
USER moa
# Keys, moa.toml and the run store: mount a volume here to persist them.
ENV PATH=/app/.venv/bin:$PATH XDG_CONFIG_HOME=/data/config XDG_STATE_HOME=/data/state XDG_CACHE_HOME=/data/cache
VOLUME /data
EXPOSE 8000
HEALTHCHECK CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/readyz')"]
# SIGTERM lets runs finish for --grace seconds: give `docker stop --time` more than that.
ENTRYPOINT ["moa"]
CMD ["serve", "--host", "0.0.0.0"]
