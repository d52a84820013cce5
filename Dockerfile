# The gateway and the stream worker in one image; docs/deploying.md says how it is run.
#
#   docker build --tag trueclock:0.1.0 .
#   docker build --tag trueclock:0.1.0 --build-arg EXTRAS=cluster,otlp,litellm .
#
# EXTRAS are extras of pyproject.toml: `cluster` is Kafka, `otlp` OpenTelemetry, `litellm` other dialects than OpenAI's.
ARG PYTHON=3.11.14-slim-bookworm

FROM python:${PYTHON} AS build
ARG EXTRAS=cluster,otlp
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY gateway gateway
COPY profiler profiler
COPY stream stream
RUN python -m venv --without-pip /opt/trueclock \
    && python -m pip --python /opt/trueclock/bin/python install --no-cache-dir ".${EXTRAS:+[${EXTRAS}]}" \
    # The profiler is for a checkout: numpy and scipy, which it alone needs, would be most of the image.
    && python -m pip --python /opt/trueclock/bin/python uninstall --yes numpy scipy \
    && rm /opt/trueclock/bin/profiler \
    # What the image is for runs without them, or it is not built.
    && /opt/trueclock/bin/gateway --version \
    && /opt/trueclock/bin/stream worker --help > /dev/null
COPY deploy/healthcheck.py /opt/trueclock/bin/healthcheck
COPY deploy/backup.py /opt/trueclock/bin/trueclock-backup
RUN chmod 0755 /opt/trueclock/bin/healthcheck /opt/trueclock/bin/trueclock-backup

FROM python:${PYTHON}
LABEL org.opencontainers.image.title="trueclock" \
      org.opencontainers.image.description="How long should that LLM call have taken?" \
      org.opencontainers.image.licenses="Apache-2.0"
# The number is what Kubernetes compares with runAsNonRoot; a new volume takes the folder's owner and mode.
RUN groupadd --gid 10001 trueclock \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/trueclock --shell /usr/sbin/nologin trueclock \
    && install --directory --owner 10001 --group 10001 --mode 0700 /var/lib/trueclock
COPY --from=build /opt/trueclock /opt/trueclock
# XDG_DATA_HOME makes /var/lib/trueclock the data directory of every command, `gateway events` too.
ENV PATH=/opt/trueclock/bin:$PATH \
    XDG_DATA_HOME=/var/lib \
    PYTHONDONTWRITEBYTECODE=1
WORKDIR /var/lib/trueclock
USER 10001:10001
VOLUME /var/lib/trueclock
EXPOSE 4000 4001 6066
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s --retries=4 CMD ["healthcheck", "4000"]
# Requests on 4000; page, /metrics and /trueclock on 4001. A container's own network stands before both.
CMD ["gateway", "run", "--host", "0.0.0.0", "--port", "4000", "--admin", "0.0.0.0:4001"]
