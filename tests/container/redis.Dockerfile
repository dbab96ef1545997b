# What compose/redis.yaml needs of the official image, where no registry has that: its user and its directory.
ARG BASE_IMAGE
FROM ${BASE_IMAGE}
RUN apt-get update && apt-get install --yes --no-install-recommends redis-server redis-tools && rm -rf /var/lib/apt/lists/*
RUN install --directory --owner=redis --group=redis /data
VOLUME /data
WORKDIR /data
EXPOSE 6379
CMD ["redis-server"]
