# The tag says what it is, the digest fixes it (here trixie-20261005-slim, an index of all platforms). To refresh it:
#   docker pull debian:trixie-slim && docker image inspect --format '{{index .RepoDigests 0}}' debian:trixie-slim
# Where no registry answers, scripts/base-image.sh makes the same release from Debian's packages.
ARG BASE_IMAGE=debian:trixie-slim@sha256:a29215f6a35e51e22adffa17f89e9d2ef06214e64a2bad10d765c46aea49f11f

# Debian's own Python, so that Debian's security updates reach it.
FROM ${BASE_IMAGE} AS python
# Versions are not pinned: Debian's mirrors keep only the newest of a stable release, so a pin breaks the next build.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates python3 \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/ldconfig/* /var/log/apt /var/log/dpkg.log \
    # Nothing here changes its user, so no program needs to be able to. This also makes no-new-privileges a second lock.
    && find / -xdev -type f -perm /6000 -exec chmod ug-s {} +


FROM python AS builder
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends patch python3-pip python3-venv
# No step may leave bytecode behind that the last one would then take for its own.
ENV PYTHONDONTWRITEBYTECODE=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore

# pip stays outside the virtual environments and installs into them, so that it never has to be taken out of the image.
RUN python3 -m venv --without-pip /opt/holdfast \
    && python3 -m venv --without-pip /opt/build

# The secret is for networks that inspect TLS: the bundle with their authority is mounted for this step alone.
COPY constraints.txt constraints-build.txt /src/
RUN --mount=type=secret,id=ca-bundle \
    if [ -s /run/secrets/ca-bundle ]; then export PIP_CERT=/run/secrets/ca-bundle; fi \
    && for name in holdfast:constraints build:constraints-build; do \
        pip --python "/opt/${name%:*}/bin/python" install --no-compile --no-deps --require-hashes --only-binary :all: \
            --requirement "/src/${name#*:}.txt" || exit 1; \
    done

COPY scripts/apply-patches.sh /src/scripts/
COPY patches /src/patches
RUN /src/scripts/apply-patches.sh /opt/holdfast/lib/python3.13/site-packages

# The build backend is locked too and is called directly, so that this step needs no network.
COPY LICENSE README.md pyproject.toml /src/
COPY fargate/task-definition.json /src/fargate/
COPY src /src/src
WORKDIR /src
RUN /opt/build/bin/hatchling build --target wheel --directory /opt/wheel \
    && pip --python /opt/holdfast/bin/python install --no-compile --no-deps --no-index /opt/wheel/*.whl

# The root file system is read-only at run time, so what is not compiled now would be compiled at every start (7.8 s
# against 18.5 s on a quarter of a CPU). Unchecked hashes spare the comparison with the source, which cannot change.
RUN /opt/holdfast/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/holdfast/lib


FROM python
# The user that runs by default, and a volume that any other user in group 0 can write, as OpenShift wants it.
RUN echo 'holdfast:x:10001:' >>/etc/group \
    && echo 'holdfast:*:10001:10001::/tmp:/usr/sbin/nologin' >>/etc/passwd \
    && install --directory --owner=10001 --group=0 --mode=0770 /data

COPY --from=builder /opt/holdfast /opt/holdfast
COPY entrypoint.sh /usr/local/bin/

# HOME: a user that /etc/passwd does not know would get /, and a read-only root has no other writable place.
# PYTHONUNBUFFERED: the last lines before a SIGKILL are the ones that matter.
# CAIO_IMPL: threads. The default, io_uring, costs more CPU and many sandboxes forbid it; kernel AIO would hold up the
#   event loop while a slow volume answers.
# EXASOL_TELEMETRY_DISABLE: nothing calls home unless its user asks for it.
ENV PATH=/opt/holdfast/bin:$PATH \
    HOME=/tmp \
    FASTMCP_HOME=/data \
    PYTHONUNBUFFERED=1 \
    CAIO_IMPL=thread \
    EXASOL_TELEMETRY_DISABLE=1

VOLUME /data
EXPOSE 8000
USER 10001:10001

# To gunicorn SIGTERM means: finish what is being answered, then stop. SIGINT and SIGQUIT cut it off.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=10s --start-period=60s --retries=3 \
    CMD ["python", "-m", "mcp_holdfast.healthcheck"]

ENTRYPOINT ["entrypoint.sh"]

# Last, because they change with every build and would invalidate all that follows.
ARG VERSION=unknown
ARG REVISION=unknown
ARG CREATED=1970-01-01T00:00:00Z
ARG MCP_SERVER_NAME=io.github.holdfast/holdfast
LABEL org.opencontainers.image.title="Holdfast" \
      org.opencontainers.image.description="Runs an MCP server whose users sign in once" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}" \
      io.modelcontextprotocol.server.name="${MCP_SERVER_NAME}"
