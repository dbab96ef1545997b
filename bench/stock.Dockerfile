# The recipe of exasol/mcp-server's own image, its package with all its kinds of storage installed by pip on a slim
# Python, as far as it goes here: Debian's Python, and the versions of constraints*.txt, so that the recipes are compared
# and not the releases. To the recipe's disadvantage pip would also leave its cache.
ARG BASE_IMAGE
FROM ${BASE_IMAGE} AS installed
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates python3 python3-venv \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/*
COPY constraints.txt constraints-excluded.txt /src/
RUN --mount=type=secret,id=ca-bundle \
    if [ -s /run/secrets/ca-bundle ]; then export PIP_CERT=/run/secrets/ca-bundle; fi \
    && sed -n 's/^\([a-z].*\) \\$/\1/p' /src/constraints*.txt >/tmp/versions.txt \
    && python3 -m venv /opt/stock \
    && /opt/stock/bin/pip install --no-cache-dir --constraint /tmp/versions.txt \
        'exasol-mcp-server[dynamodb,redis,mongodb]' \
    && rm /tmp/versions.txt

# A base image made here has the lists of packages in its layer; the official one has not, so they are not to count.
FROM scratch AS stock
COPY --from=installed / /
ENTRYPOINT ["/opt/stock/bin/exasol-mcp-server-http"]
