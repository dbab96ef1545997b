# What compose/postgres.yaml needs of the official image, where no registry has that: its user, its directories, and how
# it makes a database. A cluster that Debian's package would make is not wanted.
ARG BASE_IMAGE
FROM ${BASE_IMAGE}
RUN apt-get update && apt-get install --yes --no-install-recommends postgresql-common \
    && echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.conf \
    && apt-get install --yes --no-install-recommends postgresql-17 && rm -rf /var/lib/apt/lists/*
ENV LANG=C.UTF-8 PATH=/usr/lib/postgresql/17/bin:$PATH PGDATA=/var/lib/postgresql/data
RUN install --directory --owner=postgres --group=postgres --mode=1777 "$PGDATA" \
    && install --directory --owner=postgres --group=postgres --mode=3777 /run/postgresql \
    && mkdir /docker-entrypoint-initdb.d
VOLUME /var/lib/postgresql/data
COPY postgres-entrypoint.sh /usr/local/bin/
STOPSIGNAL SIGINT
EXPOSE 5432
ENTRYPOINT ["postgres-entrypoint.sh"]
CMD ["postgres", "-c", "listen_addresses=*"]
