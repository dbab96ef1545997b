# Four images of the same parts: holdfast (the last, and so the default), base without the exasol server, fastmcp4 for
# servers that are made for FastMCP 4, and debug with a shell and tools. docs/image.md tells what is in them and how they
# are built.

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
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/apt /var/log/dpkg.log


FROM python AS builder
# hadolint ignore=DL3008,DL3009
RUN apt-get update \
    && apt-get install --yes --no-install-recommends binutils patch python3-pip python3-venv
# No step may leave bytecode behind that another would then take for its own, or that comes out differently each time.
# PYTHONNODEBUGRANGES: a traceback names the line as ever, but does not underline the expression; a fifth of the bytecode.
ENV PYTHONDONTWRITEBYTECODE=1 \
    PYTHONHASHSEED=0 \
    PYTHONNODEBUGRANGES=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore
# pip stays outside the virtual environments and installs into them, so that it never has to be taken out of the image.
RUN for name in holdfast build; do \
        python3.13 -m venv --without-pip "/opt/$name" && rm "/opt/$name"/bin/?ctivate* || exit 1; \
    done
COPY scripts/compile_modules.py scripts/install-environment.sh scripts/list_wheels.py scripts/prune_packages.py \
    /src/scripts/


# The secret is for networks that inspect TLS: the bundle with their authority is mounted for this step alone.
FROM builder AS wheel
COPY constraints-build.txt /src/
RUN --mount=type=secret,id=ca-bundle /src/scripts/install-environment.sh /src/constraints-build.txt /opt/build
# The build backend is locked too and is called directly, so that this step needs no network.
COPY LICENSE README.md pyproject.toml /src/
COPY fargate/task-definition.json /src/fargate/
COPY src /src/src
WORKDIR /src
RUN /opt/build/bin/python -m hatchling build --target wheel --directory /wheel


FROM builder AS packages-base
COPY constraints-base.txt /src/
RUN --mount=type=secret,id=ca-bundle /src/scripts/install-environment.sh /src/constraints-base.txt /opt/holdfast


FROM packages-base AS packages
COPY constraints.txt /src/
RUN --mount=type=secret,id=ca-bundle /src/scripts/install-environment.sh /src/constraints.txt /opt/holdfast


FROM builder AS packages-fastmcp4
COPY constraints-fastmcp4.txt /src/
RUN --mount=type=secret,id=ca-bundle /src/scripts/install-environment.sh /src/constraints-fastmcp4.txt /opt/holdfast


# What these have of Debian differs by the shared libraries that their packages are linked with.
FROM packages-base AS system-base
COPY scripts/root_file_system.py /src/scripts/
RUN /src/scripts/root_file_system.py /tree /opt/holdfast


FROM packages AS system
COPY scripts/root_file_system.py /src/scripts/
RUN /src/scripts/root_file_system.py /tree /opt/holdfast


FROM packages-fastmcp4 AS system-fastmcp4
COPY scripts/root_file_system.py /src/scripts/
RUN /src/scripts/root_file_system.py /tree /opt/holdfast


FROM packages-base AS environment-base
COPY patches /src/patches
COPY entrypoint.sh /src/
COPY scripts/apply-patches.sh scripts/install-holdfast.sh /src/scripts/
COPY --from=wheel /wheel /src/wheel
RUN /src/scripts/install-holdfast.sh /tree


FROM packages AS environment
COPY patches /src/patches
COPY entrypoint.sh /src/
COPY scripts/apply-patches.sh scripts/install-holdfast.sh /src/scripts/
COPY --from=wheel /wheel /src/wheel
RUN /src/scripts/install-holdfast.sh /tree


FROM packages-fastmcp4 AS environment-fastmcp4
COPY patches /src/patches
COPY entrypoint.sh /src/
COPY scripts/apply-patches.sh scripts/install-holdfast.sh /src/scripts/
COPY --from=wheel /wheel /src/wheel
RUN /src/scripts/install-holdfast.sh /tree


FROM python AS system-debug
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends curl less procps strace \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/ldconfig/* /var/log/apt /var/log/dpkg.log \
    # Nothing here changes its user, so no program needs to be able to. This also makes no-new-privileges a second lock.
    && find / -xdev -type f -perm /6000 -exec chmod ug-s {} + \
    && echo 'holdfast:*:10001:' >>/etc/group \
    && echo 'holdfast:*:10001:10001::/tmp:/usr/sbin/nologin' >>/etc/passwd \
    && install --directory --owner=10001 --group=0 --mode=0770 /data


FROM scratch AS settings
# HOME: a user that /etc/passwd does not know would get /, and a read-only root has no other writable place.
# PYTHONUNBUFFERED: the last lines before a SIGKILL are the ones that matter.
# CAIO_IMPL: threads. The default, io_uring, costs more CPU and many sandboxes forbid it; kernel AIO would hold up the
#   event loop while a slow volume answers.
# EXASOL_TELEMETRY_DISABLE: nothing calls home unless its user asks for it.
ENV PATH=/opt/holdfast/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
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


# Two layers each, neither of which touches a directory of the other: its date would be that of the build.
FROM settings AS debug
# hadolint ignore=DL3067
COPY --from=system-debug / /
COPY --from=environment /tree /


FROM settings AS base
COPY --from=system-base /tree /
COPY --from=environment-base /tree /


FROM settings AS fastmcp4
COPY --from=system-fastmcp4 /tree /
COPY --from=environment-fastmcp4 /tree /


FROM settings AS holdfast
COPY --from=system /tree /
COPY --from=environment /tree /
